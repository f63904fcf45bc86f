"""P3: a JSON record of every request, in a file."""

import json
from pathlib import Path

from bench import check
from bench.contest import Contender, contest
from bench.figures import Result
from bench.launch import wait_settled, wait_until
from bench.peers import HAProxy, Nginx, Peer, Penstock, Scenario
from bench.stand import Running, Stand

# Requests of the check; each asks for a path of its own.
CHECKED = 100
# Records are written in batches: this long may the last of them take.
PATIENCE = 10.0
# Longer than any peer keeps a record back.
FLUSHED = 1.3
BUFFERED = "buffer of 64k"


def access_log(stand: Stand) -> Result:
    """P3: the cost of a request with its record, against nginx that keeps one too."""
    result = Result("P3", "The same with a JSON access log to a file")
    contest(
        stand,
        result,
        [
            Contender(Penstock(), variant="no log"),
            logging(stand, Penstock()),
            logging(stand, Nginx()),
            # nginx's default writes each record by itself; collecting them is what its users turn on for speed.
            logging(stand, Nginx("buffer=64k flush=1s"), BUFFERED),
            logging(stand, HAProxy()),
        ],
    )
    ours = result.find("penstock")
    result.compare(ours, result.find("nginx"), "nginx", 0.85)
    result.compare(ours, result.find("nginx", BUFFERED), f"nginx, {BUFFERED}")
    result.compare(ours, result.find("haproxy"), "haproxy")
    result.compare(ours, result.find("penstock", "no log"), "penstock, no log")
    return result


def logging(stand: Stand, peer: Peer, variant: str = "") -> Contender:
    """A peer that keeps a record, counted after each load."""

    def after(running: Running, requests: int) -> None:
        _count(running.access_log, requests, stand.settings.connections)

    return Contender(peer, Scenario(access_log=True), variant, right=_right, after=after)


def _right(running: Running) -> None:
    """Every request leaves exactly one line, a JSON object with its path and status."""
    check.plain(running.port)
    log = running.access_log
    connection = check.connect(running.port)
    for number in range(CHECKED):
        check.ask(connection, f"/record-{number}?")
    connection.close()

    def records() -> list[str]:
        return [line for line in _lines(log) if "/record-" in line]

    wait_until(lambda: len(records()) >= CHECKED, PATIENCE, f"{CHECKED} records in the access log")
    found = [json.loads(line) for line in records()]
    check.expect(len(found) == CHECKED, f"{len(found)} records of {CHECKED} requests")
    for number, record in enumerate(found):
        text = json.dumps(record)
        check.expect(f"/record-{number}" in text and "200" in text, f"record {number} lacks its path or status")
    wait_settled(lambda: log.stat().st_size, slack=0, quiet=FLUSHED, least=FLUSHED, longest=PATIENCE)
    _empty(log)


def _count(log: Path, requests: int, connections: int) -> None:
    """After a load: a line for every request; those that wrk gave up at its end may have left one too."""

    def enough() -> bool:
        return _line_count(log) >= requests

    wait_until(enough, PATIENCE, f"{requests} records in the access log", pause=0.1)
    # Records of requests that wrk gave up come late; they must not be counted with the next load.
    wait_settled(lambda: log.stat().st_size, slack=0, quiet=FLUSHED, least=FLUSHED, longest=PATIENCE)
    lines = _line_count(log)
    check.expect(lines <= requests + connections, f"{lines} records of {requests} requests")
    _empty(log)


def _lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def _line_count(log: Path) -> int:
    with log.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def _empty(log: Path) -> None:
    # Every peer appends, so what it writes next starts the file anew.
    with log.open("r+b") as file:
        file.truncate(0)
