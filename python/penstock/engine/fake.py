"""A data plane for tests that opens no socket and runs no thread.

It keeps what it was given, answers with what a test has set, and fails when a test says so.
"""

from __future__ import annotations

import json
import queue
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.engine.affinity import AffinityTable
from penstock.engine.explanation import Explanation
from penstock.engine.stats import Captures, ListStats, Stats
from penstock.engine.types import Applied, Doubt, Event, read
from penstock.errors import ConfigError, EngineError, Fault

if TYPE_CHECKING:
    from collections.abc import Mapping


class FakeRules:
    """Checks plans: every plan is good unless `faults` says otherwise."""

    def __init__(self) -> None:
        """Find nothing wrong."""
        self.faults: dict[str, str] = {}
        """Plan path → message, raised by every check."""
        self.takes: dict[str, str] = {}
        """Target → name of the route that it takes; without one, the first route."""
        self.asked: list[Mapping[str, Any]] = []

    def check(self, plan: str) -> FakeCheckedPlan:
        """Refuse what `faults` names."""
        document = json.loads(plan)
        if self.faults:
            raise ConfigError([Fault("<plan>", None, None, path, message) for path, message in self.faults.items()])
        return FakeCheckedPlan(self, document)

    def read_list(self, plan: Mapping[str, Any]) -> ListStats:
        """Every list has one entry for each of its lines."""
        row = _list(plan)
        lines = [line for source in plan["sources"] for line in Path(source["path"]).read_text().splitlines()]
        return read(ListStats, {**row, "entries": len(lines)})


class FakeCheckedPlan:
    """A plan that was found good."""

    def __init__(self, rules: FakeRules, plan: dict[str, Any]) -> None:
        """Answer by what `rules` was set to."""
        self._rules = rules
        self._plan = plan
        self.doubts: tuple[Doubt, ...] = ()

    def explain(self, request: Mapping[str, Any]) -> Explanation:
        """Say what `takes` says."""
        self._rules.asked.append(request)
        return _explanation(self._plan, request, self._rules.takes)


class FakeEngine:
    """An engine that remembers."""

    def __init__(self) -> None:
        """Run nothing."""
        self.plans: list[dict[str, Any]] = []
        self.faults: dict[str, str] = {}
        """Plan path → message, raised by the next apply."""
        self.warnings: tuple[str, ...] = ()
        self.doubts: tuple[Doubt, ...] = ()
        self.takes: dict[str, str] = {}
        self.stats_rows: dict[str, Any] = {}
        """Put in place of the keys of `stats`."""
        self.calls: list[str] = []
        self.captured: dict[int, dict[str, Any]] = {}
        """Entries of an HTTP archive, by id."""
        self.drains = True
        """What `drain` answers."""
        self.stopped = False
        self.withheld: list[str] = []
        self._events: queue.SimpleQueue[list[Event]] = queue.SimpleQueue()

    def apply(self, plan: str) -> Applied:
        """Keep the plan, or refuse it for `faults`."""
        self.calls.append("apply")
        if self.faults:
            faults, self.faults = self.faults, {}
            raise ConfigError([Fault("<plan>", None, None, path, message) for path, message in faults.items()])
        document = json.loads(plan)
        self.plans.append(document)
        return Applied(document["version"], self.warnings, self.doubts, self._addresses(document))

    def explain(self, request: Mapping[str, Any]) -> Explanation:
        """Explain with the last plan."""
        if not self.plans:
            raise EngineError("no plan runs yet")
        return _explanation(self.plans[-1], request, self.takes)

    def stats(self) -> Stats:
        """Zeros, with the names of the last plan, under what `stats_rows` sets."""
        plan = self.plans[-1] if self.plans else {"version": 0, "listeners": [], "upstreams": [], "routes": []}
        rows = _zeros(plan, {name: list(found) for name, found in self._addresses(plan).items()})
        return read(Stats, {**rows, **self.stats_rows})

    def events(self, wait: float) -> list[Event]:
        """Give the events that a test has put in with `happen`."""
        try:
            return self._events.get(timeout=wait)
        except queue.Empty:
            return []

    def addon_calls(self, addon: int) -> None:
        """No request comes here, so no add-on is called."""

    def happen(self, *events: Event) -> None:
        """Let something happen, all at once."""
        self._events.put(list(events))

    def drain(self, wait: float) -> bool:
        """Answer `drains` at once."""
        self.calls.append(f"drain {wait:g}")
        self.stats_rows["draining"] = True
        return self.drains

    def stop(self) -> None:
        """Remember it."""
        self.calls.append("stop")
        self.stopped = True

    def order(self, upstream: str, address: str, order: Mapping[str, Any]) -> None:
        """Remember it."""
        self.calls.append(f"order {upstream} {address} {json.dumps(order)}")

    def affinity(self, upstream: str, query: Mapping[str, Any]) -> AffinityTable:
        """Note it, and tell of an empty table."""
        self.calls.append(f"affinity {upstream} {json.dumps(query)}")
        cleared = 0 if query["clear"] else None
        rows = {"clients": 0, "size": 1, "ttl": 1, "evicted": 0, "memory": 0, "endpoints": []}
        return read(AffinityTable, {**rows, "upstream": upstream, "client": None, "cleared": cleared})

    def maintain(self, route: str | None, on: bool) -> None:
        """Remember it."""
        self.calls.append(f"maintain {route} {on}")

    def captures(self, listener: str | None, query: Mapping[str, int] | str) -> Captures:
        """Give what a test has set."""
        self.calls.append(f"captures {listener} {json.dumps(query)}")
        after = query.get("after", 0) if isinstance(query, dict) else 0
        rows = [{"id": number, "entry": entry} for number, entry in self.captured.items() if number > after]
        return read(Captures, {"entries": rows, "more": False})

    def withhold(self, addresses: list[str]) -> None:
        """Keep them."""
        self.withheld = addresses

    def reopen_logs(self) -> None:
        """Remember it."""
        self.calls.append("reopen_logs")

    @staticmethod
    def _addresses(plan: dict[str, Any]) -> dict[str, tuple[str, ...]]:
        found = {}
        for number, listener in enumerate(plan["listeners"]):
            binds = [bind if not bind.endswith(":0") else f"{bind[:-1]}{40001 + number}" for bind in listener["bind"]]
            found[listener["name"]] = tuple(binds)
        return found


