"""Run one case on a stage: perform its steps in order, then see that nothing was said that nobody expected."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.wire.cut import WHOLE
from tests.wire.expect import MORE, MismatchError, Part, compile_lines, substitute
from tests.wire.script import Case, Do, Hear, Say, Step, parse_text, unescape, with_line_end

if TYPE_CHECKING:
    from tests.wire.cut import Cut
    from tests.wire.expect import Names
    from tests.wire.peers import Connection, Origin
    from tests.wire.stage import Stage


GOING_ON = parse_text(
    """\
=== another exchange
client> GET /next HTTP/1.1
client> Host: a
client>
origin< GET /next HTTP/1.1
origin< host: a
origin< {identity}
origin<
origin> HTTP/1.1 204 No Content
origin>
client< HTTP/1.1 204 No Content
client<
"""
)[0].steps


class CaseError(AssertionError):
    """A case that went otherwise than written; the message is the dialogue up to there and the difference."""


Reader = Callable[[tuple[str, ...]], tuple[Part, ...]]
"""How a block of expected lines is read."""


def run_case(case: Case, stage: Stage, cut: Cut = WHOLE, read: Reader = compile_lines) -> None:
    """Perform a case, its bytes cut in one way. Raises `CaseError`."""
    dialogue = Dialogue(case, stage, cut, read)
    try:
        dialogue.perform()
    finally:
        dialogue.clean_up()


def said(case: Case, side: str, names: Names) -> int:
    """How many bytes a side says in a case."""
    steps = [step for step in case.steps if isinstance(step, Say) and side_of(step.actor) == side]
    return sum(len(block_of(step, names)) for step in steps)


def side_of(actor: str) -> str:
    """`client` for every client, `origin` for every endpoint."""
    return "client" if actor.startswith("client") else "origin"


def block_of(step: Say, names: Names) -> bytes:
    """The bytes of what one actor says."""
    block = ""
    for line in step.lines:
        text, ends = with_line_end(substitute(line, names))
        block += unescape(text) + ("\r\n" if ends else "")
    return block.encode("latin-1")


class Dialogue:
    """One case under way."""

    def __init__(self, case: Case, stage: Stage, cut: Cut, read: Reader) -> None:
        self._case, self._stage, self._cut, self._read = case, stage, cut, read
        self._clients: dict[str, Connection] = {}
        self._names = stage.names()
        self._said = {"client": 0, "origin": 0}

    def perform(self) -> None:
        """All steps, then the silence after them."""
        for number, step in enumerate(self._case.steps):
            try:
                self._perform(step)
            except (AssertionError, OSError) as fault:
                raise CaseError(self._report(number, fault)) from None
        try:
            self._stage.watch()
            self._expect_silence()
        except (AssertionError, OSError) as fault:
            raise CaseError(self._report(len(self._case.steps), fault)) from None

    def clean_up(self) -> None:
        """Leave nothing open for the next case."""
        for client in self._clients.values():
            client.close()
        for origin in self._stage.origins.values():
            origin.hang_up()

    def _perform(self, step: Step) -> None:
        if isinstance(step, Say):
            self._say(step)
        elif isinstance(step, Hear):
            for part in self._read(step.lines):
                self._hear(step.actor, part)
        else:
            self._do(step)

    def _say(self, step: Say) -> None:
        side, block = side_of(step.actor), block_of(step, self._names)
        self._connection(step.actor).send(*self._cut.of(side, block, self._said[side]))
        self._said[side] += len(block)

    def _hear(self, actor: str, part: Part) -> None:
        matched = MORE

        def done(received: bytes) -> bool:
            nonlocal matched
            matched = part.match(received, self._names)
            return matched != MORE

        latest = self._origin(actor) if actor in self._stage.origins else None
        if latest is not None:
            connection = latest.read_until(done)
        else:
            connection = self._connection(actor)
            connection.read_until(done)
        if matched == MORE:
            ending = "was reset" if connection.was_reset else "ended"
            raise MismatchError(f"the connection {ending} before this; it had brought {bytes(connection.received)!r}")
        del connection.received[:matched]

    def _do(self, step: Do) -> None:
        if step.verb == "connects":
            self._connect(step.actor, step.words)
        elif step.verb == "goes on":
            self._go_on(step.actor)
        elif step.verb == "accepted":
            count = len(self._origin(step.actor).accept_all())
            assert count == int(step.words), f"{step.actor} has accepted {count} connections, not {step.words}"
        elif step.verb == "got nothing" or (step.verb == "got nothing if uncut" and self._cut is WHOLE):
            self._stage.watch()
            got = _unread(self._origin(step.actor))
            assert not got, f"{step.actor} got {got!r}"
        elif step.verb in ("got no whole request", "got nothing if uncut"):
            self._see_no_whole_request(self._origin(step.actor))
        elif step.verb == "takes":
            connection, count = self._connection(step.actor), int(substitute(step.words, self._names))
            connection.read_until(lambda received: len(received) >= count)
            assert len(connection.received) >= count, f"only {len(connection.received)} bytes came, not {count}"
            del connection.received[:count]
        elif step.verb in ("sees close", "sees end"):
            self._see_end(step)
        else:
            act = {"closes": "close", "half-closes": "half_close", "resets": "reset"}[step.verb]
            getattr(self._connection(step.actor), act)()

    def _go_on(self, actor: str) -> None:
        """Both connections carry another exchange."""
        for step in GOING_ON:
            self._perform(replace(step, actor=actor) if step.actor == "client" else step)

    def _see_end(self, step: Do) -> None:
        connection = self._connection(step.actor)
        connection.read_until(bool)
        assert not connection.received, f"bytes instead of the end: {bytes(connection.received)!r}"
        assert step.verb == "sees close" or not connection.was_reset, "a reset instead of a clean end"

    @staticmethod
    def _see_no_whole_request(origin: Origin) -> None:
        for connection in origin.accept_all():
            connection.read_until(lambda _: False)
            assert not connection.received.endswith(b"0\r\n\r\n"), "the origin got the last chunk"
            connection.received.clear()

    def _connect(self, actor: str, words: str) -> Connection:
        given = words.split()
        wanted = dict(zip(given[::2], given[1::2], strict=True))
        client = self._stage.connect(wanted.get("to", next(iter(self._stage.config["listeners"]))), wanted.get("from"))
        self._clients[actor] = client
        local = client.sock.getsockname()
        host, port = local if isinstance(local, tuple) else ("", "")
        self._names |= {f"{actor}.ip": str(host), f"{actor}.port": str(port)}
        return client

    def _connection(self, actor: str) -> Connection:
        if actor.startswith("client"):
            return self._clients.get(actor) or self._connect(actor, "")
        origin = self._origin(actor)
        if actor in self._stage.origins:
            return origin.connections[-1] if origin.connections else origin.connection(1)
        return origin.connection(int(actor[-1]))

    def _origin(self, actor: str) -> Origin:
        origin = self._stage.origins.get(actor) or self._stage.origins.get(actor.rstrip("123456789"))
        if origin is None:
            raise ValueError(f"{actor!r} is no endpoint of this configuration ({', '.join(self._stage.origins)})")
        return origin

    def _expect_silence(self) -> None:
        for name, origin in self._stage.origins.items():
            got = _unread(origin)
            assert not got, f"at the end, {name} had got bytes that no step expects: {got!r}"
        for name, client in self._clients.items():
            got = b"" if client.ended else client.read_what_is_there()
            unread = got or bytes(client.received)
            assert not unread, f"at the end, {name} had got bytes that no step expects: {unread!r}"

    def _report(self, failed: int, fault: BaseException) -> str:
        case = self._case
        lines = [f"{case.file}:{case.line}: {case.title}  (cut: {self._cut.name})", ""]
        for number, step in enumerate(case.steps[: failed + 1]):
            mark = "->" if number == failed else "  "
            lines += [f"{mark} {line}" for line in _told(step)]
        where = f"line {case.steps[failed].line}" if failed < len(case.steps) else "after the last step"
        return "\n".join([*lines, "", f"{where}: {fault}"])


def _unread(origin: Origin) -> bytes:
    return b"".join(bytes(c.received) if c.ended else c.read_what_is_there() for c in origin.accept_all())


def _told(step: Step) -> list[str]:
    if isinstance(step, Do):
        return [f"{step.actor} {step.verb} {step.words}".rstrip()]
    arrow = ">" if isinstance(step, Say) else "<"
    return [f"{step.actor}{arrow} {line if len(line) < 160 else line[:160] + '...'}" for line in step.lines]
