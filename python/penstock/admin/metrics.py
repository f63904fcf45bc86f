"""The Prometheus text (exposition format 0.0.4) of everything that is counted.

Every label value is a name from the configuration or a word from a fixed list, never a word of a client, so the
number of series is bounded by the configuration. `docs/operations.md` lists the metrics.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from penstock.control.controller import Controller
    from penstock.engine import Stats
    from penstock.engine.stats import EndpointStats, Latency, ListenerStats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[dict[str, str], float]


class Family:
    """One metric with its samples, as lines of text."""

    def __init__(self, name: str, kind: str, meaning: str) -> None:
        """`kind` is `counter`, `gauge` or `histogram`."""
        self.name = f"penstock_{name}"
        self._head = f"# HELP {self.name} {_help(meaning)}\n# TYPE {self.name} {kind}\n"

    def text(self, samples: Iterable[Sample]) -> str:
        """The family with these samples; nothing where there are none. Samples of the same labels are added up."""
        # A scrape with the same series twice is refused as a whole, and a removed listener that drains beside a new
        # one of its name would make such a pair.
        series: dict[str, float] = {}
        for labels, value in samples:
            key = _labels(labels)
            series[key] = series.get(key, 0) + value
        lines = "".join(f"{self.name}{key} {_number(value)}\n" for key, value in series.items())
        return self._head + lines if lines else ""

    def histogram(self, latency: Latency) -> str:
        """The family as a histogram in seconds: cumulative buckets, then the sum and the count."""
        lines, total = [], 0
        bounds = [_number(bound / 1e6) for bound in latency.bounds_us]
        for bound, count in zip([*bounds, "+Inf"], latency.counts, strict=True):
            total += count
            lines.append(f'{self.name}_bucket{{le="{bound}"}} {total}\n')
        return (
            f"{self._head}{''.join(lines)}{self.name}_sum {_number(latency.sum_us / 1e6)}\n{self.name}_count {total}\n"
        )


def render(controller: Controller, version: str) -> str:
    """Every metric of the process; `version` is Penstock's."""
    stats = controller.stats()
    process = _of_process(controller, stats, version)
    policies = (*_of_policies(controller), *_of_lists(controller, stats))
    parts = (_of_traffic, _of_endpoints, _of_upstreams, _of_mirrors, _of_addons)
    return "".join([*process, *(text for part in parts for text in part(stats)), *policies])


def _of_process(controller: Controller, stats: Stats, version: str) -> Iterator[str]:
    build = {"version": version, "python": ".".join(map(str, sys.version_info[:3]))}
    yield Family("build_info", "gauge", "1, with the versions in its labels.").text([(build, 1)])
    yield _single(
        "start_time_seconds", "gauge", "Start of the process, in seconds since the epoch.", controller.started
    )
    yield _single("workers", "gauge", "Worker threads.", stats.workers)
    stuck = [({"worker": str(worker)}, worker in stats.stuck) for worker in range(stats.workers)]
    yield Family("worker_stuck", "gauge", "1 while the worker does not go on.").text(stuck)
    yield _single("draining", "gauge", "1 while the process drains.", stats.draining)
    yield _single("plan_version", "gauge", "Version of the running plan; 0 before the first.", stats.version)
    outcomes = [({"outcome": outcome}, count) for outcome, count in controller.counts.items()]
    yield Family("reloads_total", "counter", "Configurations tried, the first included, by outcome.").text(outcomes)
    last = controller.history[-1] if controller.history else None
    if last:
        yield _single(
            "reload_last_success", "gauge", "1 if the last configuration tried was applied.", last.version is not None
        )
        yield _single("reload_last_timestamp_seconds", "gauge", "When the last configuration was tried.", last.at)
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield _single("cpu_seconds_total", "counter", "Processor time of the process.", used.ru_utime + used.ru_stime)
    if descriptors := _open_descriptors():
        yield _single("open_fds", "gauge", "Open file descriptors of the process.", descriptors)
    if memory := _resident_bytes():
        yield _single("resident_memory_bytes", "gauge", "Resident memory of the process.", memory)
    yield _single("memory_limit_bytes", "gauge", "Memory for the process; 0 without a limit.", stats.memory.limit)
    meaning = "0 enough, 1 idle connections are closed, 2 new requests are refused."
    yield _single("memory_pressure", "gauge", meaning, stats.memory.pressure)
    meaning = "Allocations that could not be had at once."
    yield _single("allocations_failed_total", "counter", meaning, stats.memory.failed)
    if stats.connections_limit is not None:
        meaning = "Client connections that there are descriptors for."
        yield _single("connections_limit", "gauge", meaning, stats.connections_limit)
    shed = [({"what": what}, count) for what, count in stats.shed.items()]
    yield Family("shed_total", "counter", "Connections closed to make room for others.").text(shed)
    yield _single("panics_total", "counter", "Connections ended by a fault of ours.", stats.panics)
    dropped = "Fields of requests dropped for a _ in their names."
    yield _single("dropped_fields_total", "counter", dropped, stats.dropped_fields)
    yield _single("access_log_records_total", "counter", "Access records written.", stats.access_log.records)
    yield _single(
        "access_log_dropped_total", "counter", "Access records lost: the log was slower.", stats.access_log.dropped
    )
    yield _single("events_dropped_total", "counter", "Events lost: nobody took them in time.", stats.events_dropped)


