"""The border in types: all that Python may ask of the data plane.

Documents cross as JSON text; `penstock.engine` gives them types and is the only importer.
"""

from typing import final

__version__: str

class Refused(ValueError):
    """A plan that cannot run.

    `args[0]` is a JSON list of `{"path": "routes[3].filters[0].rewrite_path", "message": "…"}`.
    """

def plan_schema() -> str:
    """The JSON schema of a plan."""

def read_list(plan: str) -> str:
    """What a list of a plan holds, as in `stats`. Raises `ValueError` for files that are no such list."""

@final
class CheckedPlan:
    """A plan with everything built that needs no socket and no name. Making it raises `Refused` with all faults."""

    def __new__(cls, plan: str) -> CheckedPlan: ...
    def doubts(self) -> str:
        """What is doubtful, but stops nothing: a list of the form of `Refused`."""

    def explain(self, request: str) -> str:
        """Which way a request would take, and why not another. Raises `ValueError` for a request that is not one."""

@final
class Engine:
    """The workers and what they run. Threads start with the first plan and end with `stop`."""

    def __new__(cls) -> Engine: ...
    def apply(self, plan: str) -> str:
        """Run this plan from now on.

        Raises `Refused` and leaves the running one untouched if any part of it cannot be built.
        """

    def explain(self, request: str) -> str:
        """`explain` on the running plan. Raises `RuntimeError` before the first."""

    def stats(self) -> str:
        """Counters and states, read once."""

    def addon_calls(self, addon: int) -> Calls | None:
        """The calls of the add-on that was loaded under this id; `None` if the running plan has it not."""

    def events(self, wait: float) -> list[str]:
        """What happened since the last call, waiting up to `wait` seconds for the first."""

    def drain(self, wait: float) -> bool:
        """Accept nothing more, let what is under way finish for up to `wait` seconds. True if all of it did."""

    def stop(self) -> None:
        """Close everything and end the threads. Safe to call twice."""

    def order(self, upstream: str, address: str, order: str) -> None:
        """Change what people decide about one endpoint: `{"admin": "draining"}` or `{"weight": 3}`.

        Raises `ValueError` for an upstream or endpoint that the running plan does not have.
        """

    def maintain(self, route: str | None, on: bool) -> None:
        """Put one route, or all there are, into maintenance or back into service.

        Raises `ValueError` for a route that the running plan does not have.
        """

    def affinity(self, upstream: str, query: str) -> str:
        """Ask about the affinity table of an upstream, or have it forget: `{"key": "10.0.0.7", "clear": true}`.

        Raises `ValueError` for an upstream that has none, and an endpoint that it does not have.
        """

    def captures(self, listener: str | None, query: str) -> str:
        """What one listener, or all, have captured: `{"after": 7}`, `{"id": 7}`; or have it forgotten: `"clear"`.

        Raises `ValueError` for a listener that captures nothing.
        """

    def withhold(self, addresses: list[str]) -> None:
        """Take no client of a forward proxy to these addresses (`"127.0.0.1:9901"`), whatever it allows.

        Raises `ValueError` for what is no address.
        """

    def reopen_logs(self) -> None:
        """Open the access log's file anew."""

@final
class Calls:
    """The calls of one loaded add-on."""

    def take(self, most: int) -> list[Call] | None:
        """Wait for calls, and take up to `most` of them; `None` when there will be no more."""

@final
class Call:
    """One call. Let go of without an answer, it has failed."""

    @property
    def hook(self) -> str:
        """Name of the function."""

    @property
    def document(self) -> str:
        """The request, as JSON text."""

    def left(self) -> float:
        """Seconds that somebody will wait for the answer."""

    def answer(self, verdict: str, body: bytes) -> bool:
        """Give the verdict; false: nobody waits for it any more.

        Raises `ValueError` for one that may not be; the call is then still open.
        """

    def fail(self) -> None:
        """There is no verdict."""

    def expire(self) -> None:
        """There is none in time."""
