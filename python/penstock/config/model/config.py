"""The whole configuration, and what belongs to the process rather than to one listener."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from penstock.config.model.addon import Addon
from penstock.config.model.base import Duration, Model, Size, Whole
from penstock.config.model.list import List
from penstock.config.model.listener import Listener
from penstock.config.model.page import ErrorPages
from penstock.config.model.route import Route
from penstock.config.model.upstream import Upstream


class EngineSettings(Model):
    """The data plane's threads."""

    workers: Annotated[Whole, Field(ge=1, le=1024)] | None = None
    """Worker threads, 1 to 1024. Fixed while the process runs. Default: one for each CPU that the process may use."""
    drain_timeout: Duration = timedelta(seconds=30)
    """How long a removed listener and a stopping process wait for what is under way. Default "30s"."""
    memory: Annotated[Size, Field(le=(1 << 60))] | None = None
    """Memory for the process. As it fills, idle connections are closed, then new requests are refused. 0: no limit.
    Default: nine tenths of what the process's control group (container) has, if that is limited."""
    watchdog: Duration = timedelta(seconds=5)
    """How long a worker may stand still before the log and the metrics say so and the process is not ready. "0s"
    switches it off. Default "5s"."""


class Dns(Model):
    """Who is asked for the addresses of endpoints that are written as names."""

    servers: tuple[str, ...] = ()
    """Name servers: "10.0.0.53", or with a port "10.0.0.53:5353", "[::1]:53". Default: those of the system."""
    prefer: Literal["ipv4", "ipv6"] = "ipv4"
    """Which addresses of a name are tried first that has both kinds: "ipv4" or "ipv6". Default "ipv4"."""


class Admin(Model):
    """The admin listener: /metrics, /healthz, /readyz and /status."""

    bind: str = "127.0.0.1:9901"
    """A loopback address with its port, or "unix:/run/penstock-admin.sock". Default "127.0.0.1:9901"."""


class AccessLog(Model):
    """One record for each exchange."""

    format: Literal["json", "combined", "haproxy"] = "json"
    """Shape of a record: "json" (one object a line), "combined" (the format that web servers share) or "haproxy"
    (timers and termination flags). Default "json"."""
    to: Annotated[str, Field(min_length=1)] = "stdout"
    """"stdout", or the path of a file, relative to the configuration file. Default "stdout"."""
    query: bool = True
    """Whether records have the queries of targets and referrers, which may hold what is nobody else's. Default true."""


class Log(Model):
    """What is written down while running."""

    access: AccessLog | None = None
    """The access log. Default: none."""


class RouteTest(Model):
    """A request and what must become of it. Tests run in `penstock check` and before every reload; one that fails
    refuses the configuration. At least one of `route`, `upstream`, `mirror` and `status` is given."""

    name: str | None = None
    """Shown when the test fails. Default: the method and the URL."""
    method: str = "GET"
    """Method of the request. Default "GET"."""
    url: str
    """Absolute URL: "http://shop.example/images/a.png?size=2"."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Header fields of the request. Default: none."""
    body: str | None = None
    """Body of the request, for matches that ask for JSON values. Default: none."""
    client: str = "192.0.2.1"
    """Address of the client. Default "192.0.2.1"."""
    listener: str | None = None
    """Name of the listener that the request comes in on. Default: the first."""
    route: str | None = None
    """Expected: name of the route taken."""
    upstream: str | None = None
    """Expected: name of the upstream asked, or of one of a split's."""
    mirror: str | None = None
    """Expected: name of the upstream that may get a copy; "" where none may."""
    status: Annotated[Whole, Field(ge=100, le=599)] | None = None
    """Expected: status of an answer of Penstock's own (respond, redirect, 404 without a route)."""


class Config(Model):
    """A whole configuration of Penstock."""

    listeners: dict[str, Listener] = Field(default_factory=dict)
    """Where connections are accepted, by name."""
    upstreams: dict[str, Upstream] = Field(default_factory=dict)
    """Groups of endpoints, by name."""
    routes: tuple[Route, ...] = ()
    """Tried in the order written; the first that matches wins."""
    lists: dict[str, List] = Field(default_factory=dict)
    """Domains, networks or regular expressions that expressions look into, by name."""
    error_pages: ErrorPages = Field(default_factory=dict)
    """Pages for failures, by status ("503") or class ("5xx"), where neither route nor listener has
    any. Default: none."""
    addons: dict[str, Addon] = Field(default_factory=dict)
    """Python code that routes may name, by name."""
    engine: EngineSettings = EngineSettings.defaults()
    """Threads that serve, and how long a stopping process waits."""
    dns: Dns = Dns.defaults()
    """Name servers."""
    admin: Admin | None = None
    """The admin listener. Default: none."""
    log: Log = Log.defaults()
    """Logs and where they go."""
    tests: tuple[RouteTest, ...] = ()
    """Requests and what must become of them."""
