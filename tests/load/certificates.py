"""Certificates that are replaced all the time, under clients that verify each: no handshake may fail, or show another's
certificate or an old one."""

from __future__ import annotations

import multiprocessing
import socket
import ssl
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

import penstock
from tests.certificates import authority, write
from tests.load.client import Tally

NAMES = ("shop.example", "blog.example")
EVERY = 1.0
"""Seconds from one replacement to the next."""
LATEST = 5.0
"""Seconds within which a replaced certificate is served no more (docs/tls.md)."""


@dataclass(frozen=True)
class Seen:
    """One handshake: when it began, for which name, and the serial number that was shown, or why it failed."""

    at: float
    name: str
    serial: int = 0
    fault: str = ""


def run_certificates(seconds: float, workers: int = 2, clients: int = 2) -> tuple[Tally, int]:
    """Replace them once a second for so long; what came of the handshakes, and how many certificates were seen."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        issued: dict[int, tuple[str, float]] = {}
        replaced: dict[int, float] = {}
        current: dict[str, int] = {}

        def issue(name: str) -> dict[str, str]:
            written = write(folder, name, name)
            serial = x509.load_pem_x509_certificate(Path(written["cert"]).read_bytes()).serial_number
            now = time.monotonic()
            issued[serial] = (name, now)
            if name in current:
                replaced[current[name]] = now
            current[name] = serial
            return written

        tls = {"certificates": [issue(name) for name in NAMES], "unknown_name": "refuse"}
        config = {
            "listeners": {"web": {"bind": "127.0.0.1:0", "tls": tls}},
            "routes": [{"respond": {"body": "ok"}}],
            "engine": {"workers": workers},
        }
        until = time.monotonic() + seconds
        with (
            penstock.Proxy(config) as proxy,
            ProcessPoolExecutor(clients, multiprocessing.get_context("spawn")) as pool,
        ):
            trust = authority().cert_pem.bytes().decode()
            shaking = [pool.submit(shake_hands, proxy.address(), trust, until, turn) for turn in range(clients)]
            pause = threading.Event()
            while time.monotonic() < until:
                for name in NAMES:
                    issue(name)
                pause.wait(EVERY)
            seen = [one for future in shaking for one in future.result()]
        tally = Tally(answered=len(seen))
        for one in seen:
            if fault := _fault(one, issued, replaced):
                tally.wrong += 1
                tally.examples = [*tally.examples, fault][:5]
        return tally, len({one.serial for one in seen if not one.fault})


def _fault(seen: Seen, issued: dict[int, tuple[str, float]], replaced: dict[int, float]) -> str:
    if seen.fault:
        return f"{seen.name}: {seen.fault}"
    name, _ = issued.get(seen.serial, ("nobody", 0.0))
    if name != seen.name:
        return f"{seen.name} was shown the certificate of {name}"
    if seen.at > replaced.get(seen.serial, seen.at) + LATEST:
        return f"{seen.name} was shown a certificate that was replaced {seen.at - replaced[seen.serial]:.1f} s before"
    return ""


def shake_hands(address: tuple[str, int], trust: str, until: float, turn: int) -> list[Seen]:
    """Shake hands and ask until then, with both versions and all names in turn."""
    contexts = []
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cadata=trust)
        context.minimum_version = context.maximum_version = version
        contexts.append(context)
    seen: list[Seen] = []
    while (at := time.monotonic()) < until:
        turn += 1
        seen.append(_shake(address, contexts[turn // 2 % 2], NAMES[turn % 2], at))
    return seen


def _shake(address: tuple[str, int], context: ssl.SSLContext, name: str, at: float) -> Seen:
    try:
        with (
            socket.create_connection(address, 20) as raw,
            context.wrap_socket(raw, server_hostname=name, suppress_ragged_eofs=False) as sock,
        ):
            sock.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            said = b""
            while more := sock.recv(65_536):
                said += more
            shown = x509.load_der_x509_certificate(sock.getpeercert(binary_form=True) or b"")
    except (OSError, ValueError) as error:
        return Seen(at, name, fault=f"{type(error).__name__}: {error}")
    if not said.startswith(b"HTTP/1.1 200 ") or not said.endswith(b"\r\n\r\nok"):
        return Seen(at, name, fault=f"answered {said[:80]!r}")
    return Seen(at, name, shown.serial_number)
