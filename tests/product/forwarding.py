"""A forward proxy between raw clients and scripted origins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.wire.peers import Connection, Origin, connect

if TYPE_CHECKING:
    import penstock


def config(**listener: Any) -> dict[str, Any]:
    """A forward proxy; `allow_private` is on unless it is said otherwise: origins of tests are on this machine."""
    settings = {"bind": "127.0.0.1:0", "protocol": "forward", "allow_private": True, **listener}
    return {"listeners": {"out": settings}, "engine": {"workers": 1, "drain_timeout": "5s"}}


def whole(got: bytes) -> bool:
    """Whether an answer with a length is there."""
    head, end, body = got.partition(b"\r\n\r\n")
    if not end:
        return False
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(body) >= (int(lengths[0].split(b":")[1]) if lengths else 0)


def say(client: Connection, request: str) -> bytes:
    """The answer to a request that the proxy gives by itself."""
    client.received.clear()
    client.send(request.encode())
    client.read_until(whole)
    return bytes(client.received)


def ask(proxy: penstock.Proxy, line: str, *fields: str, host: str = "other", before: str = "") -> bytes:
    """The answer to one request of its own connection."""
    client = connect(proxy.address("out"))
    try:
        rest = "".join(f"{field}\r\n" for field in (f"Host: {host}", *fields))
        return say(client, f"{before}{line} HTTP/1.1\r\n{rest}\r\n")
    finally:
        client.close()


def status(answer: bytes) -> int:
    """Its status."""
    return int(answer.split(b" ")[1])


def answered(origin: Origin, body: bytes = b"hi", number: int = 1) -> bytes:
    """Answer the request that comes on this connection; its head."""
    connection = origin.connection(number)
    connection.read_until(lambda got: b"\r\n\r\n" in got)
    head = bytes(connection.received)
    connection.received.clear()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    return head


def fields(head: bytes) -> dict[str, str]:
    """The fields of a head by their names in lower case."""
    lines = head.decode().split("\r\n\r\n")[0].split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
