import pytest
from bench.figures import Figure, Result, Verdict, better, interval, ratio


def figure(peer: str, *samples: float, variant: str = "") -> Figure:
    return Figure(peer, "µs", variant, list(samples))


def test_the_middle_is_the_median():
    assert figure("a", 9, 1, 2).middle == 2
    assert figure("a").middle is None


def test_the_ratio_is_taken_round_by_round():
    # The second round ran on a machine at half its speed: ratios of medians would say 1.0.
    assert ratio(figure("a", 8, 16, 8), figure("b", 10, 20, 8)) == pytest.approx(0.8)


def test_without_a_peer_there_is_no_ratio():
    assert ratio(figure("a", 1), None) is None
    assert ratio(figure("a", 1), figure("b")) is None
    assert ratio(figure("a", 1), figure("b", 0)) is None


def test_a_verdict_compares_what_is_printed():
    assert Verdict("x", 0.784, 0.78).met is True
    assert Verdict("x", 0.786, 0.78).met is False
    assert Verdict("x", None, 0.78).met is None
    assert Verdict("x", 0.9).met is None


def test_the_better_of_two_is_the_lower_and_may_be_alone():
    low, high = figure("low", 1, 2), figure("high", 3)
    assert better(high, low, None) is low
    assert better(None, figure("empty")) is None


def test_a_wide_spread_is_called_noisy():
    assert figure("a", 10, 12).noisy
    assert figure("a", -1, 1).noisy
    assert not figure("a", 10, 11).noisy
    assert not figure("a", 10).noisy


def test_json_holds_samples_summary_and_medians_of_what_was_seen_beside():
    one = figure("a", 3, 1, 2.00049)
    one.observe(rate=1)
    one.observe(rate=3)
    whole = one.as_json()
    assert (whole["median"], whole["low"], whole["high"], whole["beside"]) == (2.0, 1, 3, {"rate": 2})


def test_a_result_finds_only_what_was_measured():
    result = Result("P1", "title", figures=[figure("a"), figure("b", 1, variant="v")])
    assert result.find("a") is None
    assert result.find("b") is None
    assert result.find("b", "v") is not None
    result.compare(None, result.find("b", "v"), "b", 1.0)
    assert result.as_json()["verdicts"] == [{"what": "to b", "value": None, "limit": 1.0, "unit": "×", "met": None}]


def test_the_interval_of_a_median_is_found_by_counting():
    # The tables of the sign test: of 15 samples, the 4th and the 12th.
    assert interval([15, *range(1, 15)]) == (8, 4, 12)
    assert interval([float(number) for number in range(1, 21)]) == (10.5, 6, 15)


def test_few_samples_tell_nothing_but_themselves():
    assert interval([3, 1, 2]) == (2, 1, 3)
    assert interval([7]) == (7, 7, 7)


def test_an_excess_is_taken_round_by_round_and_has_its_unit():
    result = Result("JSON", "x")
    result.exceed(Figure("a", "CPU-µs/request", "", [12, 25, 13]), figure("b", 10, 20, 10), "b", 3.0)
    result.exceed(None, figure("b", 1), "b", 3.0)
    first, second = result.verdicts
    assert (first.what, first.value, first.unit, first.met) == ("more than b", 3, "CPU-µs", True)
    assert (second.value, second.met) == (None, None)
