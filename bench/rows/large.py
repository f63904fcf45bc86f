"""P12: large bodies, both ways: CPU time of a transfer, and the memory that a stream may take."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial

from bench import bulk, check, usage
from bench.contest import TROUBLE, say
from bench.figures import Figure, Result, Verdict
from bench.launch import wait_settled
from bench.peers import ALL, NullRelay, Penstock, Scenario
from bench.stand import Running, Stand

MB = 1_000_000
# The check compares byte by byte; not a whole number of anybody's buffers.
CHECKED = 3 * MB + 17
TRANSFERS = 2
# Streams that stand still at once: enough that what is not theirs does not count.
STREAMS = 16
# The origin's wait must outlast the filling of the streams and the look at the memory.
STALL_MS = 6_000
WAYS = ("download", "upload")
# Rounds over TLS and HTTP/2, of those in clear: one in so many.
SHARE = 3


class Transport(ABC):
    """How clients send and get large bodies."""

    name: str
    """Told behind each way; in clear it is not."""

    def __init__(self, stand: Stand) -> None:
        """For this stand."""
        self.length = stand.settings.large_bytes
        self.certificate = stand.certificate if self.scenario(stand).tls else None
        self.body = stand.folder / "large.body"
        with self.body.open("wb") as body:
            body.truncate(self.length)

    @abstractmethod
    def scenario(self, stand: Stand) -> Scenario:
        """What peers are to do."""

    def variant(self, way: str) -> str:
        """What a figure is called."""
        return f"{way}, {self.name}" if self.name else way

    def check(self, running: Running) -> None:
        """Bodies arrive whole and unchanged."""
        check.large(running.port, CHECKED, self.certificate)

    def transfer(self, way: str, running: Running) -> None:
        """One body."""
        one = bulk.download if way == "download" else bulk.upload
        one(running.port, self.length, self.certificate)

    def stall(self, way: str, running: Running) -> AbstractContextManager[None]:
        """Many bodies that nobody takes."""
        if way == "download":
            return bulk.stalled_downloads(running.port, STREAMS, self.length, self.certificate)
        return bulk.stalled_uploads(running.port, STREAMS, self.length, STALL_MS, self.certificate)


class Clear(Transport):
    """HTTP/1.1."""

    name = ""

    def scenario(self, stand: Stand) -> Scenario:
        return Scenario(streaming=True)


class Encrypted(Transport):
    """HTTP/1.1 over TLS."""

    name = "TLS"

    def scenario(self, stand: Stand) -> Scenario:
        return Scenario(streaming=True, tls=stand.certificate)


class Multiplexed(Transport):
    """HTTP/2 over TLS, one stream on each connection."""

    name = "HTTP/2"

    def scenario(self, stand: Stand) -> Scenario:
        return Scenario(streaming=True, http2=True, tls=stand.certificate)

    def check(self, running: Running) -> None:
        check.large_http2(running.port, CHECKED, self.certificate, self.body.with_suffix(".checked"))

    def transfer(self, way: str, running: Running) -> None:
        if way == "download":
            bulk.download_http2(running.port, self.length, self.certificate)
        else:
            bulk.upload_http2(running.port, self.length, self.certificate, self.body)

    def stall(self, way: str, running: Running) -> AbstractContextManager[None]:
        if way == "download":
            return bulk.stalled_downloads_http2(running.port, STREAMS, self.length, self.certificate)
        return bulk.stalled_uploads_http2(running.port, STREAMS, self.certificate, self.body, STALL_MS)


def large_bodies(stand: Stand) -> Result:
    """P12: every peer passes bodies on as they come."""
    result = Result("P12", f"Large body ({stand.settings.large_bytes // MB} MB), passed on unbuffered")
    transports = [Clear(stand), Encrypted(stand), Multiplexed(stand)]
    for transport in transports:
        _measure(stand, result, transport)
    for transport in transports:
        for way in (transport.variant(way) for way in WAYS):
            result.compare(result.find("penstock", way), result.find("nginx", way), f"nginx, {way}", 1.0)
            result.compare(result.find("penstock", way), result.find("haproxy", way), f"haproxy, {way}")
    for transport in transports:
        for way in (transport.variant(way) for way in WAYS):
            ours = result.find(Penstock.name, f"{way}, memory")
            result.verdicts.append(Verdict(f"{way}, memory a stream", ours.middle if ours else None, 1.0, "MB"))
    return result


def _measure(stand: Stand, result: Result, transport: Transport) -> None:
    rounds = -(-stand.settings.rounds // SHARE) if transport.name else stand.settings.rounds
    with ExitStack() as stack:
        running = _start(stand, result, transport, stack)
        for round_ in range(rounds):
            say(f"P12 {transport.name} round {round_ + 1}/{rounds}")
            for name, one in running.items():
                _attempt(result, transport, name, partial(_transfers, result, transport, name, one))
        for name, one in running.items():
            say(f"P12 {transport.name} memory: {name}")
            _attempt(result, transport, name, partial(_memory, result, transport, name, one))


def _start(stand: Stand, result: Result, transport: Transport, stack: ExitStack) -> dict[str, Running]:
    running = {}
    for peer in ALL:
        if transport.name and isinstance(peer, NullRelay):
            continue
        if missing := peer.absent():
            result.absent[peer.name] = missing
            continue
        try:
            one = stack.enter_context(stand.serving(peer, transport.scenario(stand)))
            transport.check(one)
        except TROUBLE as error:
            result.failures[transport.variant(peer.name)] = str(error)
            continue
        running[peer.name] = one
        unit = f"CPU-ms/{stand.settings.large_bytes // MB} MB"
        result.figures += [Figure(peer.name, unit, transport.variant(way)) for way in WAYS]
    return running


def _attempt(result: Result, transport: Transport, name: str, measure: Callable[[], None]) -> None:
    label = transport.variant(name)
    if label in result.failures:
        return
    try:
        measure()
    except TROUBLE as error:
        result.failures[label] = str(error)


def _transfers(result: Result, transport: Transport, name: str, running: Running) -> None:
    for way in WAYS:
        before = running.usage()
        for _ in range(TRANSFERS):
            transport.transfer(way, running)
        used = usage.spent(before, running.usage())
        wanted = (name, transport.variant(way))
        figure = next(one for one in result.figures if (one.peer, one.variant) == wanted)
        figure.samples.append(used.cpu_ns / TRANSFERS / 1e6)


def _memory(result: Result, transport: Transport, name: str, running: Running) -> None:
    """The more of two: the peak while one stream flows, and the share of one of many that stand still."""
    pid = running.program.pid
    for way in WAYS:
        usage.forget_peak(pid)
        before = usage.resident(pid)
        transport.transfer(way, running)
        flowing = usage.peak(pid) - before
        before = usage.resident(pid)
        with transport.stall(way, running):
            held = wait_settled(lambda: usage.resident(pid), 64 * 1024, quiet=0.5, least=1.0, longest=3.0) - before
        samples = [max(flowing, held / STREAMS, 0) / MB]
        figure = Figure(name, "MB/stream", f"{transport.variant(way)}, memory", samples=samples)
        figure.observe(one_flowing=flowing / MB, each_of_many_stalled=held / STREAMS / MB)
        result.figures.append(figure)
