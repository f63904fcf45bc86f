"""Penstock inside a program: the same engine, for as long as a `with` block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock.config import explain_request
from penstock.control.commands import read_order
from penstock.control.source import source_of
from penstock.errors import ControlError, UsageError
from penstock.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from penstock.config import Config
    from penstock.engine import AffinityTable, Applied, Explanation, Stats

_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound
"""Where a listener on every address can be reached from here."""


class Proxy:
    """A running proxy. It stops, and leaves nothing behind, when the block ends, however it ends.

        with penstock.Proxy({"listeners": {"web": {"bind": "127.0.0.1:0"}}, …}) as proxy:
            httpx.get(proxy.url("web"))

    One object runs once; many can run one after another, or side by side.
    """

    def __init__(self, config: Config | Mapping[str, Any] | str | Path) -> None:
        """`config` is a `Config`, a mapping of the same shape, or the path of a configuration file."""
        self._config = config
        self._service: Service | None = None
        self._serving = False

    def __enter__(self) -> Self:
        """Start. Raises `ConfigError`, with nothing left open, for a configuration that cannot run."""
        if self._service is not None:
            raise UsageError("this Proxy runs or has run: make another")
        self._service = Service(source_of(self._config))
        self._service.start()
        self._serving = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection and end every thread, at once. Call `drain` before to let requests finish."""
        service = self._running
        self._serving = False
        service.stop()

    def address(self, listener: str | None = None) -> tuple[str, int]:
        """Host and port of a listener (the first by default) as it really is: port 0 became a number.

        A listener on every address gives `"127.0.0.1"` or `"::1"`, which can be connected to. Raises `UsageError` for a
        listener that does not exist or has only a unix socket.
        """
        name, addresses = self._listener(listener)
        for text in addresses:
            host, _, port = text.rpartition(":")
            host = host.strip("[]")
            if not text.startswith("unix:"):
                return _EVERYWHERE.get(host, host), int(port)
        raise UsageError(f"listener {name!r} has no TCP address")

    def url(self, listener: str | None = None) -> str:
        """URL of a listener (the first by default), such as `http://127.0.0.1:41234` (`https` with TLS)."""
        name, _ = self._listener(listener)
        host, port = self.address(name)
        has_tls = any(row.certificates for row in self.stats().listeners if row.name == name)
        scheme = "https" if has_tls else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def apply(self, config: Config | Mapping[str, Any] | str | Path | None = None) -> Applied:
        """Run another configuration from now on, or load the same path again.

        What has not changed lives on: listeners, connections, pools, counters. Raises `ConfigError`, and the old
        configuration goes on, if any part of it cannot run.
        """
        return self._running.controller.reload(source_of(config) if config is not None else None)

    def stats(self) -> Stats:
        """Counters and states, read once."""
        return self._running.controller.stats()

    def endpoint(self, upstream: str, address: str, order: str) -> None:
        """Drain, use, disable or weigh one endpoint: `"drain"`, `"ready"`, `"disable"` or `"weight=3"`.

        It holds at once, and until the endpoint is configured otherwise.
        """
        self._running.controller.order(upstream, address, read_order(order))

    def maintenance(self, on: bool, route: str | None = None) -> None:
        """Put one route, or all there are, into maintenance or back into service.

        It holds at once, and until the route is configured otherwise.
        """
        self._running.controller.maintain(route, on)

    def affinity(
        self, upstream: str, key: str | None = None, *, endpoint: str | None = None, clear: bool = False
    ) -> AffinityTable:
        """The table that binds clients to the endpoints of an upstream: as a whole, or what it knows of one client.

        With `clear` it forgets: the client with this key, those of one endpoint, or all.
        """
        query = {"key": key, "endpoint": endpoint, "clear": clear}
        return self._running.controller.affinity(upstream, query)

    def explain(  # noqa: PLR0913 - one parameter for each part of a request
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        *,
        body: str | None = None,
        client: str | None = None,
        listener: str | None = None,
        user: str | None = None,
    ) -> Explanation:
        """Which way a request would take now, and why not another. `url` is absolute; nothing is sent. `user` is who
        asks of a forward proxy, which is believed."""
        fields = headers.items() if isinstance(headers, Mapping) else headers
        request = explain_request(method, url, fields, body=body, client=client, listener=listener, user=user)
        return self._running.controller.explain(request)

    def drain(self, wait: float = 30.0) -> bool:
        """Accept nothing more and let finish what is under way, for up to `wait` seconds. True if all of it did."""
        return self._running.controller.drain(wait)

    @property
    def admin(self) -> str | None:
        """Address of the admin listener, if the configuration has one."""
        return self._running.admin.address

    @property
    def _running(self) -> Service:
        if self._service is None or not self._serving:
            raise ControlError("this Proxy does not run: use it in a with block")
        return self._service

    def _listener(self, name: str | None) -> tuple[str, tuple[str, ...]]:
        """A listener (the first that is written by default) with its addresses."""
        found = self._running.controller.addresses
        if name is None and found:
            name = next(iter(found))
        if name not in found:
            raise UsageError(f"no listener {name!r}: there are {', '.join(map(repr, found)) or 'none'}")
        return name, found[name]