def _of_captures(stats: Stats) -> Iterator[str]:
    captures = [({"listener": row.name}, row.capture) for row in stats.listeners if row.capture]
    held = [(labels, capture.bytes) for labels, capture in captures]
    yield Family("capture_bytes", "gauge", "Memory that captured exchanges take.").text(held)
    counts = [
        ({**labels, "outcome": outcome}, getattr(capture, outcome))
        for labels, capture in captures
        for outcome in ("captured", "evicted", "dropped")
    ]
    meaning = "Exchanges captured, those that made room for newer ones, and those for which there was none."
    yield Family("captures_total", "counter", meaning).text(counts)


def _of_datagrams(rows: list[ListenerStats]) -> Iterator[str]:
    ways = [({"listener": row.name, "direction": "in"}, row.datagrams_in) for row in rows]
    ways += [({"listener": row.name, "direction": "out"}, row.datagrams_out) for row in rows]
    meaning = "Datagrams of sessions, in (to endpoints) and out (to clients)."
    yield Family("session_datagrams_total", "counter", meaning).text(ways)
    dropped = [({"listener": row.name}, row.datagrams_dropped) for row in rows]
    meaning = "Datagrams that were not passed on: no session, no room, too long."
    yield Family("datagrams_dropped_total", "counter", meaning).text(dropped)


def _of_traffic(stats: Stats) -> Iterator[str]:
    def listeners(name: str, kind: str, meaning: str, field: str) -> str:
        rows = [({"listener": row.name}, getattr(row, field)) for row in stats.listeners]
        return Family(name, kind, meaning).text(rows)

    yield listeners("listener_connections", "gauge", "Open client connections.", "connections")
    yield listeners("listener_accepted_total", "counter", "Client connections accepted.", "accepted")
    yield listeners("listener_refused_total", "counter", "Client connections refused at a limit.", "refused")
    yield listeners("listener_tunnels", "gauge", "Open upgraded connections.", "tunnels")
    taken = [
        ({"listener": row.name, "rule": name}, count) for row in stats.listeners for name, count in row.rules.items()
    ]
    meaning = "Requests and tunnels that a rule of a forward proxy took."
    yield Family("rule_requests_total", "counter", meaning).text(taken)
    opened = [
        ({"listener": row.name, "outcome": word}, count)
        for row in stats.listeners
        for word, count in row.interception.items()
    ]
    meaning = "Tunnels that a forward proxy was to open, and what became of them."
    yield Family("interceptions_total", "counter", meaning).text(opened)
    checks = [({"listener": row.name}, row.users.checks) for row in stats.listeners if row.users]
    yield Family("password_checks_total", "counter", "Passwords that were checked against a hash.").text(checks)
    layer4 = [row for row in stats.listeners if row.protocol in ("tcp", "udp", "forward")]
    ended = [({"listener": row.name, "ended": word}, count) for row in layer4 for word, count in row.sessions.items()]
    meaning = "Sessions of layer 4 and associations of SOCKS that have ended, by how."
    yield Family("sessions_total", "counter", meaning).text(ended)
    ways = [({"listener": row.name, "direction": "in"}, row.bytes_in) for row in layer4]
    ways += [({"listener": row.name, "direction": "out"}, row.bytes_out) for row in layer4]
    meaning = "Bytes of sessions and associations, in (to endpoints) and out (to clients)."
    yield Family("session_bytes_total", "counter", meaning).text(ways)
    yield from _of_captures(stats)
    yield from _of_datagrams([row for row in layer4 if row.protocol in ("udp", "forward")])
    handshakes: list[Sample] = []
    for row in stats.listeners:
        if row.certificates:
            handshakes.append(({"listener": row.name, "resumed": "no"}, row.handshakes - row.resumed))
            handshakes.append(({"listener": row.name, "resumed": "yes"}, row.resumed))
    yield Family("tls_handshakes_total", "counter", "TLS handshakes that came to their end.").text(handshakes)
    expiry: dict[tuple[str, str], Sample] = {
        (row.name, one.cert): ({"listener": row.name, "cert": one.cert}, one.not_after)
        for row in stats.listeners
        for one in row.certificates
    }
    meaning = "When a certificate expires, in seconds since the epoch."
    yield Family("certificate_expiry_timestamp_seconds", "gauge", meaning).text(expiry.values())
    by_status = [
        ({"route": row.name, "status": status}, count) for row in stats.routes for status, count in row.statuses.items()
    ]
    yield Family("requests_total", "counter", "Requests answered, by route and class of status.").text(by_status)
    shut = [({"route": row.name}, row.maintenance) for row in stats.routes if row.name != "_none"]
    yield Family("route_maintenance", "gauge", "1 while the route is in maintenance.").text(shut)
    received = [({"route": row.name}, row.bytes_in) for row in stats.routes]
    yield Family("request_bytes_total", "counter", "Bytes of requests, by route.").text(received)
    sent = [({"route": row.name}, row.bytes_out) for row in stats.routes]
    yield Family("response_bytes_total", "counter", "Bytes of responses, by route.").text(sent)
    duration = Family(
        "request_duration_seconds", "histogram", "From the whole head of a request to the last byte of its response."
    )
    yield duration.histogram(stats.latency)
    rejected = [({"reason": reason}, count) for reason, count in stats.rejected.items()]
    yield Family("rejected_total", "counter", "Requests and connections refused, by reason.").text(rejected)


