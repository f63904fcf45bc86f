"""Listeners: where connections are accepted."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from penstock.config.model.base import Flag, HeadSize, Model, Size, Timeout, Whole
from penstock.config.model.capture import Capture
from penstock.config.model.forward import Interception, Origins, Rule, Told, Users
from penstock.config.model.page import ErrorPages
from penstock.config.model.rate import Rate, rate_from_text
from penstock.config.model.tls import ListenerTls


def one_or_many(value: object) -> object:
    """A single text is a list of one."""
    return (value,) if isinstance(value, str) else value


class ListenerTimeouts(Model):
    """How long the client is waited for, named by what is awaited."""

    tls: Timeout = timedelta(seconds=10)
    """A whole TLS handshake. Default "10s"."""
    hello: Timeout = timedelta(seconds=5)
    """What a client says first in a TLS handshake: with "tcp" where routes ask for `sni` or `alpn`, with "forward" in a
    tunnel that is to be opened. Default "5s"."""
    head: Timeout = timedelta(seconds=10)
    """A whole request head, counted from its first byte however slowly it comes. Default "10s"."""
    body: Timeout = timedelta(seconds=60)
    """The next bytes of a request body. Default "60s"."""
    write: Timeout = timedelta(seconds=60)
    """Room to write when the client does not read. Default "60s"."""
    rate: Timeout = timedelta(seconds=10)
    """A body or a reader that is slower than `limits.body_rate` or `limits.write_rate`, before it is judged. Default
    "10s"."""
    idle: Timeout = timedelta(seconds=75)
    """The next request on a connection that is kept open; with "tcp": bytes in either direction, with "udp" datagrams.
    Default "75s", with "tcp" "10m", with "udp" "60s"."""
    tunnel: Timeout = timedelta(hours=1)
    """Bytes in either direction on an upgraded connection (WebSocket). Default "1h"."""


ConnectionRate = Annotated[Rate | None, BeforeValidator(rate_from_text, json_schema_input_type=str | Rate)]


class ListenerLimits(Model):
    """How much one client may ask. What goes beyond is refused and counted."""

    head: HeadSize = 64 << 10
    """Bytes of a request head, request line included; beyond: 431. Default "64KB"."""
    fields: Annotated[Whole, Field(ge=1, le=65535)] = 100
    """Header fields of a request; beyond: 431. Default 100."""
    uri: HeadSize = 8 << 10
    """Bytes of the request target; beyond: 414. Default "8KB"."""
    body: Annotated[Size, Field(le=(1 << 63) - 1)] | None = None
    """Bytes of a request body; beyond: 413. Default: no limit. A route's `limits.body` goes before it."""
    body_rate: Annotated[Size, Field(le=(1 << 32) - 1)] = 500
    """Bytes a second that a request body must reach once it has taken `timeouts.rate`. 0 switches it off. Default
    500."""
    write_rate: Annotated[Size, Field(le=(1 << 32) - 1)] = 500
    """Bytes a second that a client must take of its answer, over the time in which we waited for it to take some, once
    that is `timeouts.rate`. 0 switches it off. Default 500."""
    connections: Annotated[Whole, Field(ge=1, le=(1 << 32) - 1)] | None = None
    """Open connections; one more is refused. Default: no limit but the system's."""
    connections_per_client: Annotated[Whole, Field(ge=1, le=(1 << 32) - 1)] | None = None
    """Open connections of one client address (of one /64 with IPv6); one more is refused. Those of `trusted_proxies`
    are not counted. Default: no limit."""
    connection_rate: ConnectionRate = None
    """New connections, as "1000/s" or { rate = "1000/s", burst = 2000 }; one more is refused. Default: no limit."""
    connection_rate_per_client: ConnectionRate = None
    """New connections of one client address (of one /64 with IPv6), as "10/s"; one more is refused. Those of
    `trusted_proxies` are not counted. Default: no limit."""
    sessions: Annotated[Whole, Field(ge=1, le=1 << 24)] = 65536
    """With "udp": open sessions, each worker an equal part; for one more that which was used least recently ends.
    Default 65536."""
    sessions_per_client: Annotated[Whole, Field(ge=1, le=1 << 24)] | None = None
    """With "udp": open sessions of one client address (of one /64 with IPv6); one more is refused. Default: no
    limit."""
    session_rate: ConnectionRate = None
    """With "udp": new sessions, as "1000/s"; one more is refused. Default: no limit."""
    session_rate_per_client: ConnectionRate = None
    """With "udp": new sessions of one client address (of one /64 with IPv6), as "20/s"; one more is refused. Default:
    no limit."""
    requests: Annotated[Whole, Field(ge=1, le=(1 << 32) - 1)] | None = None
    """Requests on one connection, after which it is closed. Default: no limit."""
    streams: Annotated[Whole, Field(ge=1, le=1000)] = 100
    """Requests at once on one connection of HTTP/2. Default 100."""
    handshakes: Annotated[Whole, Field(ge=1, le=(1 << 32) - 1)] = 2048
    """TLS handshakes under way at once, of each worker; with one more, that which takes longest is given up. Default
    2048."""


class ProxyProtocol(Model):
    """Who begins each connection with a header of the PROXY protocol, which says for whom it connects."""

    from_: Annotated[tuple[str, ...], Field(min_length=1, alias="from")]
    """Addresses and networks ("10.0.0.0/8", "::1") that must begin so, and "unix" for whoever reaches a unix socket.
    Connections of others have no such header."""
    timeout: Timeout = timedelta(seconds=3)
    """The whole header, from when the connection was made. Default "3s"."""


