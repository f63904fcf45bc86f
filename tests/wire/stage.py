"""A configuration that runs: the proxy, the origins it names, and the names a dialogue may use."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, Protocol, Self

import penstock
from tests.wire.peers import Address, Connection, Origin, Refusal, ShortFolder, connect

if TYPE_CHECKING:
    import ssl

SENTINEL = b"GET /_sentinel HTTP/1.1\r\nHost: sentinel\r\nConnection: close\r\n\r\n"
SENTINEL_ROUTE = {"name": "sentinel", "match": 'path == "/_sentinel"', "respond": {"status": 200, "body": "watch"}}
_PLACEHOLDER = re.compile(r"\{(origin|second|third|app|dead|gone|socket|folder)\}")

Config = dict[str, Any]


class Subject(Protocol):
    """What stands between client and origin."""

    has_sentinel: bool
    trust: ssl.SSLContext | None
    """What clients speak TLS with, if they do."""
    shows: ssl.SSLContext | None
    """What origins speak TLS with, if they do."""

    def address(self, listener: str) -> Address:
        """Where a listener accepts."""

    def close(self) -> None:
        """Stop."""


class Penstock:
    """The product, in this process."""

    has_sentinel = True
    trust: ssl.SSLContext | None = None
    shows: ssl.SSLContext | None = None

    def __init__(self, config: Config) -> None:
        self._proxy = penstock.Proxy(config)
        self._proxy.__enter__()

    def address(self, listener: str) -> Address:
        """Where a listener accepts."""
        return self._proxy.address(listener)

    def panics(self) -> int:
        """Connections that a panic ended so far."""
        return self._proxy.stats().panics

    def pooled(self) -> int:
        """Connections to endpoints that nobody uses just now."""
        return sum(endpoint.idle for upstream in self._proxy.stats().upstreams for endpoint in upstream.endpoints)

    def close(self) -> None:
        """Stop."""
        self._proxy.__exit__(None, None, None)


class Stage:
    """Everything that a configuration needs to run."""

    def __init__(self, text: str, subject: type[Subject] = Penstock) -> None:
        self._folder = ShortFolder()
        self.origins: dict[str, Origin] = {}
        self._refusals: dict[str, Refusal] = {}
        self._shows = subject.shows
        config = complete(tomllib.loads(text))
        self._unix = {name: bind for name, bind in _binds(config) if bind == "{socket}"}
        self.config = self._fill(config)
        try:
            self.subject = subject(self.config)
        except BaseException:
            self._close_peers()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the proxy and the origins."""
        self.subject.close()
        self._close_peers()

    def _close_peers(self) -> None:
        for peer in [*self.origins.values(), *self._refusals.values()]:
            peer.close()
        self._folder.__exit__()

    def names(self) -> dict[str, str]:
        """What a dialogue may write in braces."""
        names = {name: peer.address for name, peer in [*self.origins.items(), *self._refusals.items()]}
        for listener, _ in _binds(self.config):
            if listener not in self._unix and not isinstance(address := self.subject.address(listener), str):
                names |= {listener: f"{address[0]}:{address[1]}", f"{listener}.port": str(address[1])}
        return names

    def connect(self, listener: str, source: str | None = None) -> Connection:
        """A client's connection."""
        if listener in self._unix:
            return connect(str(self._folder.path / "web.sock"))
        return connect(self.subject.address(listener), source, self.subject.trust)

    def watch(self) -> None:
        """A request that has nothing to do with the case gets its own answer: the proxy lives and mixes nothing up."""
        if not self.subject.has_sentinel:
            return
        client = self.connect(next(iter(self.config["listeners"])))
        client.send(SENTINEL)
        client.read_until(lambda _: False)
        client.close()
        answer = bytes(client.received)
        is_its_own = answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\nwatch")
        assert is_its_own, f"the sentinel got {answer!r}"

    def _fill(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._fill(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._fill(item) for item in value]
        if isinstance(value, str):
            return _PLACEHOLDER.sub(lambda found: self._peer(found[1]), value)
        return value

    def _peer(self, name: str) -> str:
        if name == "folder":
            return str(self._folder.path)
        if name == "socket":
            return f"unix:{self._folder.path / 'web.sock'}"
        if name in ("dead", "gone"):
            return self._refusals.setdefault(name, Refusal()).address
        if name not in self.origins:
            self.origins[name] = Origin(self._folder.path if name == "app" else None, self._shows)
        return self.origins[name].address


class Stages:
    """The running stage; one at a time, because cases of one configuration follow one another."""

    def __init__(self, subject: type[Subject] = Penstock) -> None:
        self._subject = subject
        self._text: str | None = None
        self._stage: Stage | None = None

    def of(self, config: str) -> Stage:
        """The stage for a configuration, started anew if the last one was another."""
        if self._stage is None or self._text != config:
            self.close()
            self._stage, self._text = Stage(config, self._subject), config
        return self._stage

    def close(self) -> None:
        """Stop it."""
        if self._stage is not None:
            self._stage.close()
        self._stage = None


def complete(config: Config) -> Config:
    """Fill in what a snippet leaves out: one worker, a listener `web`, an upstream `origin`, a route to it."""
    listeners = config.setdefault("listeners", {"web": {}})
    for listener in listeners.values():
        listener.setdefault("bind", "127.0.0.1:0")
    upstreams = config.setdefault("upstreams", {"origin": {}})
    for name, upstream in upstreams.items():
        upstream.setdefault("endpoints", ["{" + name + "}"])
    routes = config.setdefault("routes", [{"upstream": next(iter(upstreams))}])
    # First, so that no match of the case hides it.
    config["routes"] = [SENTINEL_ROUTE, *routes]
    config.setdefault("engine", {}).setdefault("workers", 1)
    return config


def _binds(config: Config) -> list[tuple[str, str]]:
    return [(name, str(listener["bind"])) for name, listener in config["listeners"].items()]
