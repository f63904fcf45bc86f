"""The typed model of a configuration: what a file or a Python program may say, with units and defaults.

A model accepts the right shape and types. Whether names exist, texts are well formed and values fit each other is
decided in `check.py`, so that every fault of a file is found in one go. Docstrings of fields are the descriptions
that editors show."""

from penstock.config.model.addon import Addon
from penstock.config.model.affinity import Affinity, Secret
from penstock.config.model.balance import HashBalance
from penstock.config.model.capture import Capture
from penstock.config.model.config import AccessLog, Admin, Config, Dns, EngineSettings, Log, RouteTest
from penstock.config.model.filter import (
    Compress,
    Cors,
    EditCookies,
    Filter,
    Hsts,
    MapLocation,
    ReplacePrefix,
    RewritePath,
)
from penstock.config.model.forward import Interception, Origins, OriginTls, Rule, Users
from penstock.config.model.health import BodyTest, HealthCheck, LatencyOutlier, Outlier, Words
from penstock.config.model.list import List
from penstock.config.model.listener import HttpsRedirect, Listener, ListenerLimits, ListenerTimeouts, ProxyProtocol
from penstock.config.model.page import ErrorPage
from penstock.config.model.rate import Rate
from penstock.config.model.retry import Backoff, Retry
from penstock.config.model.route import (
    ForwardAuth,
    Maintenance,
    Mirror,
    Override,
    Redirect,
    Respond,
    Route,
    RouteLimits,
    RouteTimeouts,
    Share,
    Split,
)
from penstock.config.model.tls import Certificate, ClientCertificates, ServerName, Tls, UpstreamTls
from penstock.config.model.upstream import Endpoint, Parent, Queue, Upstream, UpstreamLimits, UpstreamTimeouts

__all__ = [
    "AccessLog",
    "Addon",
    "Admin",
    "Affinity",
    "Backoff",
    "BodyTest",
    "Capture",
    "Certificate",
    "ClientCertificates",
    "Compress",
    "Config",
    "Cors",
    "Dns",
    "EditCookies",
    "Endpoint",
    "EngineSettings",
    "ErrorPage",
    "Filter",
    "ForwardAuth",
    "HashBalance",
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
    "ProxyProtocol",
    "Queue",
    "Rate",
    "Redirect",
    "ReplacePrefix",
    "Respond",
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
    "Tls",
    "Upstream",
    "UpstreamLimits",
    "UpstreamTimeouts",
    "UpstreamTls",
    "Users",
    "Words",
]
