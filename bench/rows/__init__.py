"""What is measured, one module for each group of rows. A new row is a function and one line here."""

from collections.abc import Callable

from bench.figures import Result
from bench.rows import (
    access_log,
    balancing,
    datagrams,
    http2,
    idle,
    json_route,
    large,
    latency,
    lists,
    outward,
    relay,
    requests,
    sessions,
    start,
    tls,
)
from bench.stand import Stand

Row = Callable[[Stand], Result]

ROWS: dict[str, Row] = {
    "P1": requests.one_route,
    "P1+": balancing.one_route,
    "P2": requests.many_routes,
    "P2+": balancing.many_routes,
    "P3": access_log.access_log,
    "P4": http2.to_http1,
    "P5": tls.http1,
    "P7": relay.relay,
    "P8": datagrams.datagrams,
    "P9": outward.outward,
    "P10": idle.idle_connections,
    "P11": latency.added_latency,
    "P12": large.large_bodies,
    "P13": start.start_and_reload,
    "P14": requests.churn,
    "JSON": json_route.json_route,
    "LISTS": lists.lists,
    "SESSIONS": sessions.sessions,
}
