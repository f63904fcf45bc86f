"""Five hundred hosts, each in every spelling: the same route, and the same refusal."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

import penstock

if TYPE_CHECKING:
    from collections.abc import Iterator

HOSTS = 500
SPELLINGS = ("{}", "{}.", "{}:80", "{}.:80", "{}:8080")


def _config() -> dict[str, Any]:
    routes: list[dict[str, Any]] = []
    for number in range(HOSTS):
        host = f'host == "h{number}.example.com"'
        routes.append({"match": f'{host} and path.startswith("/admin")', "respond": {"status": 403}})
        routes.append({"match": host, "respond": {"body": f"host {number}"}})
    return {"listeners": {"web": {"bind": "127.0.0.1:0"}}, "routes": routes, "engine": {"workers": 1}}


@pytest.fixture(scope="module")
def client() -> Iterator[socket.socket]:
    """One connection to all hosts."""
    with penstock.Proxy(_config()) as proxy, socket.create_connection(proxy.address("web"), timeout=5) as connection:
        yield connection


def _ask(client: socket.socket, path: str, host: str) -> bytes:
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += client.recv(4096)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += client.recv(4096)
    return head.split(b" ")[1] + b" " + body


@pytest.mark.safety(133)
@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("case", ["lower", "upper", "title"])
def test_a_host_in_every_spelling(client: socket.socket, spelling: str, case: str) -> None:
    for number in range(HOSTS):
        host = spelling.format(getattr(f"h{number}.example.com", case)())
        assert _ask(client, "/", host) == f"200 host {number}".encode(), host
        assert _ask(client, "/admin/x", host) == b"403 ", host


@pytest.mark.safety(133)
@pytest.mark.parametrize("host", ["h500.example.com", "h1.example.com.evil", "xh1.example.com", "h1.example.co"])
def test_a_host_that_is_none_of_them(client: socket.socket, host: str) -> None:
    assert _ask(client, "/", host).startswith(b"404 ")
