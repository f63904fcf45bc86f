from pathlib import Path

import pytest
from bench import builds, compare, counts
from bench.builds import Build
from bench.figures import Figure, Result
from bench.launch import BenchError
from bench.peers import Penstock, Scenario

OURS, THEIRS = Build("this tree", Path("/ours")), Build("base 1234567", Path("/theirs"))


def test_both_builds_and_their_ratio_are_told():
    figures = [Figure(OURS.name, "µs", samples=[8, 18, 9]), Figure(THEIRS.name, "µs", samples=[10, 20, 10])]
    lines = compare.times(Result("P1", "", figures=figures), (OURS, THEIRS))
    assert [" ".join(line.split()) for line in lines] == [
        "this tree 9.00 µs (8.00 .. 18.00)",
        "base 1234567 10.00 µs (10.00 .. 20.00)",
        "ratio 0.900 (95 %: 0.800 .. 0.900; 3 rounds)",
    ]


def test_a_build_that_failed_has_no_ratio():
    lines = compare.times(Result("P1", "", figures=[Figure(OURS.name, "µs", samples=[8])]), (OURS, THEIRS))
    assert len(lines) == 1


def test_an_unknown_row_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as refused:
        compare.run(["HEAD", "--rows", "P13"])
    assert refused.value.code == 2
    assert "no row P13; there are P1, P1+, P2" in capsys.readouterr().err


def test_an_unknown_revision_is_refused_before_anything_is_built():
    with pytest.raises(BenchError, match="no-such-branch is no revision"):
        builds.of_revision("no-such-branch")


def test_a_build_as_released_needs_what_training_wrote(tmp_path, monkeypatch):
    monkeypatch.setattr(builds, "ROOT", tmp_path)
    monkeypatch.setattr(builds, "PROFILE", tmp_path / "target" / "penstock.profdata")
    with pytest.raises(BenchError, match=r"target/penstock\.profdata is not there: make profile writes it"):
        builds.of_release()


def test_a_build_is_imported_from_its_own_folder_and_run_as_it_is_asked(tmp_path):
    assert "PYTHONPATH=/ours" in Penstock(OURS).prepare(tmp_path, 1, 2, Scenario())
    assert not any("PYTHONPATH" in word for word in Penstock().prepare(tmp_path, 1, 2, Scenario()))
    command = Penstock(OURS, counts.CALLGRIND).prepare(tmp_path, 1, 2, Scenario())
    words = ["env", "--unset=PYTHONDONTWRITEBYTECODE", "PYTHONPATH=/ours", *counts.CALLGRIND]
    assert command[: len(words)] == words


def test_the_table_of_strace_is_read_without_its_sum():
    table = "     calls syscall\n---------- ----------------\n       200 recvfrom\n         3 epoll_wait\n"
    assert counts.calls_in(table + "---------- ----------------\n       203 total\n") == {
        "recvfrom": 200,
        "epoll_wait": 3,
    }


def test_the_sums_of_callgrind_are_read_by_event(tmp_path):
    dump = tmp_path / "callgrind.out.1"
    dump.write_text("version: 1\nevents: Ir Dr I1mr\nfn=(1) x\n1 2 3 4\ntotals: 123456 70 8\n")
    assert counts.sums_in(dump) == {"Ir": 123456, "Dr": 70, "I1mr": 8}
    dump.write_text("version: 1\nevents: Ir\n")
    with pytest.raises(BenchError, match="no sums"):
        counts.sums_in(dump)