class HttpsRedirect(Model):
    """Where TLS is spoken, for who comes without."""

    status: Literal[301, 302, 303, 307, 308] = 308
    """301, 302, 303, 307 or 308. Default 308 (permanent, method kept)."""
    port: Annotated[Whole, Field(ge=1, le=65535)] = 443
    """The port of TLS, as clients reach it. Default 443."""


def _off_or_usual(value: object) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    return value


class Listener(Model):
    """A named place that accepts connections."""

    bind: Annotated[
        tuple[str, ...], BeforeValidator(one_or_many, json_schema_input_type=str | tuple[str, ...]), Field(min_length=1)
    ] = ()
    """One address or a list of them: ":8080" (every address, both families), "127.0.0.1:8080", "[::1]:8080" or
    "unix:/run/penstock.sock". Port 0 asks the system for a free one. Only a listener that another names as its `http`
    may be without."""
    protocol: Literal["http", "tcp", "udp", "forward"] = "http"
    """What is spoken: "http" (HTTP/2, HTTP/1.1 and HTTP/1.0), "tcp" (bytes, passed on as they are), "udp" (datagrams,
    passed on as they are) or "forward" (HTTP/1.1 for whatever server the client names, and tunnels to it). Default
    "http"."""
    upstream: str | None = None
    """With "tcp" and "udp": name of the upstream whose endpoints get the sessions that no route takes. Default: they
    are refused."""
    http: str | None = None
    """With "tcp", without `tls`: name of the listener of "http", with `tls`, that takes the connections that no route
    takes, on this port. Default: there is none."""
    responses: Annotated[Whole, Field(ge=1, le=(1 << 32) - 1)] | None = None
    """With "udp": datagrams by which an endpoint answers each of a client; with them a session ends. Default: they do
    not end it."""
    allow_clients: tuple[str, ...] = ()
    """With "forward": addresses and networks ("10.0.0.0/8", "fd00::/8") of clients that are served beside those of this
    machine; others get 403. Default: none."""
    users: Users | None = None
    """With "forward": a table with `htpasswd`: clients have to prove to be one of its users; others get 407. Default:
    nobody has to."""
    connect_ports: tuple[Whole | str, ...] = (443,)
    """With "forward": ports, as 443, and ranges, as "8000-8100", to which tunnels (CONNECT) may go; to others: 403.
    Default [443]."""
    allow_private: Flag = False
    """With "forward": whether addresses may be reached that are not of the public internet, as 127.0.0.1 and
    192.168.1.1; otherwise 403. Addresses of our own listeners never are. Default false."""
    forwarded_for: Told = "delete"
    """With "forward": what servers hear of the client in X-Forwarded-For: "on" (its address behind what it says
    itself), "off" ("unknown" behind that), "transparent" (what it says itself), "truncate" (its address) or "delete"
    (nothing). Default "delete"."""
    forwarded: Told = "delete"
    """With "forward": what they hear of it in Forwarded, in the same words. Default "delete"."""
    via: Flag = True
    """With "forward": whether they hear of us in Via, by which loops through other proxies are known. Default true."""
    anonymous: Flag = False
    """With "forward": whether they hear nothing of the client that a request does not need: fields by a list, a plain
    User-Agent, no Referer of another site, no Via. Default false."""
    parent: str | None = None
    """With "forward": name of the upstream, whose endpoints are proxies, through which requests go out, unless a rule
    says otherwise. Default: they go straight to servers."""
    rules: tuple[Rule, ...] = ()
    """With "forward": what becomes of requests, tried in the order written; the first that matches decides, and after
    the last they go out. Default: none."""
    origins: Origins = Origins.defaults()
    """With "forward": how the servers that clients name are treated."""
    interception: Interception = Interception.defaults()
    """With "forward": how tunnels are opened, where a rule says `intercept`."""
    tls: ListenerTls | None = None
    """Certificates, where TLS is spoken, or "internal": one for development, by an authority on this machine. Default:
    none, so it is not."""
    h2c: Flag = False
    """Without TLS, speak HTTP/2 to clients that begin with it (prior knowledge); HTTP/1.1 goes on beside it. With TLS
    see `alpn`. Default false."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks ("10.0.0.0/8", "::1") whose X-Forwarded-* and Forwarded fields are believed. Default:
    none."""
    proxy_protocol: ProxyProtocol | None = None
    """From whom connections begin with a header of the PROXY protocol (version 1 or 2), which says who the client is.
    Default: from nobody."""
    https_redirect: Annotated[
        HttpsRedirect | None, BeforeValidator(_off_or_usual, json_schema_input_type=bool | HttpsRedirect)
    ] = None
    """Whether who comes over plain HTTP is sent to the same place over TLS: true, or a table with `status` and `port`.
    Default: nobody is."""
    timeouts: ListenerTimeouts = ListenerTimeouts.defaults()
    """How long the client is waited for."""
    limits: ListenerLimits = ListenerLimits.defaults()
    """How much one client may ask."""
    capture: Capture | None = None
    """Which exchanges are kept, in memory, to be looked at with `penstock capture`. Default: none."""
    error_pages: ErrorPages = Field(default_factory=dict)
    """Pages for failures, by status ("503") or class ("5xx"), where the route has none. Default: none."""
