"""Whether a configuration holds together: every fault at once, each at its key, and warnings for what is allowed but
doubtful.

A rule here looks at one configuration and nothing else: no name is resolved, no file opened, no socket bound. Rules
of single texts are in `texts.py`, those of routes in `check_routes.py`, those of health checks in
`check_health.py`."""

from __future__ import annotations

from datetime import date, time
from typing import TYPE_CHECKING, TypeVar

from penstock.config import check_balance, check_routes, texts
from penstock.config.check_condition import check_condition
from penstock.config.check_forward import check_forward
from penstock.config.check_health import check_health
from penstock.config.check_layer4 import check_layer4
from penstock.config.check_lists import check_lists
from penstock.config.check_pages import check_pages
from penstock.config.check_parents import check_parents
from penstock.config.check_tls import check_listener_tls, check_tls
from penstock.config.collector import uncollected
from penstock.config.compile import resolve_address
from penstock.config.document import unknown
from penstock.config.policy import policy_faults
from penstock.errors import ConfigError, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.config.document import KeyPath, Loaded
    from penstock.config.model import Addon, Listener, ProxyProtocol, RouteTest, Upstream

_T = TypeVar("_T")

CONSEQUENCES = (
    "has no action",
    "is empty",
    "expects nothing",
    "listeners: none",
    "has exactly one key",
    "a rule has exactly",
    "user and password go together",
)
"""How sentences begin that may be true only because a key of the wrong shape was left out."""


def check(loaded: Loaded) -> list[Fault]:
    """Raise `ConfigError` with all faults, or return the warnings."""
    faults, warnings = find_faults(loaded)
    if faults:
        raise ConfigError(faults)
    return warnings


@uncollected()
def find_faults(loaded: Loaded) -> tuple[list[Fault], list[Fault]]:
    """All faults and all warnings, in the order of the document's lines."""
    return _Check(loaded).run()


