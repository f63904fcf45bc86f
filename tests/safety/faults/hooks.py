"""Hooks that do what hooks must not: they raise, hang, hold the interpreter and return garbage."""

import asyncio
import sys
import time

import penstock

HANG = 2.0
"""Seconds: longer than any timeout of the test, short enough for it to see the end."""


def request_headers(request):
    match request.path.rpartition("/")[2]:
        case "raises":
            raise RuntimeError(f"no such token: {request.headers['authorization']}")
        case "exits":
            sys.exit(1)
        case "hangs":
            time.sleep(HANG)  # noqa: TID251 - this is what is tested
        case "holds":
            pow(3, 6_000_000)  # a second of C that lets go of nothing
        case "bool":
            return True
        case "splits":
            request.headers.set("x-a", "1\r\nx-admin: yes")
        case "huge":
            return penstock.Response(200, {}, b"x" * (64 << 20))
        case "fields":
            for _ in range(2_000):
                request.headers.add("x-a", "v" * 100)
        case "denied":
            return penstock.Response(401)
    return None


class Coroutine:
    """The same as coroutines: one that waits, and one that holds its loop."""

    async def request_headers(self, request):
        if request.path.endswith("/hangs"):
            await asyncio.sleep(3600)
        if request.path.endswith("/blocks"):
            time.sleep(HANG)  # noqa: TID251 - this is what is tested
        return request_headers(request) if request.path.endswith("/raises") else None


coroutine = Coroutine()
