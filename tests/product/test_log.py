"""The access log: one record for each request, every field, nothing that could break a line, reopened on USR1."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.load.origin import EchoOrigins
from tests.product.terminal import ROOT
from tests.product.waiting import wait_for
from tests.wire.peers import Refusal, ShortFolder, connect

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.wire.peers import Address

# Bytes that a client may send in a field and that could end a field or a line of a log.
AGENT = b'a "quoted" \\ back\tslash \xe4\xff'
REQUESTS = {
    "plain": b"GET /a?b=c HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: curl/8\r\nReferer: http://x.example/\r\n\r\n",
    "body": b"POST /form HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\n\r\nhello",
    "escapes": b"GET /%0d%0aX%22 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: " + AGENT + b"\r\n\r\n",
    "no route": b"GET /none HTTP/1.1\r\nHost: shop.example\r\n\r\n",
    "dead": b"GET /dead HTTP/1.1\r\nHost: shop.example\r\n\r\n",
    "terminal": b"GET /\x1b]0;x HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: \x1b[31m\r\n\r\n",
    "bad": b"GET /bad HTTP/1.1\r\nHost: shop.example\r\nContent-Length: x\r\n\r\n",
}
STATUSES = {"plain": 200, "body": 200, "escapes": 200, "no route": 404, "dead": 502, "terminal": 400, "bad": 400}
COMBINED = re.compile(
    r"^(?P<client>\S+) - (?P<user>\S+) \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "
    r'"(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?P<bytes>\d+|-) '
    r'"(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"$'
)
HAPROXY = re.compile(
    r"(?P<client>\S+) \[(?P<time>[^\]]+)\] (?P<listener>\S+) (?P<server>\S+/\S+) "
    r"(?P<timers>-?\d+/-?\d+/-?\d+/-?\d+/\+?-?\d+) (?P<status>\d{3}) \+?(?P<bytes>\d+) \S+ \S+ (?P<flags>\S{4}) "
    r'(?P<counts>[\d+/]+) (?P<queues>\d+/\d+) (?:\{[^}]*\} )*"(?P<request>.*)"$'
)

# Parts of a documented line that may hold what ends others.
QUOTED = r'(?:[^"\\]|\\.)*'
PARTS = {"time": "[^]]+", "request": QUOTED, "referer": QUOTED, "user_agent": QUOTED, "queues": r"\d+/\d+"}


def _config(log: Path, format_name: str, origin: str, refusal: str, bind: str = "127.0.0.1:0") -> dict[str, Any]:
    return {
        "listeners": {"web": {"bind": bind}},
        "upstreams": {"app": {"endpoints": [origin]}, "gone": {"endpoints": [refusal]}},
        "routes": [
            {"name": "dead", "match": 'path == "/dead"', "upstream": "gone"},
            {"name": "app", "match": 'path != "/none"', "upstream": "app"},
        ],
        "engine": {"workers": 1},
        "log": {"access": {"format": format_name, "to": str(log)}},
    }


@pytest.fixture(scope="module")
def peers() -> Iterator[tuple[str, str]]:
    """An endpoint that answers and one that refuses."""
    refusal = Refusal()
    with EchoOrigins("echo") as origins:
        yield origins.address, refusal.address
    refusal.close()


def _ask(address: Address, request: bytes) -> bytes:
    client = connect(address)
    client.send(request)
    client.half_close()
    client.read_until(lambda _: False)
    client.close()
    return bytes(client.received)


def _logged(folder: Path, format_name: str, peers: tuple[str, str]) -> list[str]:
    log = folder / "access.log"
    with penstock.Proxy(_config(log, format_name, *peers)) as proxy:
        for name, request in REQUESTS.items():
            assert _ask(proxy.address("web"), request).startswith(b"HTTP/1.1 %d " % STATUSES[name]), name
    text = log.read_bytes().decode("utf-8")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", text)
    lines = text.split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(REQUESTS)
    return lines


@pytest.mark.safety(146)
def test_json(tmp_path: Path, peers: tuple[str, str]) -> None:
    records = dict(zip(REQUESTS, map(json.loads, _logged(tmp_path, "json", peers)), strict=True))
    assert {name: record["status"] for name, record in records.items()} == STATUSES
    plain, dead, bad = records["plain"], records["dead"], records["bad"]
    assert (plain["method"], plain["host"], plain["target"]) == ("GET", "shop.example", "/a?b=c")
    assert (plain["listener"], plain["route"], plain["upstream"], plain["endpoint"]) == ("web", "app", "app", peers[0])
    assert (plain["client"], plain["version"], plain["retries"], plain["reused"]) == ("127.0.0.1", "1.1", 0, False)
    assert records["body"]["reused"]
    assert plain["user_agent"] == "curl/8"
    assert records["body"]["bytes_in"] >= 5
    assert plain["bytes_out"] > 0
    assert [records[name]["outcome"] for name in REQUESTS] == [
        "ok",
        "ok",
        "ok",
        "proxy_error",
        "upstream_error",
        "refused",
        "refused",
    ]
    assert (dead["cause"], bad["cause"]) == ("connect_refused", "bad_content_length")
    assert (plain["cause"], records["no route"]["cause"]) == ("", "no_route")
    assert records["escapes"]["user_agent"] == AGENT.decode("latin-1")
    assert records["escapes"]["target"] == "/%0d%0aX%22"


def test_json_times(tmp_path: Path, peers: tuple[str, str]) -> None:
    records = dict(zip(REQUESTS, map(json.loads, _logged(tmp_path, "json", peers)), strict=True))
    plain = records["plain"]
    assert 0 < plain["connect_ms"] <= plain["first_byte_ms"] <= plain["total_ms"]
    assert records["body"]["connect_ms"] == 0  # a connection of the pool
    assert records["dead"]["first_byte_ms"] is None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", plain["time"])


@pytest.mark.parametrize(("format_name", "cut"), [("json", 2), ("combined", 2), ("haproxy", 1)])
def test_what_a_client_sends_is_cut_in_the_log_and_marked(
    tmp_path: Path, peers: tuple[str, str], format_name: str, cut: int
) -> None:
    log, long = tmp_path / "access.log", b"y" * 7000
    with penstock.Proxy(_config(log, format_name, *peers)) as proxy:
        request = b"GET /%b HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: %b\r\n\r\n" % (long, long)
        assert _ask(proxy.address("web"), request).startswith(b"HTTP/1.1 200 ")
    (line,) = log.read_text("utf-8").splitlines()
    assert line.count("y[cut]") == cut
    assert len(line) < 2048 * cut + 1000
    if format_name == "json":
        assert (len(json.loads(line)["target"]), len(json.loads(line)["user_agent"])) == (2053, 2053)


def test_every_request_has_an_id_in_the_log_also_a_refused_one(tmp_path: Path, peers: tuple[str, str]) -> None:
    records = [json.loads(line) for line in _logged(tmp_path, "json", peers)]
    assert len({record["request_id"] for record in records}) == len(REQUESTS)


@pytest.mark.safety(146)
def test_combined(tmp_path: Path, peers: tuple[str, str]) -> None:
    lines = _logged(tmp_path, "combined", peers)
    records = dict(zip(REQUESTS, [COMBINED.match(line) for line in lines], strict=True))
    assert all(records.values()), lines
    plain = records["plain"]
    assert plain is not None
    assert (plain["client"], plain["user"], plain["request"], plain["referer"], plain["agent"]) == (
        "127.0.0.1",
        "-",
        "GET /a?b=c HTTP/1.1",
        "http://x.example/",
        "curl/8",
    )
    assert {name: int(record["status"]) for name, record in records.items() if record} == STATUSES


def test_combined_counts_the_bytes_of_the_body_alone(tmp_path: Path, peers: tuple[str, str]) -> None:
    plain = COMBINED.match(_logged(tmp_path, "combined", peers)[0])
    assert plain is not None
    assert int(plain["bytes"]) == len("GET /a?b=c - - echo\n")


@pytest.mark.safety(146)
def test_haproxy(tmp_path: Path, peers: tuple[str, str]) -> None:
    lines = _logged(tmp_path, "haproxy", peers)
    records = dict(zip(REQUESTS, [HAPROXY.search(line) for line in lines], strict=True))
    assert all(records.values()), lines
    plain, dead = records["plain"], records["dead"]
    assert plain is not None
    assert dead is not None
    assert plain["client"].startswith("127.0.0.1:")
    assert plain["listener"] == "web"
    assert plain["server"] == f"app/{peers[0]}"
    assert plain["request"] == "GET /a?b=c HTTP/1.1"
    assert plain["flags"] == "----"
    assert dead["flags"].startswith("SC")  # the server refused, while connecting
    assert {name: int(record["status"]) for name, record in records.items() if record} == STATUSES


def _documented(format_name: str) -> str:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    return page.partition("## The access log")[2].partition(f"### {format_name}\n")[2].partition("\n##")[0]


def test_every_field_of_json_is_documented_in_its_order(tmp_path: Path, peers: tuple[str, str]) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (yes)? ?\|", _documented("json"), re.MULTILINE)
    records = dict(zip(REQUESTS, map(json.loads, _logged(tmp_path, "json", peers)), strict=True))
    for name in ("terminal", "bad"):
        assert list(records.pop(name)) == [name for name, refused in rows if refused]
    for record in records.values():
        assert list(record) == [name for name, _ in rows]


@pytest.mark.parametrize("format_name", ["combined", "haproxy"])
def test_every_field_of_a_line_is_documented(tmp_path: Path, peers: tuple[str, str], format_name: str) -> None:
    section = _documented(format_name)
    template = section.partition("```text\n")[2].partition("\n```")[0]
    rows = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    explained = [word for row in rows for word in re.findall(r"`(\w+)`", row)]
    assert sorted(re.findall(r"\{(\w+)\}", template)) == sorted(explained)
    form = re.sub(r"\\{(\w+)\\}", lambda name: f"(?P<{name[1]}>{PARTS.get(name[1], r'[^ /]*')})", re.escape(template))
    for line in _logged(tmp_path, format_name, peers):
        assert re.fullmatch(form, line), f"{line}\n{form}"


def test_a_request_that_the_client_gave_up_is_recorded(tmp_path: Path, peers: tuple[str, str]) -> None:
    log = tmp_path / "access.log"
    with penstock.Proxy(_config(log, "json", *peers)) as proxy:
        client = connect(proxy.address("web"))
        client.send(b"POST /form HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 10\r\n\r\nhello")
        client.reset()
        wait_for(lambda: log.exists() and log.read_bytes().count(b"\n") == 1, "the record is written")
    assert "client_closed" in log.read_text(encoding="utf-8")


def test_records_under_load_are_whole_and_none_is_missing(tmp_path: Path, peers: tuple[str, str]) -> None:
    log = tmp_path / "access.log"
    with penstock.Proxy(_config(log, "json", *peers)) as proxy:
        many = b"".join(b"GET /%d HTTP/1.1\r\nHost: shop.example\r\n\r\n" % number for number in range(3000))
        assert _ask(proxy.address("web"), many).count(b"HTTP/1.1 200 ") == 3000
    paths = [json.loads(line)["target"] for line in log.read_text(encoding="utf-8").splitlines()]
    assert paths == [f"/{number}" for number in range(3000)]


def test_usr1_reopens_the_file(tmp_path: Path, peers: tuple[str, str]) -> None:
    log = tmp_path / "access.log"
    with ShortFolder() as folder:
        listening = folder.path / "web.sock"
        file = tmp_path / "penstock.json"
        file.write_text(json.dumps(_config(log, "combined", *peers, bind=f"unix:{listening}")), encoding="utf-8")
        running = subprocess.Popen([sys.executable, "-m", "penstock", "run", "-c", file])
        try:
            wait_for(listening.exists, "penstock listens")
            _ask(str(listening), REQUESTS["plain"])
            wait_for(lambda: log.read_bytes().count(b"\n") == 1, "the first record is written")
            moved = log.rename(tmp_path / "access.log.1")
            running.send_signal(signal.SIGUSR1)
            wait_for(log.exists, "a new file is made")
            _ask(str(listening), REQUESTS["body"])
            wait_for(lambda: log.read_bytes().count(b"\n") == 1, "the second record is written")
            assert b"/a?b=c" in moved.read_bytes()
            assert b"/form" in log.read_bytes()
        finally:
            running.terminate()
            assert running.wait(10) == 0


@pytest.mark.parametrize(("format_name", "kept"), [("json", 2), ("combined", 2), ("haproxy", 1)])
def test_queries_are_left_out_where_they_are_nobodys(
    tmp_path: Path, peers: tuple[str, str], format_name: str, kept: int
) -> None:
    settings = _config(tmp_path / "access.log", format_name, *peers)
    request = b"GET /a?secret=b?c HTTP/1.1\r\nHost: a\r\nReferer: http://a/of?secret=d\r\n\r\n"
    for query in (True, False):
        settings["log"]["access"]["query"] = query
        with penstock.Proxy(settings) as proxy:
            _ask(proxy.address("web"), request)
    with_query, without = (tmp_path / "access.log").read_text().splitlines()
    assert (with_query.count("secret="), without.count("secret=")) == (kept, 0)
    assert "/a?secret=b?c" in with_query
    assert re.search(r"/a[ \"]", without)
    assert ('http://a/of"' in without) is (kept > 1)
