"""Configuration: from a file or a Python value to a Plan.

`load` reads and gives the typed model its shape, `check` says whether it holds together, `compile_plan` makes the
Plan (`compile_text` as it crosses the border), and a `Memory` spares a reload what did not change. What lives here
decides by looking at a configuration alone. What must not: sockets, names to resolve, threads, the data plane
(`penstock.engine`), or anything that runs while requests do. Of the package, only `penstock.errors` may be imported."""

from penstock.config.check import check
from penstock.config.check_pages import page_files
from penstock.config.compile import Plan, compile_plan, compile_text, resolve_address
from penstock.config.compile_list import fetched_file
from penstock.config.document import Loaded
from penstock.config.expression import compile_expression
from penstock.config.file import read_file
from penstock.config.load import load, load_value
from penstock.config.memory import Memory
from penstock.config.model import (
    AccessLog,
    Addon,
    Admin,
    Config,
    Cors,
    Endpoint,
    EngineSettings,
    Filter,
    HealthCheck,
    Listener,
    ListenerLimits,
    ListenerTimeouts,
    Log,
    Redirect,
    ReplacePrefix,
    Respond,
    RewritePath,
    Route,
    RouteLimits,
    RouteTest,
    RouteTimeouts,
    Share,
    Split,
    Upstream,
    UpstreamLimits,
    UpstreamTimeouts,
)
from penstock.config.policy import policy_faults
from penstock.config.request import Expectation, TestRequest, explain_request, test_requests
from penstock.config.schema import config_schema

__all__ = [
    "AccessLog",
    "Addon",
    "Admin",
    "Config",
    "Cors",
    "Endpoint",
    "EngineSettings",
    "Expectation",
    "Filter",
    "HealthCheck",
    "Listener",
    "ListenerLimits",
    "ListenerTimeouts",
    "Loaded",
    "Log",
    "Memory",
    "Plan",
    "Redirect",
    "ReplacePrefix",
    "Respond",
    "RewritePath",
    "Route",
    "RouteLimits",
    "RouteTest",
    "RouteTimeouts",
    "Share",
    "Split",
    "TestRequest",
    "Upstream",
    "UpstreamLimits",
    "UpstreamTimeouts",
    "check",
    "compile_expression",
    "compile_plan",
    "compile_text",
    "config_schema",
    "explain_request",
    "fetched_file",
    "load",
    "load_value",
    "page_files",
    "policy_faults",
    "read_file",
    "resolve_address",
    "test_requests",
]
