"""`python -m bench.train`: shows the compiler how Penstock runs, for a build that is laid out for it.

An instrumented build goes through the bench's rows, and through what no row does and is dear: codings of bodies,
passwords, lists. What it counted is written to `target/profile/penstock.profdata`; `make build` and `make wheel` use
that if it is there. Code that is never seen here is made small instead of fast: whatever takes long by nature belongs
into it.
"""

from __future__ import annotations

import base64
import http.client
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench import builds, wrk
from bench.__main__ import build_programs
from bench.contest import TROUBLE, say
from bench.launch import BenchError, free_port
from bench.peers import Penstock, Scenario
from bench.stand import Settings, open_stand

if TYPE_CHECKING:
    from bench.stand import Running, Stand

FOLDER = builds.PROFILE.parent
ROWS = "P1,P1+,P2,P2+,P3,P4,P5,P7,P8,P9,P12,P14,JSON,SESSIONS"
"""Rows that load; the others wait, start, or look at something else."""

_TEXT = ", ".join(
    f"{{'number': {number}, 'name': 'item {number % 97}', 'price': {number * 7 % 1000}}}" for number in range(900)
)
_HASHES = {
    "bcrypt": "$2y$10$abcdefghijklmnopqrstuu" + "." * 31,
    "argon2": "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$" + "A" * 43,
    "crypt": "$6$rounds=50000$abcdefgh$" + "." * 86,
}
"""Of passwords that nobody knows: to be refused costs as much as to be let in."""
_DEAR = """[engine]
workers = 1
[listeners.web]
bind = "127.0.0.1:{port}"
[listeners.out]
bind = "127.0.0.1:{out}"
protocol = "forward"
allow_private = true
users = {{ htpasswd = "{folder}/users" }}
rules = [{{ match = 'dest.host in list("blocked") or dest.ip in list("inside")', deny = 403 }}]
[lists]
blocked = {{ file = "{folder}/blocked" }}
inside = {{ file = "{folder}/inside", kind = "networks" }}
[[routes]]
respond = {{ body = "{text}", content_type = "application/json" }}
filters = [{{ compress = {{}} }}]
"""


class _Dear(Penstock):
    """Penstock with what is dear by nature."""

    def __init__(self, build: builds.Build) -> None:
        super().__init__(build)
        self.out = free_port()

    def configuration(self, folder: Path, port: int, origin: int, scenario: Scenario) -> str:
        users = _HASHES | {"ada": "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="}
        (folder / "users").write_text("".join(f"{name}:{told}\n" for name, told in users.items()))
        (folder / "blocked").write_text("".join(f"host-{number}.example\n" for number in range(20_000)))
        (folder / "inside").write_text("".join(f"10.{number}.0.0/16\n" for number in range(200)))
        return _DEAR.format(folder=folder, port=port, out=self.out, text=_TEXT)


def run() -> int:
    """Writes the profile; 1 when that cannot be."""
    try:
        merge = tool()
        build_programs()
        say("train: building")
        build = builds.instrumented(FOLDER / "instrumented", FOLDER / "counted")
        # What ran while it was built counted, too: build scripts and macros.
        shutil.rmtree(FOLDER / "counted", ignore_errors=True)
        _rows(build)
        with open_stand(Settings(seconds=2, rounds=1)) as stand:
            _dear(stand, _Dear(build))
        _merge(merge)
    except TROUBLE as error:
        say(f"train: {error}")
        return 1
    say(f"train: {builds.PROFILE} is what builds are made for from now on (make build, make wheel)")
    return 0


def tool() -> Path:
    """The program that puts counts together, which has to be of the compiler's version."""
    told = {}
    for asked in ("sysroot", "host-tuple"):
        done = subprocess.run(["rustc", "--print", asked], capture_output=True, text=True, check=False)
        told[asked] = done.stdout.strip()
    found = Path(told["sysroot"]) / "lib" / "rustlib" / told["host-tuple"] / "bin" / "llvm-profdata"
    if not found.exists():
        raise BenchError("llvm-profdata of this compiler is not installed: rustup component add llvm-tools")
    return found


def _rows(build: builds.Build) -> None:
    command = [sys.executable, "-m", "bench", "--quick", "--rows", ROWS, "--out", str(FOLDER / "results")]
    # It comes before the installed one.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(build.path), str(builds.ROOT)])}
    done = subprocess.run(command, cwd=builds.ROOT, env=environment, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise BenchError(f"a row of {' '.join(command[1:])} failed; the instrumented build is in {build.path}")


def _dear(stand: Stand, peer: _Dear) -> None:
    with stand.serving(peer, Scenario()) as running:
        for coding in ("gzip", "br", "zstd"):
            _load(stand, running.url + "/", f"Accept-Encoding: {coding}")
        for name in _HASHES:
            _ask(running, peer.out, name)
        there = f"http://127.0.0.1:{stand.origin}/"
        _load(stand, f"http://127.0.0.1:{peer.out}", f"Proxy-Authorization: {_basic('ada')}", target=there)


def _load(stand: Stand, url: str, header: str, target: str = "") -> None:
    say(f"train: {header.partition(':')[2].split()[0]}")
    wrk.drive(url, stand.settings.connections, stand.settings.seconds, (header,), target=target)


def _ask(running: Running, port: int, name: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", running.url + "/", headers={"Proxy-Authorization": _basic(name)})
        if (status := connection.getresponse().status) != http.HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            raise BenchError(f"a password that nobody knows was answered with {status}")
    finally:
        connection.close()


def _basic(name: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:password'.encode()).decode()}"


def _merge(merge: Path) -> None:
    counted = sorted(map(str, (FOLDER / "counted").glob("*.profraw")))
    if not counted:
        raise BenchError("the instrumented build counted nothing")
    fresh = builds.PROFILE.with_suffix(".new")
    done = subprocess.run(
        [str(merge), "merge", "-o", str(fresh), *counted], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"llvm-profdata: {done.stderr.strip()[-200:]}")
    fresh.rename(builds.PROFILE)


if __name__ == "__main__":
    sys.exit(run())
