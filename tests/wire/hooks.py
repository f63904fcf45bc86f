"""Hooks that the dialogues of `cases/addons.case` name."""

from __future__ import annotations

import penstock


class Gate:
    """Lets in who has a token, and tells the endpoint who that is."""

    def request_headers(self, request: penstock.Request) -> penstock.Response | None:
        if request.headers.get("authorization") != "Bearer good":
            return penstock.Response(401, {"www-authenticate": "Bearer"}, "who are you?")
        request.headers.remove("authorization")
        request.headers.set("x-user", "ann")
        return None


class Edit:
    """Carries out what the query asks for."""

    async def request_headers(self, request: penstock.Request) -> None:
        what, _, value = (request.query or "").partition("=")
        if what == "path":
            request.path, request.query = value, None
        elif what == "query":
            request.query = value
        elif what:
            request.headers.add(what, value.replace("CRLF", "\r\n"))

    def response_headers(self, request: penstock.Request, response: penstock.Response) -> None:
        response.headers.set("x-route", request.route)
        if "x-secret" in response.headers:
            response.status = 404
            response.headers.remove("x-secret")


class Faulty:
    """Raises, or returns what is no verdict."""

    def request_headers(self, request: penstock.Request) -> object:
        if request.path == "/raises":
            raise RuntimeError("no")
        return object() if request.path == "/garbage" else None

    def response_headers(self, request: penstock.Request, response: penstock.Response) -> None:
        if request.path == "/later":
            raise RuntimeError("no")


gate, edit, faulty = Gate(), Edit(), Faulty()
