import os

from bench import usage
from bench.usage import Usage


def test_schedstats_of_all_threads_are_added_up():
    assert usage.sum_schedstats(["1000 20 3\n", "500 5 1\n"]) == (1500, 25)
    assert usage.sum_schedstats([]) == (0, 0)


def test_a_name_with_brackets_and_spaces_does_not_shift_the_fields():
    stat = "42 (a b) c)) S 7 1 1 0 -1 0 0 0 0 0 13 4 0 0 20 0 1 0 100 0 0"
    assert usage.ticks_of(stat) == 17
    assert usage.parent_of(stat) == 7


def test_a_process_that_is_gone_counts_nothing():
    assert usage.ticks_of("") == 0
    assert usage.read_usage(2**22 + 1).cpu_ns == 0


def test_what_was_spent_is_the_difference_of_the_exact_clocks():
    spent = usage.spent(Usage(1_000, 10, 0), Usage(5_000, 40, 0))
    assert (spent.cpu_ns, spent.waiting_ns, spent.threads_ended) == (4_000, 30, False)


def test_when_a_thread_has_ended_the_ticks_are_the_truth():
    before = Usage(0, 0, 0)
    spent = usage.spent(before, Usage(1_000_000_000, 0, 2_000_000_000))
    assert (spent.cpu_ns, spent.threads_ended) == (2_000_000_000, True)


def test_our_own_usage_grows_and_has_memory():
    before = usage.read_usage(os.getpid())
    sum(range(300_000))
    assert usage.read_usage(os.getpid()).cpu_ns > before.cpu_ns
    assert usage.memory(os.getpid()) > 1_000_000


def test_sizes_are_read_in_bytes():
    assert usage.pss_of("Rss:  9 kB\nPss:      12 kB\n") == 12 * 1024
    assert usage.status_bytes("Name: a\nVmHWM:\t 100 kB\n", "VmHWM:") == 100 * 1024
