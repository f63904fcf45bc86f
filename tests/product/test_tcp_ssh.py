"""An SSH session through a listener of connections: it lives for as long as it is used, over fifty reloads."""

from __future__ import annotations

import getpass
import os
import pwd
import select
import shutil
import socket
import subprocess
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.ports import Reserved
from tests.product.test_tcp import config, ended
from tests.product.test_tcp_programs import program, running
from tests.product.waiting import wait_for

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 20.0
RELOADS = 50
_SEPARATION = Path("/run/sshd")
"""Where sshd locks itself in when root runs it; its service makes it."""


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """An SSH server for this user, and its port."""
    sshd, keygen = program("sshd", "/usr/sbin"), program("ssh-keygen")
    if pwd.getpwuid(os.geteuid()).pw_shell.endswith(("nologin", "false")):
        pytest.skip("this user has no shell")
    if os.geteuid() == 0 and not _SEPARATION.exists():
        _SEPARATION.mkdir(mode=0o755)
    for name in ("host", "user"):
        subprocess.run(
            [keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True, timeout=PATIENCE
        )
    shutil.copy(folder / "user.pub", folder / "authorized")
    reserved = Reserved()
    port = reserved.number
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized",
        "PidFile": "none",
        # The folder of a test belongs to others, too.
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
    }
    (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    with closing(reserved), running(sshd, "-D", "-e", "-f", str(folder / "sshd_config")):
        wait_for(lambda: _listens(port), "sshd listens", PATIENCE)
        yield port


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_an_ssh_session_outlives_fifty_reloads(tmp_path: Path) -> None:
    ssh = program("ssh")
    with serving(tmp_path) as port, penstock.Proxy(config(f"127.0.0.1:{port}")) as proxy:
        host, through = proxy.address("db")
        words = [ssh, "-F", "none", "-T", "-i", str(tmp_path / "user"), "-p", str(through), "-o", "BatchMode=yes"]
        words += ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path / 'known'}"]
        words += [f"{getpass.getuser()}@{host}", "cat"]
        session = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            for number in range(RELOADS):
                plan = config(f"127.0.0.1:{port}")
                plan["listeners"][f"web{number % 3}"] = {"bind": "127.0.0.1:0"}
                plan["upstreams"]["main"]["timeouts"] = {"connect": f"{number + 1}s"}
                plan["routes"] = [{"respond": {"body": str(number)}}]
                proxy.apply(plan)
                assert _echo(session, b"after reload %d\n" % number) == b"after reload %d\n" % number
            # A lot in one go: what is bulk takes another way than what is typed.
            assert _echo(session, b"y" * 3_000_000 + b"\n").count(b"y") == 3_000_000
            assert _echo(session, b"and a word\n") == b"and a word\n"
            assert session.stdin is not None
            session.stdin.close()
            assert session.wait(PATIENCE) == 0
        finally:
            session.kill()
            session.wait(PATIENCE)
        wait_for(lambda: sum(ended(proxy, word) for word in ("client_closed", "endpoint_closed")) == 1, "it has ended")
        assert proxy.stats().listeners[0].accepted == 1


def _echo(session: subprocess.Popen[bytes], said: bytes) -> bytes:
    """What comes back of these bytes."""
    assert session.stdin is not None
    assert session.stdout is not None
    assert session.stderr is not None
    to, back = session.stdin.fileno(), session.stdout.fileno()
    os.set_blocking(to, False)
    got, at = b"", 0
    while len(got) < len(said):
        ready, room, _ = select.select([back], [to] if at < len(said) else [], [], PATIENCE)
        assert ready or room, f"nothing more came; {len(got)} of {len(said)} bytes"
        if room:
            at += os.write(to, said[at : at + 65_536])
        if ready:
            more = os.read(back, 65_536)
            assert more, session.stderr.read().decode()
            got += more
    return got
