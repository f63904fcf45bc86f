"""The commands that a running process takes over its control socket. A new command is one function and one line in
`COMMANDS`."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from penstock.config import explain_request
from penstock.control.lifecycle import Order
from penstock.control.status import status
from penstock.errors import ConfigError, ControlError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from penstock.control.controller import Controller
    from penstock.control.lifecycle import Lifecycle


class Commands:
    """Answers commands for one process. Raises `ControlError` for what is no command."""

    def __init__(self, controller: Controller, lifecycle: Lifecycle) -> None:
        """Act on these two."""
        self._controller = controller
        self._lifecycle = lifecycle

    def __call__(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Carry out one command and give its answer."""
        name = request.get("command")
        command = COMMANDS.get(name) if isinstance(name, str) else None
        if command is None:
            raise ControlError(f"no command {name!r}: there are {', '.join(sorted(COMMANDS))}")
        return command(self._controller, self._lifecycle, request)


def _reload(controller: Controller, _lifecycle: Lifecycle, _request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return dataclasses.asdict(controller.reload())
    except ConfigError as error:
        return {"error": "configuration refused", "faults": [dataclasses.asdict(fault) for fault in error.faults]}


def _status(controller: Controller, _lifecycle: Lifecycle, _request: Mapping[str, Any]) -> dict[str, Any]:
    return status(controller)


def _drain(_controller: Controller, lifecycle: Lifecycle, _request: Mapping[str, Any]) -> dict[str, Any]:
    return {"drained": lifecycle.drain()}


def _stop(_controller: Controller, lifecycle: Lifecycle, _request: Mapping[str, Any]) -> dict[str, Any]:
    lifecycle.order(Order.STOP)
    lifecycle.ended.wait()
    return {"stopped": os.getpid()}


def _plan(controller: Controller, _lifecycle: Lifecycle, _request: Mapping[str, Any]) -> dict[str, Any]:
    plan = controller.plan
    if plan is None:
        raise ControlError("no configuration runs yet")
    return plan


def _explain(controller: Controller, _lifecycle: Lifecycle, request: Mapping[str, Any]) -> dict[str, Any]:
    url: Any = request.get("url")
    method = request.get("method", "GET")
    more = {name: request.get(name) for name in ("body", "client", "listener", "user")}
    headers = _pairs(request.get("headers", []))
    given = [method, url, *(value for value in more.values() if value is not None)]
    if headers is None or not all(isinstance(value, str) for value in given):
        raise ControlError(
            "explain takes url (needed), method, body, client, listener and user, each a text, and headers, pairs of "
            "texts"
        )
    return dataclasses.asdict(controller.explain(explain_request(method, url, headers, **more)))


def _pairs(value: object) -> list[tuple[str, str]] | None:
    """A list of pairs of texts, or nothing."""
    pairs = [pair for pair in value if isinstance(pair, list) and len(pair) == 2] if isinstance(value, list) else []
    texts = all(isinstance(text, str) for pair in pairs for text in pair)
    return [(name, text) for name, text in pairs] if texts and pairs == value else None


ADMIN = {"drain": "draining", "ready": "ready", "disable": "disabled"}
"""Words of the command, and the state that each gives an endpoint."""


def read_order(text: str) -> dict[str, Any]:
    """`drain`, `ready`, `disable` or `weight=N` in the form that the data plane takes. Raises `ControlError`."""
    if text in ADMIN:
        return {"admin": ADMIN[text]}
    word, _, number = text.partition("=")
    if word == "weight" and number.isascii() and number.isdecimal() and int(number) <= 256:
        return {"weight": int(number)}
    raise ControlError(f"no order {text!r}: there are {', '.join(ADMIN)} and weight=N with N from 0 to 256")


def _endpoint(controller: Controller, _lifecycle: Lifecycle, request: Mapping[str, Any]) -> dict[str, Any]:
    upstream, address = str(request.get("upstream")), str(request.get("endpoint"))
    controller.order(upstream, address, read_order(str(request.get("order"))))
    rows = next(row for row in controller.stats().upstreams if row.name == upstream).endpoints
    return dataclasses.asdict(next(row for row in rows if row.address == address))


def _maintenance(controller: Controller, _lifecycle: Lifecycle, request: Mapping[str, Any]) -> dict[str, Any]:
    on, route = request.get("on"), request.get("route")
    if not isinstance(on, bool) or not isinstance(route, str | None):
        raise ControlError("maintenance needs on, true or false, and the name of a route or none for all")
    return {"routes": controller.maintain(route, on), "on": on}


def _affinity(controller: Controller, _lifecycle: Lifecycle, request: Mapping[str, Any]) -> dict[str, Any]:
    key, endpoint, clear = request.get("key"), request.get("endpoint"), request.get("clear", False)
    if not (isinstance(key, str | None) and isinstance(endpoint, str | None) and isinstance(clear, bool)):
        raise ControlError("affinity takes upstream (needed), key and endpoint, each a text, and clear, true or false")
    query = {"key": key, "endpoint": endpoint, "clear": clear}
    return dataclasses.asdict(controller.affinity(str(request.get("upstream")), query))


def _capture(controller: Controller, _lifecycle: Lifecycle, request: Mapping[str, Any]) -> dict[str, Any]:
    listener, asked = request.get("listener"), {name: request.get(name) for name in ("after", "id", "clear")}
    given = {name: value for name, value in asked.items() if value is not None}
    wrong = [value for name, value in given.items() if type(value) is not (bool if name == "clear" else int)]
    if len(given) != 1 or wrong or not isinstance(listener, str | None) or ("after" in given and listener is None):
        raise ControlError("capture takes one of after (a number, with listener), id (a number) and clear (true)")
    if any(isinstance(value, int) and value < 0 for value in given.values()):
        raise ControlError("an id is not negative")
    found = controller.captured(listener, "clear" if "clear" in given else given)
    return {"entries": [{**row.entry, "_id": row.id} for row in found.entries], "more": found.more}


COMMANDS: dict[str, Callable[[Controller, Lifecycle, Mapping[str, Any]], dict[str, Any]]] = {
    "affinity": _affinity,
    "capture": _capture,
    "drain": _drain,
    "endpoint": _endpoint,
    "explain": _explain,
    "maintenance": _maintenance,
    "plan": _plan,
    "reload": _reload,
    "status": _status,
    "stop": _stop,
}