class _Check:
    """One pass over one configuration."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.config = loaded.config
        self.faults: list[tuple[KeyPath, str]] = []
        self.warnings: list[tuple[KeyPath, str]] = []

    def run(self) -> tuple[list[Fault], list[Fault]]:
        if not self.config.listeners:
            self.fault(
                (), "listeners: none is given, so nothing would be accepted; add one, as [listeners.web] with bind"
            )
        for name, listener in self.config.listeners.items():
            self.listener(name, listener)
        for name, upstream in self.config.upstreams.items():
            self.upstream(name, upstream)
        for name, addon in self.config.addons.items():
            self.addon(("addons", name), name, addon)
        check_pages(("error_pages",), self.config.error_pages, self.fault)
        for index, server in enumerate(self.config.dns.servers):
            self.attempt(("dns", "servers", index), texts.read_server, server)
        for key, message in policy_faults(self.config, [((), policy) for policy in self.loaded.document.policies]):
            self.fault(key, message)
        self.binds()
        names = check_routes.check_routes(self.loaded, self.fault, self.warn)
        check_lists(self.config, self.loaded.memory, self.fault)
        check_layer4(self.loaded, self.fault, self.warn)
        check_forward(self.loaded, self.fault, self.warn)
        check_parents(self.config, self.fault, self.warn)
        for index, test in enumerate(self.config.tests):
            self.test(("tests", index), test, names)
        return self._placed(self.faults), self._placed(self.warnings)

    def fault(self, key: KeyPath, message: str | None) -> None:
        """Keep a fault; rules that found nothing wrong hand over nothing."""
        if message:
            self.faults.append((key, message))

    def warn(self, key: KeyPath, message: str | None) -> None:
        """Keep a warning."""
        if message:
            self.warnings.append((key, message))

    def listener(self, name: str, listener: Listener) -> None:
        key: KeyPath = ("listeners", name)
        self.fault(key, texts.wrong_name(name))
        for index, network in enumerate(listener.trusted_proxies):
            self.attempt((*key, "trusted_proxies", index), texts.read_network, network)
        if listener.proxy_protocol is not None:
            self.proxy_protocol((*key, "proxy_protocol"), listener, listener.proxy_protocol)
        if listener.h2c and listener.tls:
            self.fault((*key, "h2c"), 'is HTTP/2 without TLS, and this listener has TLS: name "h2" in tls.alpn')
        if listener.tls:
            check_listener_tls((*key, "tls"), listener.tls, self.fault)
        check_pages((*key, "error_pages"), listener.error_pages, self.fault)
        if listener.capture is not None:
            check_condition((*key, "capture", "match"), listener.capture.match, self.fault)
            if listener.capture.bodies * 4 > listener.capture.memory:
                self.fault((*key, "capture", "bodies"), "is more than a quarter of memory: two bodies would fill it")
        if listener.https_redirect is not None and listener.tls is not None and not listener.trusted_proxies:
            self.fault(
                (*key, "https_redirect"), "TLS is spoken here, so nobody comes without; it belongs to a plain listener"
            )

    def proxy_protocol(self, key: KeyPath, listener: Listener, senders: ProxyProtocol) -> None:
        for index, sender in enumerate(senders.from_):
            if sender == "unix":
                if not any(bind.startswith("unix:") for bind in listener.bind):
                    self.fault((*key, "from", index), '"unix" is whoever reaches a unix socket, and bind has none')
            elif (network := self.attempt((*key, "from", index), texts.read_network, sender)) and network.endswith(
                "/0"
            ):
                self.warn(
                    (*key, "from", index),
                    f'"{sender}" lets everybody say who they are; name the proxies that connect here',
                )

    def upstream(self, name: str, upstream: Upstream) -> None:
        key: KeyPath = ("upstreams", name)
        self.fault(key, texts.wrong_name(name))
        seen: dict[str, int] = {}
        for index, endpoint in enumerate(upstream.endpoints):
            place: KeyPath = (*key, "endpoints", index)
            self.fault(place, texts.wrong_endpoint(endpoint.address))
            first = seen.setdefault(texts.same_place(self.resolved(endpoint.address)), index)
            if first != index:
                before = upstream.endpoints[first].address
                also = "" if before == endpoint.address else f', the first time as "{before}"'
                self.fault(place, f'"{endpoint.address}" is written twice{also}; give it a greater weight instead')
        if not any(endpoint.weight for endpoint in upstream.endpoints):
            self.warn((*key, "endpoints"), "every weight is 0, so no endpoint takes requests")
        check_balance.check_balance(key, upstream, self.config, self.fault, self.warn)
        if upstream.host not in ("keep", "upstream") and (wrong := texts.wrong_authority(upstream.host)):
            self.fault((*key, "host"), f'{wrong}; allowed: "keep", "upstream" or a host name')
        check_health(key, upstream, self.fault)
        check_tls(key, upstream, self.fault, self.warn)

    def addon(self, key: KeyPath, name: str, addon: Addon) -> None:
        self.fault(key, texts.wrong_name(name))
        # Only a program can give an object; whatever else a file can hold is no module.
        if isinstance(addon.module, str):
            self.fault((*key, "module"), texts.wrong_module(addon.module))
        elif addon.module is None or isinstance(addon.module, bool | int | float | list | dict | date | time):
            self.fault((*key, "module"), texts.MODULE)

    def binds(self) -> None:
        """A place can be bound once, by one listener or the admin listener. Port 0 is another port each time."""
        taken: dict[tuple[str, int], str] = {}
        # Datagrams have ports of their own.
        datagrams: dict[tuple[str, int], str] = {}
        for name, listener in self.config.listeners.items():
            places = datagrams if listener.protocol == "udp" else taken
            for index, bind in enumerate(listener.bind):
                self.bind(("listeners", name, "bind", index), bind, f"listener {name}", places)
        if self.config.admin is not None:
            key: KeyPath = ("admin", "bind")
            bind = self.config.admin.bind
            if self.bind(key, bind, "the admin listener", taken) and not texts.is_loopback(bind):
                allowed = 'a loopback address, as "127.0.0.1:9901", or "unix:/run/penstock-admin.sock"'
                self.fault(key, f'"{bind}" can be reached from other machines; allowed: {allowed}')

    def bind(self, key: KeyPath, bind: str, owner: str, taken: dict[tuple[str, int], str]) -> bool:
        """Whether a bind can be read. Notes what it takes, and whether that is taken."""
        found = self.attempt(key, texts.read_bind, bind)
        places = [(self.resolved(f"unix:{host}"), port) if port < 0 else (host, port) for host, port in found or ()]
        rivals = (other for other in taken for place in places if place[1] != 0 and texts.overlap(place, other))
        if (other := next(rivals, None)) is not None:
            self.fault(key, f'"{bind}" is already bound by {taken[other]}')
        taken.update(dict.fromkeys(places, owner))
        return found is not None

    def test(self, key: KeyPath, test: RouteTest, route_names: set[str]) -> None:
        if all(expected is None for expected in (test.route, test.upstream, test.mirror, test.status)):
            self.fault(key, "expects nothing; give at least one of route, upstream, mirror and status")
        for name, value, known in (
            ("route", test.route, route_names),
            ("upstream", test.upstream, set(self.config.upstreams)),
            ("mirror", test.mirror or None, set(self.config.upstreams)),
            ("listener", test.listener, set(self.config.listeners)),
        ):
            if value is not None and value not in known:
                self.fault((*key, name), unknown(name, value, known))
        self.attempt((*key, "url"), texts.read_url, test.url)
        self.fault((*key, "method"), texts.wrong_token(test.method, "a method"))
        self.attempt((*key, "client"), texts.read_client, test.client)
        for name, value in test.headers.items():
            self.fault((*key, "headers", name), texts.wrong_token(name) or texts.wrong_field_value(value))

    def attempt(self, key: KeyPath, read: Callable[[str], _T], text: str) -> _T | None:
        """What a reader makes of a text, or nothing with a fault."""
        try:
            return read(text)
        except ValueError as error:
            self.fault(key, str(error))
            return None

    def resolved(self, address: str) -> str:
        """An address as the plan has it: the path of a unix socket is relative to the file."""
        return resolve_address(address, self.loaded.folder)

    def _placed(self, found: list[tuple[KeyPath, str]]) -> list[Fault]:
        faults = [self.loaded.document.fault(key, message) for key, message in found]
        return sorted(faults, key=lambda fault: (fault.line is None, fault.line or 0))
