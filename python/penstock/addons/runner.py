"""The threads in which hooks run: each loaded add-on has its own, so that none can starve another.

A function runs in one of `concurrency` threads. A coroutine runs in an event loop that belongs to the add-on alone.
Both take calls straight from the data plane, which gives out no more at once than may run, forgets a call whose time
is up before it begins, and goes on without one that does not return: so a hook that hangs holds nothing but its
thread, and no request waits for it longer than its time.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from penstock.addons.message import AUTHENTICATE, read_call, read_login, write_login, write_verdict
from penstock.addons.trouble import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.addons.load import Hook, Loading
    from penstock.addons.loop import Loop
    from penstock.addons.message import Request, Response

MOST = 64
"""Calls that a feeder takes at once for its loop."""
PATIENCE = 1.0
"""Seconds that stopping waits for hooks that do not return."""


class Call(Protocol):
    """One call, as the data plane gives it."""

    @property
    def hook(self) -> str:
        """Name of the function."""

    @property
    def document(self) -> str:
        """The request, as JSON text."""

    def left(self) -> float:
        """Seconds that somebody will wait for the answer."""

    def answer(self, verdict: str, body: bytes) -> bool:
        """Give the verdict. Raises `ValueError` for one that may not be."""

    def fail(self) -> None:
        """There is no verdict."""

    def expire(self) -> None:
        """There is none in time."""


class Calls(Protocol):
    """The calls of one loading."""

    def take(self, most: int) -> Sequence[Call] | None:
        """Wait for calls; `None` when there will be no more."""


class Runners:
    """The threads of every loading that some request may still ask."""

    def __init__(self, calls: Callable[[int], Calls | None]) -> None:
        """`calls` gives those of a loading, by its id, once the data plane runs it."""
        self._calls = calls
        self._runners: dict[int, _Runner] = {}

    def run(self, loadings: Sequence[Loading]) -> None:
        """Begin to take the calls of those that are new; the threads of others end when no request can ask them."""
        self._runners = {key: runner for key, runner in self._runners.items() if runner.is_alive()}
        for loading in loadings:
            # One that only gives weights is never asked.
            is_new = loading.hooks and loading.id not in self._runners
            calls = self._calls(loading.id) if is_new else None
            if calls is not None:
                self._runners[loading.id] = _Runner(loading, calls)

    def close(self) -> None:
        """Wait a moment for the threads to end. The data plane has stopped, so there is nothing more to take."""
        deadline = time.monotonic() + PATIENCE
        for runner in self._runners.values():
            runner.join(deadline)
        self._runners = {}


class _Runner:
    """The threads of one loading."""

    def __init__(self, loading: Loading, calls: Calls) -> None:
        self._loading = loading
        self._calls = calls
        self._trouble = Trouble(loading)
        only_tasks = len(loading.tasks) == len(loading.hooks)
        serving = 1 if only_tasks else loading.concurrency
        self._left = serving
        self._guard = threading.Lock()
        name = f"penstock-addon-{loading.name}"
        self._loop = _loop(f"{name}-loop") if loading.tasks else None
        most = MOST if only_tasks else 1
        self._threads = [
            threading.Thread(target=self._serve, args=(most,), name=f"{name}-{number}", daemon=True)
            for number in range(serving)
        ]
        if self._loop:
            self._threads.append(self._loop.thread)
        for thread in self._threads:
            thread.start()

    def is_alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self, deadline: float) -> None:
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _serve(self, most: int) -> None:
        while self._take(most):
            pass
        with self._guard:
            self._left -= 1
            last = self._left == 0
        if last and self._loop:
            self._loop.stop()

    def _take(self, most: int) -> bool:
        """Wait for calls and begin them; false: there will be no more."""
        taken = self._calls.take(most)
        for call in taken or ():
            if call.hook in self._loading.tasks and self._loop:
                self._loop.begin(partial(self._await, call, self._loading.hooks[call.hook]))
            else:
                self._run(call)
        return taken is not None

    def _run(self, call: Call) -> None:
        request: Request | None = None
        response: Response | None = None
        try:
            hook = self._loading.hooks[call.hook]
            if call.hook == AUTHENTICATE:
                call.answer(write_login(hook(*read_login(call.document))), b"")
                return
            request, response = read_call(call.document)
            self._finish(call, request, response, hook(*_arguments(request, response)))
        except BaseException as error:  # also SystemExit: no hook ends a thread of ours
            call.fail()
            self._trouble.tell(call, error, request, response)

    def _finish(self, call: Call, request: Request, response: Response | None, returned: object) -> None:
        verdict, body = write_verdict(request, response, returned)
        call.answer(verdict, body)

    async def _await(self, call: Call, hook: Hook) -> None:
        import asyncio  # noqa: PLC0415 - loaded already: only its loop runs this

        request: Request | None = None
        response: Response | None = None
        limit = asyncio.timeout(call.left())
        try:
            arguments: tuple[object, ...]
            if call.hook == AUTHENTICATE:
                arguments = read_login(call.document)
            else:
                request, response = read_call(call.document)
                arguments = _arguments(request, response)
            async with limit:
                returned = await hook(*arguments)
            if request is None:
                call.answer(write_login(returned), b"")
            else:
                self._finish(call, request, response, returned)
        except asyncio.CancelledError:
            call.fail()
            raise
        except BaseException as error:
            if limit.expired():
                call.expire()
            else:
                call.fail()
                self._trouble.tell(call, error, request, response)


def _loop(name: str) -> Loop:
    from penstock.addons.loop import Loop  # noqa: PLC0415 - asyncio is slow to import, and few add-ons have coroutines

    return Loop(name)


def _arguments(request: Request, response: Response | None) -> tuple[object, ...]:
    return (request,) if response is None else (request, response)