def _of_endpoints(stats: Stats) -> Iterator[str]:
    def endpoints(name: str, kind: str, meaning: str, field: str, scale: float = 1) -> str:
        rows: list[Sample] = []
        for upstream in stats.upstreams:
            for row in upstream.endpoints:
                value = getattr(row, field) * scale
                rows.append((_place(upstream.name, row), value))
        return Family(f"endpoint_{name}", kind, meaning).text(rows)

    up = [(_place(one.name, row), row.state == "up") for one in stats.upstreams for row in one.endpoints]
    yield Family("endpoint_up", "gauge", "1 if the endpoint may be asked.").text(up)
    yield endpoints("weight", "gauge", "Share of the requests.", "weight")
    yield endpoints("in_flight", "gauge", "Requests under way.", "in_flight")
    yield endpoints("requests_total", "counter", "Requests sent.", "requests")
    yield endpoints("failures_total", "counter", "Attempts that failed.", "failures")
    yield endpoints("connects_total", "counter", "Connections opened.", "connects")
    yield endpoints("reused_total", "counter", "Requests sent over a connection that was open.", "reused")
    yield endpoints("idle_connections", "gauge", "Unused open connections.", "idle")
    yield endpoints("latency_seconds", "gauge", "Moving average of the latency.", "latency_us", 1e-6)
    ejected = [(_place(one.name, row), row.ejected_for is not None) for one in stats.upstreams for row in one.endpoints]
    yield Family("endpoint_ejected", "gauge", "1 while the endpoint is ejected.").text(ejected)
    yield endpoints("ejections_total", "counter", "Times the endpoint was ejected.", "ejections")
    probes = [(_place(one.name, row), row.probe) for one in stats.upstreams for row in one.endpoints if row.probe]
    yield Family("endpoint_probe_passed", "gauge", "1 if the last probe was passed.").text(
        [(place, probe.passed) for place, probe in probes]
    )
    yield Family("endpoint_probe_seconds", "gauge", "How long the last probe took.").text(
        [(place, probe.took) for place, probe in probes]
    )


