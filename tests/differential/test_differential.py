"""The differential test at a size for every run, and that it can fail."""

from __future__ import annotations

import random
import shutil

import pytest

from tests.differential.generate import Messages
from tests.differential.readers import Reading, Request, h11, http_server
from tests.differential.readers.httparse import HttparseReader, build
from tests.differential.readers.nginx import PROGRAM as NGINX
from tests.differential.readers.nginx import NginxReader
from tests.differential.run import run_differential

pytestmark = pytest.mark.skipif(
    not shutil.which("cargo"), reason="cargo is missing: httparse's reader is built with it"
)
needs_nginx = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (make debian): it does not read along")

TWO_LENGTHS = (
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
)
ONE_AFTER_ANOTHER = (
    b"get /a?b HTTP/1.1\r\nHost: a\r\n\r\n"
    b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
    b"PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n1\r\n\xff\r\n0\r\nX-Sum: 1\r\n\r\n"
    b"POST /cut HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab"
)
READ_WHOLE = ONE_AFTER_ANOTHER[: ONE_AFTER_ANOTHER.index(b"POST /cut")]
READ = [Request("get", "/a?b", b""), Request("POST", "/b", b"hi"), Request("PUT", "/c", b"x\xff")]


def test_what_is_forwarded_everybody_reads_alike() -> None:
    seed = random.SystemRandom().randrange(1, 2**31)
    tally = run_differential(20_000, seed)
    again = f"python -m tests.differential --requests 20000 --seed {seed}"
    assert (tally.wrong, tally.examples) == (0, []), again
    assert tally.forwarded > 0.3 * tally.sent, again
    wrong = {kind: count for kind, count in tally.kinds.items() if not kind.startswith("right")}
    # Of most kinds of wrong requests some are harmless: they pass, so that not only refusals are compared.
    assert sum(0 < tally.passed[kind] < count for kind, count in wrong.items()) >= 7, again
    assert tally.cut > 0, again


def test_readers_tell_requests_and_how_bytes_end() -> None:
    recordings = [ONE_AFTER_ANOTHER, READ_WHOLE, b"nonsense\r\n\r\n"]
    base = HttparseReader(build()).read(recordings)
    assert [(reading.requests, reading.end) for reading in base] == [
        (READ, "partial"),
        (READ, "whole"),
        ([], "refused"),
    ]
    assert base[0].starts == tuple(
        ONE_AFTER_ANOTHER.index(start) for start in (b"get", b"POST /b", b"PUT", b"POST /cut")
    )
    for read in (h11.read, http_server.read):
        assert [(reading.requests, reading.end) for reading in read(recordings)] == [
            (READ, "partial"),
            (READ, "whole"),
            ([], "refused"),
        ]


@needs_nginx
def test_nginx_reads_along() -> None:
    recordings = [ONE_AFTER_ANOTHER, READ_WHOLE]
    base = HttparseReader(build()).read(recordings)
    with NginxReader() as nginx:
        assert nginx.read(recordings, base) == [Reading(READ, "partial"), Reading(READ, "whole")]
        assert nginx.refused == 2  # `get` is no method for nginx


@needs_nginx
def test_two_lengths_are_read_in_two_ways() -> None:
    base = HttparseReader(build()).read([TWO_LENGTHS])
    with NginxReader() as nginx:
        (refused,) = nginx.read([TWO_LENGTHS], base)
    assert len(base[0].requests) == 2
    assert refused.requests == []


def test_one_seed_gives_one_sequence() -> None:
    one, same, other = Messages("7/0"), Messages("7/0"), Messages("7/1")
    scripts = [one.script() for _ in range(200)]
    assert scripts == [same.script() for _ in range(200)]
    assert scripts != [other.script() for _ in range(200)]
