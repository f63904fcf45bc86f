"""Is the answer right? Asked of every peer before it is measured: a fast wrong answer is worth nothing."""

import http.client
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.certificate import CIPHER, VERSION, Certificate
from bench.launch import BenchError

BODY = b"x" * 128
# The origin's large bodies: byte i is i % BLOCK % PATTERN (bench/programs/src/bin/origin.rs).
BLOCK = bytes(place % 251 for place in range(256 * 1024))


@dataclass(frozen=True)
class Answer:
    """One whole answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(
    connection: http.client.HTTPConnection, path: str, headers: dict[str, str] | None = None, body: bytes | None = None
) -> Answer:
    """One exchange on a connection."""
    connection.request("GET" if body is None else "POST", path, body=body, headers=headers or {})
    response = connection.getresponse()
    names = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, names, response.read())


def connect(port: int, certificate: Certificate | None = None) -> http.client.HTTPConnection:
    """A connection that gives up in time; with TLS, if there is a certificate to believe."""
    if certificate is None:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=certificate.context())
    connection.connect()
    agreed = connection.sock.cipher() or ("nothing", "")
    expect(agreed[:2] == (CIPHER, VERSION), f"TLS: {agreed}, where the other peers agree on {CIPHER}")
    return connection


def plain(port: int, path: str = "/", certificate: Certificate | None = None) -> None:
    """Two answers on one connection, each with its status, length and exact body, and the origin's head passed on."""
    connection = connect(port, certificate)
    try:
        for _ in range(2):
            answer = ask(connection, path)
            expect(answer.status == 200, f"GET {path}: status {answer.status}")
            expect(answer.body == BODY, f"GET {path}: a body of {len(answer.body)} bytes that is not the origin's")
            expect(answer.headers.get("content-length") == "128", f"GET {path}: no Content-Length: 128")
            expect(answer.headers.get("content-type") == "text/plain", f"GET {path}: the origin's Content-Type is lost")
            expect(connection.sock is not None, f"GET {path}: the connection was not kept")
        echo = ask(connection, path.rstrip("/") + "/echo", {"X-Marker": "bench-7"})
        expect(b"bench-7" in echo.body, "a request header did not reach the origin")
    finally:
        connection.close()


def http2(port: int, certificate: Certificate | None = None) -> None:
    """The same over HTTP/2, as far as curl tells it."""
    words = [*curl(certificate), "-w", "%{http_version} %{http_code}", f"{origin_of(port, certificate)}/"]
    done = subprocess.run(words, capture_output=True, timeout=20, check=False)
    expect(done.stdout == BODY + b"2 200", f"GET / over HTTP/2: {done.stdout[-60:]!r} {done.stderr[-100:]!r}")


def curl(certificate: Certificate | None) -> list[str]:
    """The command that speaks HTTP/2 and nothing else in clear, and agrees on it with TLS."""
    version = ["--http2", "--cacert", str(certificate.cert)] if certificate else ["--http2-prior-knowledge"]
    return ["curl", "-sS", "--max-time", "60", *version]


def origin_of(port: int, certificate: Certificate | None) -> str:
    """How a URL of a peer begins."""
    return f"{'https' if certificate else 'http'}://127.0.0.1:{port}"


def edits(port: int, path: str) -> None:
    """The header edits and the path rewrite of `Scenario(edits=True)` are really made, both ways."""
    connection = connect(port)
    try:
        echo = ask(connection, path.rstrip("/") + "/echo", {"X-Secret": "bench-8", "X-Team": "other"})
        request = echo.body.decode().lower()
        expect(request.startswith("get /") and "service-" not in request.splitlines()[0], "the prefix was not stripped")
        expect("x-team: pro" in request and "other" not in request, "X-Team was not set on the request")
        expect("bench-8" not in request, "X-Secret was not removed from the request")
        expect(echo.headers.get("x-served-by") == "penstock", "X-Served-By was not set on the response")
        expect("origin" not in echo.headers.get("server", ""), "Server was not removed from the response")
    finally:
        connection.close()


def large(port: int, length: int, certificate: Certificate | None = None) -> None:
    """A large body comes whole and unchanged, and one that is sent arrives whole."""
    connection = connect(port, certificate)
    whole = pattern(length)
    try:
        answer = ask(connection, f"/large/{length}")
        expect(answer.status == 200 and answer.body == whole, f"/large/{length}: the body is not the origin's")
        answer = ask(connection, "/upload", body=whole)
        expect(answer.body == f"received {length}\n".encode(), f"an upload of {length} bytes: {answer.body[:60]!r}")
    finally:
        connection.close()


def large_http2(port: int, length: int, certificate: Certificate | None, file: Path) -> None:
    """The same over HTTP/2; `file` is where the body that is sent may be kept."""
    words, url, whole = curl(certificate), origin_of(port, certificate), pattern(length)
    done = subprocess.run([*words, f"{url}/large/{length}"], capture_output=True, timeout=70, check=False)
    expect(done.stdout == whole, f"/large/{length} over HTTP/2: not the origin's body {done.stderr[-100:]!r}")
    file.write_bytes(whole)
    words += ["-X", "POST", "-T", str(file), "-w", " %{http_version}"]
    done = subprocess.run([*words, f"{url}/upload"], capture_output=True, timeout=70, check=False)
    told = done.stdout.decode(errors="replace")
    expect(told == f"received {length}\n 2", f"an upload of {length} bytes over HTTP/2: {told[-60:]!r}")


def pattern(length: int) -> bytes:
    """The origin's large body of this length."""
    return (BLOCK * (length // len(BLOCK) + 1))[:length]


def churn(port: int, certificate: Certificate | None = None) -> None:
    """An answer to `Connection: close` is whole, and the connection ends after it."""
    connection = connect(port, certificate)
    try:
        answer = ask(connection, "/", {"Connection": "close"})
        expect(answer.status == 200 and answer.body == BODY, f"Connection: close: status {answer.status}")
        expect(connection.sock is None, "Connection: close: the connection stayed open")
    finally:
        connection.close()


def cookie(port: int, path: str = "/") -> str:
    """The affinity cookie that a new client gets, as it sends it back."""
    connection = connect(port)
    try:
        given = ask(connection, path).headers.get("set-cookie", "")
    finally:
        connection.close()
    expect(given.startswith("lb="), f"GET {path}: no affinity cookie, but {given!r}")
    return given.partition(";")[0]


def affinity(port: int, path: str) -> None:
    """A client that has its cookie gets no other, and the origin does not see it."""
    brought = {"Cookie": f"{cookie(port, path)}; own=1"}
    connection = connect(port)
    try:
        expect("set-cookie" not in ask(connection, path, brought).headers, "a bound client gets another cookie")
        echo = ask(connection, path.rstrip("/") + "/echo", brought).body
        expect(b"own=1" in echo and b"lb=" not in echo, "the origin sees the affinity cookie")
    finally:
        connection.close()


def orders(port: int, mine: bytes, other: bytes, *, by_member: bool) -> None:
    """Orders of one plan arrive whole; those of another do so only if the route does not ask for the plan."""
    connection = connect(port)
    fields = {"Content-Type": "application/json"}
    try:
        answer = ask(connection, "/orders", fields, mine)
        expect(answer.body == f"received {len(mine)}\n".encode(), f"POST /orders: {answer.status}")
        status = ask(connection, "/orders", fields, other).status
        expect(status == (404 if by_member else 200), f"POST /orders of another plan: {status}")
    finally:
        connection.close()


def expect(held: bool, complaint: str) -> None:
    """Raises with the complaint unless the condition held."""
    if not held:
        raise BenchError(complaint)
