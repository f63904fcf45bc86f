import pytest
from bench import machine, readme, report
from bench.__main__ import run
from bench.figures import Figure, Result
from bench.launch import BenchError
from bench.peers import HAProxy, Nginx, Penstock, Scenario
from bench.rows.latency import report_of

FACTS = {
    "cores": 2,
    "processor": "a processor",
    "kernel": "6.1",
    "date": "2026-01-01",
    "versions": {"nginx": "1.22", "null relay": "of this tree"},
}


@pytest.fixture
def whole() -> report.Whole:
    result = Result("P1", "A request", absent={"haproxy": "not installed"}, failures={"null relay": "wrong body"})
    result.figures = [Figure("penstock", "µs", samples=[8, 9, 7]), Figure("nginx", "µs", samples=[10, 10, 10])]
    result.compare(result.find("penstock"), result.find("nginx"), "nginx", 0.78)
    return {"machine": FACTS, "rows": [result.as_json()]}


def test_the_table_names_what_is_absent_failed_and_missed(whole):
    text = report.table(whole)
    assert "absent: not installed" in text
    assert "FAILED: wrong body" in text
    assert "to nginx: 0.80 × (target ≤ 0.78 ×: MISSED)" in text


def test_the_readme_table_is_made_from_the_results(whole):
    text = readme.markdown(whole)
    assert (
        "| P1 | A request, µs | 8.00 | 10.0 | absent | null relay: failed | to nginx: 0.80 (≤ 0.78 ×, **missed**) |"
        in text
    )
    assert text.endswith("2 cores (a processor), Linux 6.1, 2026-01-01; nginx 1.22.")


def test_only_what_is_between_the_markers_changes():
    page = f"before\n{readme.START}\nold\n{readme.END}\nafter\n"
    assert readme.replaced(page, "new") == f"before\n{readme.START}\nnew\n{readme.END}\nafter\n"
    with pytest.raises(ValueError, match="bench:start"):
        readme.replaced("no markers", "new")


@pytest.mark.parametrize(
    ("value", "text"), [(0.784, "0.78"), (10.02, "10.0"), (153.4, "153"), (26269.0, "26 269"), (-12.0, "-12.0")]
)
def test_numbers_have_the_digits_they_deserve(value, text):
    assert report.number(value) == text


def test_an_unknown_row_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as refused:
        run(["--rows", "P1,P99"])
    assert refused.value.code == 2
    assert "no row P99; there are P1, P1+, P2" in capsys.readouterr().err


def test_a_paced_run_with_failures_is_refused():
    assert report_of('{"requests": 10, "failed": 0, "p50_us": 1.5}')["p50_us"] == 1.5
    with pytest.raises(BenchError, match="1 of 10"):
        report_of('{"requests": 10, "failed": 1}')


def test_the_processor_is_the_first_model_name():
    assert machine.processor("flags: x\nmodel name\t: A  Thing 7\nmodel name\t: B\n") == "A Thing 7"


def test_the_late_route_is_the_last_and_the_only_one_with_filters(tmp_path):
    text = Penstock().configuration(tmp_path, 1, 2, Scenario(routes=3, edits=True, health_check=True))
    assert text.count("[[routes]]") == 3
    assert text.count("filters") == 1
    assert text.index('path.startswith("/service-00002/")') < text.index("filters") < text.index("strip_prefix")
    assert "health_check" in text


def test_logs_are_off_unless_the_row_asks(tmp_path):
    for peer, word in ((Nginx(), "log_format"), (HAProxy(), "log-format"), (Penstock(), "log.access")):
        for wanted in (False, True):
            peer.prepare(tmp_path, 1, 2, Scenario(access_log=wanted))
            written = "".join(file.read_text() for file in tmp_path.iterdir())
            assert (word in written) == wanted
        for file in tmp_path.iterdir():
            file.unlink()
