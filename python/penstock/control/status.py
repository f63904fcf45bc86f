"""The status of a process as one JSON document: for `penstock status --json` and the admin listener's `/status`."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import TYPE_CHECKING, Any

from penstock.control.lists import overlaid

if TYPE_CHECKING:
    from penstock.control.controller import Attempt, Controller


def status(controller: Controller) -> dict[str, Any]:
    """What runs, how it fares, and what was refused last. Times are seconds since the epoch, `uptime` seconds."""
    stats = dataclasses.asdict(controller.stats())
    labels = controller.labels
    for upstream in stats["upstreams"]:
        for row in upstream["endpoints"]:
            row["labels"] = labels.get((upstream["name"], row["address"]), {})
    stats["lists"] = overlaid(stats["lists"], controller.lists.counts())
    refusal = controller.last_refusal
    return {
        "state": controller.state.value,
        "pid": os.getpid(),
        "config": controller.source,
        "plan_version": controller.applied.version if controller.applied else None,
        "started": controller.started,
        "uptime": time.time() - controller.started,
        "last_refusal": _attempt(refusal) if refusal else None,
        "history": [_attempt(attempt) for attempt in controller.history],
        "weights": controller.weights.counts(),
        **{key: value for key, value in stats.items() if key not in ("version", "uptime", "draining")},
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "at": attempt.at,
        "source": attempt.source,
        "outcome": attempt.outcome,
        "version": attempt.version,
        "faults": [dataclasses.asdict(fault) for fault in attempt.faults],
        "warnings": list(attempt.warnings),
    }
