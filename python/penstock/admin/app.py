"""The admin listener's paths. `/healthz` says that the process lives, `/readyz` whether it should be sent traffic."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from penstock.admin import guard, metrics
from penstock.control.controller import State
from penstock.control.status import status
from penstock.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from penstock.control.controller import Controller


def build_app(controller: Controller, version: str) -> ASGIApp:
    """The application over what `controller` runs; `version` is Penstock's."""

    def healthz() -> Response:
        return PlainTextResponse("ok\n")

    def readyz() -> Response:
        if controller.state is not State.SERVING:
            return PlainTextResponse(f"{controller.state.value}\n", 503)
        if stuck := controller.stats().stuck:
            # The kernel goes on giving it connections, and those it has wait.
            return PlainTextResponse(f"stuck: worker {', '.join(map(str, stuck))}\n", 503)
        return PlainTextResponse("ready\n")

    def show_metrics() -> Response:
        return Response(metrics.render(controller, version), media_type=metrics.CONTENT_TYPE)

    def show_status() -> Response:
        text = json.dumps({"version": version, **status(controller)}, indent=2) + "\n"
        return Response(text, media_type="application/json")

    paths = {"/healthz": healthz, "/readyz": readyz, "/metrics": show_metrics, "/status": show_status}
    return Guarded(Starlette(routes=[Route(path, _endpoint(controller, answer)) for path, answer in paths.items()]))


class Guarded:
    """Asks `guard` before the application sees a request, whatever its path."""

    def __init__(self, app: ASGIApp) -> None:
        """Guard `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            return
        refused = guard.refusal(scope["method"], dict(Headers(scope=scope)))
        if refused is None:
            await self._app(scope, receive, send)
            return
        code, reason = refused
        headers = {"allow": "GET, HEAD"} if code == 405 else {}
        await PlainTextResponse(f"{reason}\n", code, headers)(scope, receive, send)


def _endpoint(controller: Controller, answer: Callable[[], Response]) -> Callable[[Request], Response]:
    # Not a coroutine: starlette runs it in a thread, so that a slow snapshot does not hold up /healthz.
    def endpoint(_request: Request) -> Response:
        try:
            response = answer()
        except EngineError:
            # The data plane ends before the admin listener.
            if controller.state is not State.STOPPED:
                raise
            response = PlainTextResponse("stopped\n", 503)
        response.headers["cache-control"] = "no-store"
        response.headers["x-content-type-options"] = "nosniff"
        return response

    return endpoint
