"""`penstock capture`: look at the exchanges that listeners capture, take them away, and send them again."""

from __future__ import annotations

import base64
import http.client
import shlex
import socket
import ssl
import time
from pathlib import Path  # noqa: TC003 - click reads it from the options
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from penstock.cli.control import command
from penstock.cli.options import config_option, control_option, json_option
from penstock.cli.output import columns, print_json, shown
from penstock.control.captures import archive
from penstock.control.channel import default_path
from penstock.errors import ControlError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

HIDDEN = "REDACTED"
PATIENCE = 30.0
_OF_CONNECTION = ("host", "content-length", "transfer-encoding", "connection", "expect", "te", "upgrade", "keep-alive")


@click.command(short_help="Look at captured exchanges, take them away, send them again.")
@config_option
@control_option
@json_option
@click.argument("action", type=click.Choice(["list", "show", "har", "curl", "replay", "clear"]))
@click.argument("number", metavar="[ID]", type=int, required=False)
@click.option("--to", "upstream", metavar="UPSTREAM", help="With replay: straight to an endpoint of this upstream.")
def capture(  # noqa: PLR0913 - one parameter for each option
    config: Path,
    control: Path | None,
    *,
    as_json: bool,
    action: str,
    number: int | None,
    upstream: str | None,
) -> None:
    """Work with what the listeners of the running process capture.

    list: one line each. show ID: all of one. har: an HTTP archive of all, or of one. curl ID: the command that sends
    the same request. replay ID: send it again, to the listener it came by. clear: forget all.
    """
    if upstream is not None and action != "replay":
        raise UsageError("--to says where to send it again: it goes with replay")
    if number is None and action in ("show", "curl", "replay"):
        raise UsageError(f"{action} needs the ID of an exchange: penstock capture list has them")
    path = control or default_path(config)
    if action == "clear":
        command(path, {"command": "capture", "clear": True})
        click.echo("forgotten")
        return
    entries = list(_all(path) if number is None else [_one(path, number)])
    if action == "har" or as_json:
        print_json(archive(entries) if action == "har" else entries if number is None else entries[0])
    elif action == "list":
        for line in columns([_row(entry) for entry in entries]):
            click.echo(line)
    elif action == "show":
        for line in _whole(entries[0]):
            click.echo(line)
    elif action == "curl":
        click.echo(curl(entries[0]))
    else:
        _replay(path, entries[0], upstream)


def _all(path: Path) -> Iterator[dict[str, Any]]:
    """Everything that is captured, by id."""
    found: list[dict[str, Any]] = []
    listeners = [row["name"] for row in command(path, {"command": "status"})["listeners"] if row["capture"]]
    if not listeners:
        raise ControlError("no listener captures anything: give one a capture in the configuration")
    for name in listeners:
        after, more = 0, True
        while more:
            answer = command(path, {"command": "capture", "listener": name, "after": after})
            found += answer["entries"]
            after = answer["entries"][-1]["_id"] if answer["entries"] else after
            more = answer["more"]
    yield from sorted(found, key=lambda entry: int(entry["_id"]))


def _one(path: Path, number: int) -> dict[str, Any]:
    entries: list[dict[str, Any]] = command(path, {"command": "capture", "id": number})["entries"]
    if not entries:
        raise ControlError(f"there is no exchange {number}: newer ones may have taken its place")
    return entries[0]


def _row(entry: dict[str, Any]) -> tuple[object, ...]:
    request, response = entry["request"], entry["response"]
    return (
        entry["_id"], entry["startedDateTime"][11:23], entry["_listener"], entry["_client"] or "unix",
        request["method"], shown(request["url"]), response["status"] or entry["_error"], f"{entry['time']:.1f} ms",
        response["content"]["size"], "bytes",
    )  # fmt: skip


def _whole(entry: dict[str, Any]) -> Iterator[str]:
    """One exchange for people."""
    request, response = entry["request"], entry["response"]
    where = [f"{name} {entry['_' + name]}" for name in ("listener", "client", "route", "upstream", "endpoint", "error")
             if entry[f"_{name}"]]  # fmt: skip
    yield f"{entry['_id']}  {entry['startedDateTime']}  {entry['time']:.1f} ms  {', '.join(where)}"
    yield ""
    yield click.style(shown(f"{request['method']} {request['url']} {request['httpVersion']}"), bold=True)
    yield from (shown(f"{field['name']}: {field['value']}") for field in request["headers"])
    yield from _body(request.get("postData"))
    yield ""
    status = f"{response['httpVersion']} {response['status']} {response['statusText']}"
    yield click.style(shown(status if response["status"] else "no answer"), bold=True)
    yield from (shown(f"{field['name']}: {field['value']}") for field in response["headers"])
    yield from _body(response["content"])


