"""One program in front of everything: configured, extended and observed in Python; bytes are moved by Rust.

    with penstock.Proxy("penstock.toml") as proxy:
        print(proxy.url("web"))

Only the public names live here. Each is imported at its first use, because the command line starts with this module
and most commands need few of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.addons.message import Headers, Request, Response
    from penstock.config.model import (
        AccessLog,
        Addon,
        Admin,
        Affinity,
        Backoff,
        BodyTest,
        Capture,
        Certificate,
        ClientCertificates,
        Compress,
        Config,
        Cors,
        Dns,
        EditCookies,
        Endpoint,
        EngineSettings,
        ErrorPage,
        Filter,
        ForwardAuth,
        HashBalance,
        HealthCheck,
        Hsts,
        HttpsRedirect,
        Interception,
        LatencyOutlier,
        List,
        Listener,
        ListenerLimits,
        ListenerTimeouts,
        Log,
        Maintenance,
        MapLocation,
        Mirror,
        Origins,
        OriginTls,
        Outlier,
        Override,
        Parent,
        ProxyProtocol,
        Queue,
        Rate,
        Redirect,
        ReplacePrefix,
        Respond,
        Retry,
        RewritePath,
        Route,
        RouteLimits,
        RouteTest,
        RouteTimeouts,
        Rule,
        Secret,
        ServerName,
        Share,
        Split,
        Tls,
        Upstream,
        UpstreamLimits,
        UpstreamTimeouts,
        UpstreamTls,
        Users,
        Words,
    )
    from penstock.config.policy import weights
    from penstock.control.weights import EndpointFigures
    from penstock.engine import AffinityTable, Applied, Explanation, Stats
    from penstock.errors import (
        ConfigError,
        ControlError,
        EngineError,
        ExpressionError,
        Fault,
        PenstockError,
        UsageError,
    )
    from penstock.program import run
    from penstock.proxy import Proxy
    from penstock.version import __version__

__all__ = [
    "AccessLog",
    "Addon",
    "Admin",
    "Affinity",
    "AffinityTable",
    "Applied",
    "Backoff",
    "BodyTest",
    "Capture",
    "Certificate",
    "ClientCertificates",
    "Compress",
    "Config",
    "ConfigError",
    "ControlError",
    "Cors",
    "Dns",
    "EditCookies",
    "Endpoint",
    "EndpointFigures",
    "EngineError",
    "EngineSettings",
    "ErrorPage",
    "Explanation",
    "ExpressionError",
    "Fault",
    "Filter",
    "ForwardAuth",
    "HashBalance",
    "Headers",
    "HealthCheck",
    "Hsts",
    "HttpsRedirect",
    "Interception",
    "LatencyOutlier",
    "List",
    "Listener",
    "ListenerLimits",
    "ListenerTimeouts",
    "Log",
    "Maintenance",
    "MapLocation",
    "Mirror",
    "OriginTls",
    "Origins",
    "Outlier",
    "Override",
    "Parent",
    "PenstockError",
    "Proxy",
    "ProxyProtocol",
    "Queue",
    "Rate",
    "Redirect",
    "ReplacePrefix",
    "Request",
    "Respond",
    "Response",
    "Retry",
    "RewritePath",
    "Route",
    "RouteLimits",
    "RouteTest",
    "RouteTimeouts",
    "Rule",
    "Secret",
    "ServerName",
    "Share",
    "Split",
    "Stats",
    "Tls",
    "Upstream",
    "UpstreamLimits",
    "UpstreamTimeouts",
    "UpstreamTls",
    "UsageError",
    "Users",
    "Words",
    "__version__",
    "run",
    "weights",
]

_ELSEWHERE = {
    "penstock.addons.message": {"Headers", "Request", "Response"},
    "penstock.config.policy": {"weights"},
    "penstock.control.weights": {"EndpointFigures"},
    "penstock.engine": {"AffinityTable", "Applied", "Explanation", "Stats"},
    "penstock.errors": {
        "ConfigError", "ControlError", "EngineError", "ExpressionError", "Fault", "PenstockError", "UsageError",
    },
    "penstock.program": {"run"},
    "penstock.proxy": {"Proxy"},
    "penstock.version": {"__version__"},
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'penstock' has no attribute {name!r}")
    value = getattr(importlib.import_module(_home(name)), name)
    globals()[name] = value
    return value


def _home(name: str) -> str:
    return next((module for module, names in _ELSEWHERE.items() if name in names), "penstock.config.model")