def _of_upstreams(stats: Stats) -> Iterator[str]:
    def upstreams(name: str, kind: str, meaning: str, field: str) -> str:
        rows = [({"upstream": one.name}, getattr(one, field)) for one in stats.upstreams]
        return Family(f"upstream_{name}", kind, meaning).text(rows)

    yield upstreams("all_down", "gauge", "1 while every endpoint is down or ejected and all are asked.", "all_down")
    yield upstreams("waiting", "gauge", "Requests that wait for a place at an endpoint.", "waiting")
    yield upstreams("retries_total", "counter", "Attempts beyond a request's first.", "retries")
    yield upstreams(
        "retries_refused_total", "counter", "Attempts that the retry budget did not allow.", "retries_refused"
    )
    for name, kind, meaning, field in (
        ("limit", "gauge", "The most that the upstream may have of it.", "most"),
        ("limit_taken", "gauge", "How much of it the upstream has.", "taken"),
        ("limited_total", "counter", "Requests refused because the upstream had the most of it.", "refused"),
    ):
        rows = [
            ({"upstream": one.name, "limit": what}, getattr(limit, field))
            for one in stats.upstreams
            for what, limit in one.limits.items()
        ]
        yield Family(f"upstream_{name}", kind, meaning).text(rows)
    for name, kind, meaning, field in (
        ("affinity_clients", "gauge", "Clients that a table has bound to endpoints.", "clients"),
        ("affinity_size", "gauge", "The most clients that the table may have.", "size"),
        ("affinity_evicted_total", "counter", "Clients forgotten because the table was full.", "evicted"),
    ):
        tables = [({"upstream": one.name}, getattr(one.affinity, field)) for one in stats.upstreams if one.affinity]
        yield Family(f"upstream_{name}", kind, meaning).text(tables)
    failures = [({"cause": cause}, count) for cause, count in stats.failures.items()]
    meaning = "Attempts at an endpoint that failed, and requests that failed here, by cause."
    yield Family("upstream_failures_total", "counter", meaning).text(failures)


def _of_mirrors(stats: Stats) -> Iterator[str]:
    mirrors = [(one.name, one.mirror) for one in stats.upstreams if one.mirror]
    copies = [
        ({"upstream": name, "outcome": outcome}, getattr(row, outcome))
        for name, row in mirrors
        for outcome in ("answered", "failed", "dropped", "unfit")
    ]
    yield Family("mirror_copies_total", "counter", "Copies of requests to an upstream, by how they ended.").text(copies)
    under_way = [({"upstream": name}, row.in_flight) for name, row in mirrors]
    yield Family("mirror_in_flight", "gauge", "Copies of requests under way.").text(under_way)


def _of_addons(stats: Stats) -> Iterator[str]:
    outcomes: list[Sample] = []
    waited: list[Sample] = []
    for addon in stats.addons:
        for row in addon.hooks:
            labels = {"addon": addon.name, "hook": row.hook}
            outcomes += [({**labels, "outcome": outcome}, count) for outcome, count in row.outcomes.items()]
            waited.append((labels, row.waited_us / 1e6))
    yield Family("addon_calls_total", "counter", "Calls of add-ons, by how they ended.").text(outcomes)
    yield Family("addon_waited_seconds_total", "counter", "Time that requests waited for add-ons.").text(waited)
    for field, meaning in (
        ("waiting", "Calls that wait for their turn."),
        ("running", "Calls that run."),
        ("late", "Calls that run though no request waits for them any more."),
    ):
        rows = [({"addon": addon.name}, getattr(addon, field)) for addon in stats.addons]
        yield Family(f"addon_{field}", "gauge", meaning).text(rows)


def _of_policies(controller: Controller) -> Iterator[str]:
    policies = controller.weights.counts()
    calls = [
        ({"upstream": row["upstream"], "outcome": outcome}, row[outcome])
        for row in policies
        for outcome in ("applied", "failed", "hung")
    ]
    yield Family("weight_policy_calls_total", "counter", "Calls of functions that give weights.").text(calls)


def _of_lists(controller: Controller, stats: Stats) -> Iterator[str]:
    fetches = controller.lists.counts()
    for field, meaning in (
        ("entries", "Entries of a list that expressions look into."),
        ("bytes", "Memory that the entries of a list take."),
    ):
        yield Family(f"list_{field}", "gauge", meaning).text(
            [({"list": row.name}, getattr(row, field)) for row in stats.lists]
        )
    refreshed = [({"list": row.name}, row.refreshed) for row in stats.lists]
    meaning = "When a list was read, in seconds since the epoch."
    yield Family("list_refreshed_timestamp_seconds", "gauge", meaning).text(refreshed)
    failures = [
        ({"list": row.name}, row.failures + sum(one["failures"] for one in fetches.get(row.name, ())))
        for row in stats.lists
    ]
    meaning = "Times that a list could not be fetched or read anew, and stayed as it was."
    yield Family("list_refresh_failures_total", "counter", meaning).text(failures)


def _place(upstream: str, row: EndpointStats) -> dict[str, str]:
    return {"upstream": upstream, "endpoint": row.address}


def _single(name: str, kind: str, meaning: str, value: float) -> str:
    return Family(name, kind, meaning).text([({}, value)])


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(round(value, 9))


def _open_descriptors() -> int | None:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return None


def _resident_bytes() -> int | None:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * resource.getpagesize()