def _explanation(plan: dict[str, Any], request: Mapping[str, Any], takes: Mapping[str, str]) -> Explanation:
    routes = plan["routes"]
    wanted = takes.get(str(request["target"]))
    index = next((i for i, route in enumerate(routes) if wanted in (None, route["name"])), None)
    action = next(iter(routes[index]["action"])) if index is not None else None
    upstreams = []
    if action == "upstream" and index is not None:
        upstream = plan["upstreams"][routes[index]["action"]["upstream"]]
        endpoints = [
            {**endpoint, "admin": "ready", "state": "unknown", "eligible": True} for endpoint in upstream["endpoints"]
        ]
        upstreams = [{"name": upstream["name"], "weight": 1, "balance": "p2c", "endpoints": endpoints}]
    status = {"respond": 200, "redirect": 308, None: 404}.get(action)
    if index is not None and action in ("respond", "redirect"):
        status = routes[index]["action"][action]["status"]
    passed = [
        {"index": i, "name": route["name"], "why": "match", "at": [0, 4], "found": "x"}
        for i, route in enumerate(routes[: len(routes) if index is None else index])
    ]
    path, _, query = str(request["target"]).partition("?")
    return read(
        Explanation,
        {
            "listener": request.get("listener") or plan["listeners"][0]["name"],
            "request": {"method": request["method"], "scheme": "http", "host": "x", "path": path, "query": query},
            "route": None if index is None else {"index": index, "name": routes[index]["name"]},
            "action": action,
            "throttle": None,
            "status": status,
            "refused": None,
            "maintenance": None,
            "passed_over": passed,
            "lists": [],
            "filters": [],
            "forward_auth": None,
            "addons": [],
            "forwarded": [],
            "share": None,
            "rule": None,
            "mirror": None,
            "upstreams": upstreams,
        },
    )


def _zeros(plan: dict[str, Any], addresses: dict[str, list[str]]) -> dict[str, Any]:
    counted = "in_flight requests failures connects reused idle latency_us ejections failures_in_a_row"
    counters = dict.fromkeys(counted.split(), 0)
    counted = (
        "connections accepted refused tunnels handshakes resumed "
        "datagrams_in datagrams_out datagrams_dropped bytes_in bytes_out"
    )
    listener = {"state": "open", "protocol": "http", **dict.fromkeys(counted.split(), 0)}
    state = {"state": "up", "since": 0.0, "reason": "", "ejected_for": None, "probe": None, "resolved": []}
    route = {"maintenance": False, "requests": 0, "statuses": {}, "bytes_in": 0, "bytes_out": 0}
    return {
        "version": plan["version"],
        "uptime": 1.0,
        "workers": 2,
        "stuck": [],
        "draining": False,
        "listeners": [
            {
                "name": name,
                "addresses": found,
                **listener,
                "certificates": [],
                "sessions": {},
                "capture": None,
                "rules": {},
                "interception": {},
                "users": None,
            }
            for name, found in addresses.items()
        ],
        "routes": [{"name": row["name"], **route} for row in [*plan["routes"], {"name": "_none"}]],
        "upstreams": [
            {
                "name": row["name"],
                "balance": "p2c",
                "all_down": False,
                "waiting": 0,
                "retries": 0,
                "retries_refused": 0,
                "limits": {},
                "affinity": None,
                "mirror": None,
                "endpoints": [{**endpoint, **state, **counters} for endpoint in row["endpoints"]],
            }
            for row in plan["upstreams"]
        ],
        "lists": [_list(row) for row in plan.get("lists", ())],
        "addons": [
            {"name": row["name"], "hooks": [], "waiting": 0, "running": 0, "late": 0} for row in plan.get("addons", ())
        ],
        "latency": {"bounds_us": [1000, 10000], "counts": [0, 0, 0], "sum_us": 0},
        "rejected": {},
        "failures": {},
        "memory": {"limit": 0, "used": 0, "pressure": 0, "failed": 0},
        "connections_limit": None,
        "shed": {"idle_connections": 0, "pooled_connections": 0},
        "panics": 0,
        "dropped_fields": 0,
        "access_log": {"records": 0, "dropped": 0},
        "events_dropped": 0,
    }


def _list(row: Mapping[str, Any]) -> dict[str, Any]:
    counted = dict.fromkeys(("entries", "bytes", "ignored", "bad", "refreshed", "failures"), 0)
    sources = [source["url"] or source["path"] for source in row["sources"]]
    return {"name": row["name"], "kind": row["kind"], "sources": sources, **counted, "trouble": None}
