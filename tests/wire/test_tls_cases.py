"""The dialogues of `cases/` once more over TLS on both sides: it must change nothing but who can read them."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest

from tests.certificates import authority, context, origin_context, write
from tests.wire.cut import ANSWERS, BYTES, HALVES, WHOLE, Cut
from tests.wire.expect import Head, Part, compile_lines
from tests.wire.harness import run_case
from tests.wire.peers import LARGE
from tests.wire.script import Case, Do, Say, parse_file
from tests.wire.stage import Penstock, Stages

if TYPE_CHECKING:
    from collections.abc import Iterator

CHAPTERS = ("bodies", "endings", "failures", "interim", "messages", "paths", "pool", "upgrade")
_HERE = ("half-closes", "resets", "connects to", "got no whole request")
"""What is done to a socket without asking TLS; and an origin that is never looked at shakes no hands."""


class SecuredPenstock(Penstock):
    """The product with a certificate on every listener, in front of endpoints that it verifies."""

    trust = context()
    shows = origin_context("origin.internal")

    def __init__(self, config: dict[str, Any]) -> None:
        self._folder = TemporaryDirectory()
        folder = Path(self._folder.name)
        certificate = write(folder, "shop", "shop.example")
        authority().cert_pem.write_to_path(folder / "ca.pem")
        for listener in config["listeners"].values():
            listener["tls"] = {"certificates": [certificate]}
        for upstream in config["upstreams"].values():
            upstream["tls"] = {"ca": str(folder / "ca.pem"), "name": "origin.internal"}
        super().__init__(config)

    def close(self) -> None:
        """Stop."""
        super().close()
        self._folder.cleanup()


def _fits(case: Case) -> bool:
    """Whether all that its client does can be done with TLS, in one thread."""
    for step in case.steps:
        if isinstance(step, Do) and f"{step.verb} {step.words}".startswith(_HERE):
            return False
        if isinstance(step, Say) and any("*" in line or len(line) > LARGE for line in step.lines):
            return False
    return "unix:" not in case.config and "{socket}" not in case.config


def _runs() -> Iterator[object]:
    folder = Path(__file__).parent / "cases"
    for case in (case for name in CHAPTERS for case in parse_file(folder / f"{name}.case") if _fits(case)):
        for cut in (WHOLE,) if case.replay == "whole" else (WHOLE, BYTES, HALVES, ANSWERS):
            yield pytest.param(case, cut, id=f"{case.file.removesuffix('.case')}: {case.title} ({cut.name})")


def _read(lines: tuple[str, ...]) -> tuple[Part, ...]:
    """As ever, but that what is forwarded says how it came."""
    parts = compile_lines(lines)
    for part in parts:
        if isinstance(part, Head):
            part.fields[:] = [(n, "https" if n == "x-forwarded-proto" and v == "http" else v) for n, v in part.fields]
    return parts


@pytest.fixture(scope="module")
def stages() -> Iterator[Stages]:
    """The stage that the cases of one configuration share."""
    shared = Stages(SecuredPenstock)
    yield shared
    shared.close()


@pytest.mark.parametrize(("case", "cut"), list(_runs()))
def test_case_over_tls(case: Case, cut: Cut, stages: Stages) -> None:
    """The dialogue goes as written."""
    try:
        run_case(case, stages.of(case.config), cut, _read)
    except BaseException:
        stages.close()  # what a failed case left under way is not the next one's
        raise
