import pytest
from bench import h2load
from bench.launch import BenchError

REPORT = """finished in 2.00s, 57623.50 req/s, 8.41MB/s
requests: 115247 total, 115311 started, 115247 done, 115247 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 115247 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 16.82MB (17637792) total, 1.10MB (1152470) headers (space savings 95.00%), 14.07MB (14751616) data
"""


def test_a_report_is_read():
    load = h2load.parse(REPORT)
    assert (load.requests, load.wrong_status, load.socket_errors) == (115247, 0, 0)
    assert load.rate == pytest.approx(57623.5)


def test_trouble_is_counted():
    load = h2load.parse(REPORT.replace("0 failed, 0 errored, 0 timeout", "1 failed, 2 errored, 3 timeout"))
    assert load.socket_errors == 6
    assert h2load.parse(REPORT.replace("0 3xx, 0 4xx, 0 5xx", "1 3xx, 2 4xx, 3 5xx")).wrong_status == 6


def test_nonsense_is_refused():
    with pytest.raises(BenchError, match="nothing that can be read"):
        h2load.parse("unable to connect")
