import pytest
from bench import wrk
from bench.launch import BenchError

REPORT = """Running 2s test @ http://127.0.0.1:7002/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   795.09us  313.79us   3.76ms   77.22%
    Req/Sec    64.41k     8.75k   74.31k    55.00%
  Latency Distribution
     50%  729.00us
     75%    0.94ms
     90%    1.19ms
     99%    1.83ms
  128211 requests in 2.00s, 30.20MB read
Requests/sec:  64015.88
Transfer/sec:     15.08MB
"""
TROUBLE = "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n"


def test_a_report_is_read():
    load = wrk.parse(REPORT)
    assert (load.requests, load.seconds, load.p50_us, load.p99_us) == (128211, 2.0, 729.0, 1830.0)
    assert load.rate == pytest.approx(64105.5)
    assert (load.wrong_status, load.socket_errors) == (0, 0)


def test_trouble_is_counted():
    load = wrk.parse(REPORT + TROUBLE)
    assert (load.wrong_status, load.socket_errors) == (5, 10)


def test_minutes_are_understood():
    assert wrk.parse("  10 requests in 1.50m, 1MB read").seconds == 90.0


def test_nonsense_is_refused():
    with pytest.raises(BenchError, match="unable to connect"):
        wrk.parse("unable to connect")
