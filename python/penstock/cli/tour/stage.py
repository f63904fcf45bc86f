"""Where the tour happens: the running Penstock, its origins and its file, and the means to show and to check."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from penstock.cli.output import shown
from penstock.control.channel import ask
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.cli.tour.origins import Origin


class TourError(PenstockError):
    """A step did not do what it says."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def origin(self) -> str | None:
        """The origin that answered, if it was one."""
        return self.headers.get("x-origin")

    @property
    def asked(self) -> dict[str, Any]:
        """What the origin says that it was asked."""
        found: dict[str, Any] = json.loads(self.text)
        return found


@dataclass
class Stage:
    """One tour."""

    config: Path
    control: Path
    address: tuple[str, int]
    """Where HTTP is spoken."""
    relay: tuple[str, int]
    """Where bytes are passed on."""
    out: tuple[str, int]
    """Where clients go out."""
    origins: dict[str, Origin]

    @property
    def url(self) -> str:
        """Where Penstock listens."""
        return f"http://{self.address[0]}:{self.address[1]}"

    def connect(self, address: tuple[str, int] | None = None) -> http.client.HTTPConnection:
        """A client's connection, kept alive from one request to the next."""
        return http.client.HTTPConnection(*(address or self.address), timeout=10)

    def send(
        self,
        target: str,
        headers: dict[str, str] | None = None,
        *,
        connection: http.client.HTTPConnection | None = None,
        over: tuple[str, int] | None = None,
        quiet: bool = False,
    ) -> Answer:
        """Send GET `target`, `over` another listener than that of HTTP if one is given; show the request with its
        answer (unless `quiet`), and return the answer."""
        used = connection or self.connect(over)
        try:
            used.request("GET", target, headers=headers or {})
            response = used.getresponse()
            text = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise TourError(f"GET {target} failed: {error!r}") from error
        finally:
            if connection is None:
                used.close()
        answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, text)
        if not quiet:
            self._show(target, headers or {}, answer)
        return answer

    def say_raw(self, words: bytes) -> bytes:
        """Say something over a connection that is passed on, and return all that comes back."""
        try:
            with socket.create_connection(self.relay, 10) as sock:
                sock.sendall(words)
                sock.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: sock.recv(65536), b""))
        except OSError as error:
            raise TourError(f"the connection broke: {error}") from error

    def command(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a control command. Raises `TourError` where it is refused."""
        answer = ask(self.control, request)
        if "error" in answer:
            raise TourError(f"{request['command']} was refused: {answer}")
        return answer

    def say(self, text: str, *, plain: bool = True) -> None:
        """Show one line; `plain` text comes from elsewhere and must not style itself."""
        click.echo(f"  {shown(text) if plain else text}")

    def check(self, holds: bool, what: str) -> None:
        """Show that `what` holds. Raises `TourError` where it does not."""
        if not holds:
            raise TourError(f"not so: {what}")
        click.echo(f"  {click.style('✓', fg='green')} {shown(what)}")

    def _show(self, target: str, headers: dict[str, str], answer: Answer) -> None:
        fields = "".join(f" [{name}: {value}]" for name, value in headers.items())
        where = f"from {answer.origin}" if answer.origin else "from Penstock itself"
        location = f", Location: {answer.headers['location']}" if "location" in answer.headers else ""
        status = click.style(str(answer.status), fg="green" if answer.status < 400 else "red")
        click.echo(f"  GET {shown(target)}{shown(fields)} → {status} {where}{shown(location)}")