def _body(content: dict[str, Any] | None) -> Iterator[str]:
    if not content or not content.get("text"):
        return
    yield ""
    if content.get("encoding") == "base64":
        yield f"({len(base64.b64decode(content['text']))} bytes that are no text)"
    else:
        yield from map(shown, content["text"].splitlines())
    if comment := content.get("comment"):
        yield f"({comment})"


def curl(entry: dict[str, Any]) -> str:
    """The command that sends the same request."""
    request = entry["request"]
    # Brackets and braces of a URL are meant as they are.
    words = ["curl", "-i", "--globoff", "-X", request["method"], request["url"]]
    for name, value in _fields(entry):
        words += ["-H", f"{name}: {value}"]
    content = request.get("postData")
    if content is None:
        return shlex.join(words)
    if content.get("encoding") == "base64":
        return f"echo {content['text']} | base64 -d | {shlex.join([*words, '--data-binary', '@-'])}"
    return shlex.join([*words, "--data-raw", content["text"]])


def _fields(entry: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = ((field["name"], field["value"]) for field in entry["request"]["headers"])
    return [(name, value) for name, value in pairs if name.lower() not in _OF_CONNECTION]


def _replay(path: Path, entry: dict[str, Any], upstream: str | None) -> None:
    """Send it again and say what comes of it."""
    if entry["request"]["method"] == "CONNECT":
        raise ControlError("it opened a tunnel, and what went through that was not kept: nothing can be sent again")
    content = entry["request"].get("postData") or {}
    if content.get("_truncated"):
        raise ControlError(f"its body was not kept whole ({content['comment']}): make capture.bodies larger")
    body = content.get("text", "").encode()
    if content.get("encoding") == "base64":
        body = base64.b64decode(body)
    url = urlsplit(entry["request"]["url"])
    address, secure, whole = _target(path, entry, upstream)
    if HIDDEN in str(entry["request"]):
        click.echo(f'note: secrets were taken out of it: what is sent has "{HIDDEN}" in their place', err=True)
    fields = [("Host", url.netloc), *_fields(entry)]
    if body:
        fields.append(("Content-Length", str(len(body))))
    target = entry["request"]["url"] if whole else url.path + (f"?{url.query}" if url.query else "")
    began = time.monotonic()
    connection = _Connection(address, url.hostname or "", secure=secure)
    try:
        connection.putrequest(entry["request"]["method"], target, skip_host=True, skip_accept_encoding=True)
        for name, value in fields:
            connection.putheader(name, value.encode("utf-8", "replace"))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        size = len(answer.read())
    except (OSError, http.client.HTTPException) as error:
        raise ControlError(f"{address} did not answer: {error}") from None
    finally:
        connection.close()
    took = (time.monotonic() - began) * 1000
    before = entry["response"]["status"] or f"no answer ({entry['_error']})"
    click.echo(f"{answer.status} {answer.reason}, {size} bytes in {took:.1f} ms from {address} (before: {before})")


def _target(path: Path, entry: dict[str, Any], upstream: str | None) -> tuple[str, bool, bool]:
    """Where it is sent, whether over TLS, and whether it names the whole URL, as a forward proxy wants it."""
    status = command(path, {"command": "status"})
    if upstream is None:
        row = next((row for row in status["listeners"] if row["name"] == entry["_listener"]), None)
        if row is None or not row["addresses"]:
            raise ControlError(f"listener {entry['_listener']} is not there any more")
        return row["addresses"][0], bool(row["certificates"]), row["protocol"] == "forward"
    rows = {row["name"]: row["endpoints"] for row in status["upstreams"]}
    if upstream not in rows:
        raise ControlError(f"no upstream {upstream!r}: there are {', '.join(rows)}")
    ready = [row for row in rows[upstream] if row["state"] == "up" and row["admin"] == "ready"] or rows[upstream]
    return ready[0]["address"], False, False


class _Connection(http.client.HTTPConnection):
    """To an address as the status has it. Whose certificate a listener of ours shows is not judged."""

    def __init__(self, address: str, host: str, *, secure: bool) -> None:
        super().__init__(host or "localhost", timeout=PATIENCE)
        self._address = address
        self._secure = secure

    def connect(self) -> None:
        if self._address.startswith("unix:"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(PATIENCE)
            self.sock.connect(self._address.removeprefix("unix:"))
        else:
            host, _, port = self._address.rpartition(":")
            # What listens on every address is reached on this machine's own.
            host = host.strip("[]")
            host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "localhost"}.get(host, host)  # noqa: S104 - of ours
            self.sock = socket.create_connection((host, int(port)), PATIENCE)
        if self._secure:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)
