from __future__ import annotations

import asyncio
import json
import logging
import queue
import threading
import types
from typing import TYPE_CHECKING, Any

import pytest
from tests.unit.addons.test_addon_message import TOLD

from penstock.addons import Loader, Loading, Response, Runners
from penstock.addons.message import read_call
from penstock.addons.trouble import Trouble
from penstock.config import load_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class FakeCall:
    """A call that a test has made."""

    def __init__(self, hook: str = "request_headers", left: float = 10.0, **told: Any) -> None:
        self.hook = hook
        self.document = json.dumps({**TOLD, **told})
        self.outcomes: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._left = left

    def left(self) -> float:
        return self._left

    def answer(self, verdict: str, body: bytes) -> bool:
        if "refused by the data plane" in verdict:
            raise ValueError("writes a control character into x-a")
        self.outcomes.put({**json.loads(verdict), "body": body})
        return True

    def fail(self) -> None:
        self.outcomes.put(None)

    def expire(self) -> None:
        self.outcomes.put({"expired": True})

    def outcome(self) -> dict[str, Any] | None:
        return self.outcomes.get(timeout=10)


class FakeCalls:
    """Gives out what a test puts in, until it is closed."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[FakeCall | None] = queue.SimpleQueue()

    def take(self, most: int) -> list[FakeCall] | None:
        call = self._calls.get()
        if call is None:
            self._calls.put(None)
        return None if call is None else [call]

    def put(self, call: FakeCall) -> FakeCall:
        self._calls.put(call)
        return call

    def close(self) -> None:
        self._calls.put(None)


def load(name: str = "a", **hooks: Callable[..., Any]) -> Loading:
    config = {
        "listeners": {"web": {"bind": ":1"}},
        "addons": {name: {"module": types.SimpleNamespace(**hooks), "concurrency": 2}},
    }
    return Loader().load(load_value(config))[name]


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of the same process may have taken the log for itself."""
    monkeypatch.setattr(logging.getLogger("penstock"), "propagate", True)


@pytest.fixture
def run() -> Iterator[Callable[..., FakeCalls]]:
    """Run an object's hooks; every thread has ended at the end of the test."""
    started: list[tuple[Runners, FakeCalls]] = []

    def start(**hooks: Callable[..., Any]) -> FakeCalls:
        calls = FakeCalls()
        runners = Runners(lambda _: calls)
        runners.run([load(**hooks)])
        started.append((runners, calls))
        return calls

    yield start
    for runners, calls in started:
        calls.close()
        runners.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("penstock-addon")]


def test_a_function_and_a_coroutine_answer(run: Callable[..., FakeCalls]) -> None:
    async def request_headers(request: Any) -> Response:
        await asyncio.sleep(0)
        return Response(403, body=request.path.encode())

    def response_headers(request: Any, response: Any) -> None:
        response.headers.set("x-id", request.id)

    calls = run(request_headers=request_headers, response_headers=response_headers)
    assert calls.put(FakeCall()).outcome() == {"answer": {"status": 403, "headers": []}, "body": b"/a"}
    answered = FakeCall("response_headers", response={"status": 200, "headers": []})
    assert calls.put(answered).outcome() == {"edits": [["set", "x-id", "77"]], "body": b""}


class SpeechlessError(Exception):
    def __str__(self) -> str:
        raise SystemExit


@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(1), KeyboardInterrupt(), RecursionError(), SpeechlessError()]
)
@pytest.mark.parametrize("form", ["function", "coroutine"])
def test_no_error_ends_a_thread(
    run: Callable[..., FakeCalls], caplog: pytest.LogCaptureFixture, error: BaseException, form: str
) -> None:
    def fails(request: Any) -> None:
        if request.path == "/bad":
            raise error

    async def fails_later(request: Any) -> None:
        fails(request)

    calls = run(request_headers=fails if form == "function" else fails_later)
    for _ in range(4):
        assert calls.put(FakeCall(path="/bad")).outcome() is None
    assert calls.put(FakeCall()).outcome() == {"edits": [], "body": b""}


def test_what_the_data_plane_refuses_has_failed(
    run: Callable[..., FakeCalls], caplog: pytest.LogCaptureFixture, eventually: Callable[..., None]
) -> None:
    calls = run(request_headers=lambda request: request.headers.set("x-a", "refused by the data plane"))
    assert calls.put(FakeCall()).outcome() is None
    eventually(lambda: caplog.records)
    assert "add-on a: request_headers: ValueError: writes a control character into x-a" in caplog.text
    assert not hasattr(caplog.records[0], "place")


def test_a_coroutine_is_cancelled_when_its_time_is_up_and_nothing_is_said(
    run: Callable[..., FakeCalls], caplog: pytest.LogCaptureFixture
) -> None:
    async def hangs(request: Any) -> None:
        await asyncio.Event().wait()

    assert run(request_headers=hangs).put(FakeCall(left=0.01)).outcome() == {"expired": True}
    assert not caplog.records


def test_a_hook_that_hangs_leaves_the_other_threads_to_the_others(run: Callable[..., FakeCalls]) -> None:
    release = threading.Event()

    def hangs(request: Any) -> None:
        if request.path == "/hang":
            release.wait(10)

    calls = run(request_headers=hangs)
    hung = calls.put(FakeCall(path="/hang"))
    for _ in range(3):
        assert calls.put(FakeCall()).outcome() is not None
    release.set()
    assert hung.outcome() is not None


def test_threads_start_once_for_a_loading_and_end_with_its_calls(eventually: Callable[..., None]) -> None:
    found, asked = {1: FakeCalls(), 2: FakeCalls()}, []

    def calls(key: int) -> FakeCalls | None:
        asked.append(key)
        return found.get(key)

    def alive() -> int:
        return sum(thread.name.startswith("penstock-addon-a") for thread in threading.enumerate())

    runners = Runners(calls)
    loading = load(request_headers=lambda request: None)
    runners.run([loading])
    runners.run([loading])
    assert (asked, alive()) == ([1], 2)
    found[1].close()
    eventually(lambda: alive() == 0)
    runners.run([])
    runners.close()


def test_a_line_of_the_log_names_the_place_and_no_word_of_the_request(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    trouble = Trouble(load(request_headers=lambda request: None), lambda: now[0])
    secret = "Bearer s3cr3t-t0ken, sid=abcdef"
    request, _ = read_call(json.dumps({**TOLD, "query": "key=hunter22", "headers": [["authorization", secret]]}))

    def fails() -> None:
        raise KeyError(f"{secret} hunter22 s3cr3t-t0ken is unknown")

    for moment in (0.0, 0.5, 0.9, 1.1):
        now[0] = moment
        with pytest.raises(KeyError) as caught:
            fails()
        trouble.tell(FakeCall(), caught.value, request)
    first, second = caplog.records
    assert first.levelno == logging.ERROR
    assert first.getMessage() == "add-on a: request_headers: KeyError: '…, sid=… … … is unknown'".replace("…,", "… …,")
    assert first.fields["place"].startswith("test_addon_runner.py:")  # type: ignore[attr-defined]
    assert second.fields["more"] == 2  # type: ignore[attr-defined]


def test_a_message_has_an_end(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble(load(request_headers=lambda request: None))
    trouble.tell(FakeCall(), ValueError("x" * 10_000 + "\nsecond line"), None)
    assert len(caplog.records[0].getMessage()) < 300


def test_words_that_a_hook_has_dropped_are_no_more_in_the_log_than_others(
    run: Callable[..., FakeCalls], caplog: pytest.LogCaptureFixture, eventually: Callable[..., None]
) -> None:
    def request_headers(request: Any) -> None:
        found = [request.path, request.query, request.headers["authorization"]]
        request.path, request.query = "/", None
        request.headers.remove("authorization")
        request.headers.set("x-key", "inner-key")
        raise ValueError(*found, request.headers["x-key"])

    def response_headers(request: Any, response: Any) -> None:
        cookie = response.headers["set-cookie"]
        response.headers = {}
        raise ValueError(cookie)

    calls = run(request_headers=request_headers, response_headers=response_headers)
    told = {"path": "/secret-path", "query": "key=hunter22", "headers": [["authorization", "t0ken-of-ann"]]}
    calls.put(FakeCall(**told)).outcome()
    calls.put(
        FakeCall("response_headers", response={"status": 200, "headers": [["set-cookie", "sid=abcdef"]]})
    ).outcome()
    eventually(lambda: len(caplog.records) == 2)
    assert "ValueError: ('/…', 'key=…', '…', '…')" in caplog.text
    assert "ValueError: sid=…" in caplog.text


def test_of_a_word_that_is_cut_nothing_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    trouble = Trouble(load(request_headers=lambda request: None))
    call = FakeCall(headers=[["a", "x" * 700], ["b", "t0ken" * 100]])
    trouble.tell(call, ValueError("x" * 700 + " " + "t0ken" * 100), None)
    assert caplog.records[0].getMessage().endswith("ValueError: … …")
