"""What the data plane tells us of itself, as frozen values: states and counters, and what was captured.

Field names are those of the JSON that crosses the border (`types.py`). Making these classes takes longer than a start
should, so this module is imported by who asks for the first of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from penstock.engine.affinity import AffinityStats  # noqa: TC001 - pydantic looks for it


@dataclass(frozen=True, slots=True)
class CertificateStats:
    """A certificate that is served."""

    cert: str
    """Its file."""
    names: tuple[str, ...]
    """Hosts that it is good for."""
    key: str
    """Kind of its key: `"ECDSA"`, `"Ed25519"` or `"RSA"`."""
    not_before: int
    """Seconds since the epoch, as is `not_after`."""
    not_after: int
    ocsp_until: int | None = None
    """Until when what is stapled to it counts; `None` where nothing is."""


@dataclass(frozen=True, slots=True)
class CaptureStats:
    """What a listener captures."""

    entries: int
    """Exchanges that are kept."""
    bytes: int
    """Memory that they and those under way take, of `memory`."""
    memory: int
    captured: int
    """Exchanges captured since the process started."""
    evicted: int
    """Those of them that made room for newer ones."""
    dropped: int
    """Exchanges for which there was no room."""


@dataclass(frozen=True, slots=True)
class CaptureRow:
    """A captured exchange."""

    id: int
    entry: dict[str, Any]
    """As an HTTP archive (HAR 1.2) has it."""


@dataclass(frozen=True, slots=True)
class Captures:
    """Captured exchanges, oldest first."""

    entries: tuple[CaptureRow, ...]
    more: bool
    """There are more behind the last."""


@dataclass(frozen=True, slots=True)
class UserStats:
    """The users of a listener."""

    count: int | None
    """`None`: an add-on knows."""
    checks: int
    """Passwords that were looked at: those that had been right before are not. Calls of an add-on are counted there."""
    trouble: str | None
    """Why their file could not be read anew."""


@dataclass(frozen=True, slots=True)
class ListenerStats:
    """Counters of one listener since the process started."""

    name: str
    addresses: tuple[str, ...]
    connections: int
    accepted: int
    refused: int
    tunnels: int
    handshakes: int
    """TLS handshakes that came to their end."""
    resumed: int
    """Those of them that a ticket made short."""
    certificates: tuple[CertificateStats, ...]
    state: Literal["open", "draining"]
    protocol: Literal["http", "tcp", "udp", "forward"]
    sessions: dict[str, int]
    """With "tcp" and "udp": sessions that have ended, by how, with "forward" associations of SOCKS; none with
    "http"."""
    bytes_in: int
    """With "tcp" and "udp", and in associations of SOCKS: what went from clients to endpoints, and as `bytes_out`
    back."""
    bytes_out: int
    datagrams_in: int
    """With "udp", and in associations of SOCKS: datagrams that went from clients to endpoints, as `datagrams_out`
    back, as `datagrams_dropped` nowhere."""
    datagrams_out: int
    datagrams_dropped: int
    rules: dict[str, int]
    """With "forward": requests and tunnels that each rule took, by its name."""
    interception: dict[str, int]
    """With "forward", where tunnels are opened: those that were, those that were not and why, clients that refused a
    certificate, and servers that were not believed."""
    users: UserStats | None
    """With "forward": nothing where nobody has to prove who they are."""
    capture: CaptureStats | None
    """Nothing where nothing is captured."""


@dataclass(frozen=True, slots=True)
class RouteStats:
    """Counters of one route; `_none` counts what no route took."""

    name: str
    maintenance: bool
    """Whether it is in maintenance, by the configuration or by command."""
    requests: int
    statuses: dict[str, int]
    """Answers by class: `"1xx"` to `"5xx"`."""
    bytes_in: int
    bytes_out: int


@dataclass(frozen=True, slots=True)
class ProbeStats:
    """The last probe of an endpoint."""

    ago: float
    """Seconds since it ended."""
    passed: bool
    outcome: str
    took: float
    failures_in_a_row: int


@dataclass(frozen=True, slots=True)
class EndpointStats:
    """State and counters of one endpoint."""

    address: str
    weight: int
    """As configured or ordered; one that starts slowly gets less for a while."""
    priority: int
    max_connections: int | None
    admin: Literal["ready", "draining", "disabled"]
    """What people decided, whatever its health."""
    state: str
    """`"up"`, `"down"`, `"ejected"`, or `"starting"`: it has not passed the probe that it must pass first."""
    since: float | None
    """Seconds since the state began."""
    reason: str | None
    ejected_for: float | None
    """Seconds until its ejection ends; `None` if it is not ejected."""
    ejections: int
    failures_in_a_row: int
    """Of its requests, those that count for the next ejection."""
    probe: ProbeStats | None
    """`None` before the first."""
    in_flight: int
    requests: int
    failures: int
    connects: int
    reused: int
    idle: int
    latency_us: int
    """Moving average of its latency in microseconds, as the balance policy sees it."""
    resolved: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LimitStats:
    """A limit of an upstream."""

    most: int
    taken: int
    refused: int
    """Requests that were answered 503 because of it."""


@dataclass(frozen=True, slots=True)
class MirrorStats:
    """Copies of requests to an upstream that routes mirror to."""

    in_flight: int
    answered: int
    failed: int
    dropped: int
    """Not sent, because there was no room for one more."""
    unfit: int
    """Not sent, because their body was too long or never became whole."""


@dataclass(frozen=True, slots=True)
class UpstreamStats:
    """The endpoints of one upstream."""

    name: str
    balance: str
    all_down: bool
    """Every endpoint fails its probes, so all of them are asked."""
    waiting: int
    """Requests that wait for a place at an endpoint."""
    retries: int
    """Attempts beyond the first."""
    retries_refused: int
    """Attempts that the retry budget did not allow."""
    limits: dict[str, LimitStats]
    """`connections`, `pending` and `requests`, as far as they are limited."""
    affinity: AffinityStats | None
    """Nothing where no table binds clients."""
    mirror: MirrorStats | None
    """Copies of requests; nothing where no route mirrors to it."""
    endpoints: tuple[EndpointStats, ...]


@dataclass(frozen=True, slots=True)
class ListStats:
    """A list that expressions look into."""

    name: str
    kind: str
    sources: tuple[str, ...]
    """Files and addresses that it is read from."""
    entries: int
    bytes: int
    """Memory that the entries take."""
    ignored: int
    """Lines that are right and no entries."""
    bad: int
    """Lines that are wrong."""
    refreshed: float
    """When it was read, in seconds since the epoch."""
    failures: int
    """Times that it could not be read anew."""
    trouble: str | None
    """Why it could not the last time; nothing if it could."""


@dataclass(frozen=True, slots=True)
class Latency:
    """A histogram of whole exchanges. `counts[i]` are those above `bounds_us[i - 1]` and up to `bounds_us[i]`."""

    bounds_us: tuple[int, ...]
    counts: tuple[int, ...]
    sum_us: int


@dataclass(frozen=True, slots=True)
class AccessLogStats:
    """Access records written, and those lost because the target was slower than the traffic."""

    records: int
    dropped: int


@dataclass(frozen=True, slots=True)
class HookStats:
    """Counters of one hook of an add-on."""

    hook: str
    outcomes: dict[str, int]
    """Calls by how they ended: `continued`, `answered`, `failed`, `timeout`, `busy`."""
    waited_us: int
    """Time that requests waited, in microseconds, added up."""


@dataclass(frozen=True, slots=True)
class AddonStats:
    """Calls of one add-on."""

    name: str
    hooks: tuple[HookStats, ...]
    waiting: int
    running: int
    late: int
    """Those of `running` that no request waits for any more."""


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """Memory of the process against its limit."""

    limit: int
    """Bytes; 0 where there is no limit."""
    used: int
    pressure: int
    """0: enough; 1: idle connections are closed; 2: new requests are refused."""
    failed: int
    """Allocations of the data plane that could not be had at once; those of all engines of the process."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters and states, read once."""

    version: int
    """Of the running plan; 0 before the first."""
    uptime: float
    workers: int
    stuck: tuple[int, ...]
    """The workers that do not go on, by number."""
    draining: bool
    listeners: tuple[ListenerStats, ...]
    routes: tuple[RouteStats, ...]
    upstreams: tuple[UpstreamStats, ...]
    lists: tuple[ListStats, ...]
    addons: tuple[AddonStats, ...]
    latency: Latency
    rejected: dict[str, int]
    """Requests that we answered with an error of the client's making, by cause."""
    failures: dict[str, int]
    """Attempts at an endpoint that failed, by cause."""
    memory: MemoryStats
    connections_limit: int | None
    """Client connections that there are descriptors for; `None` where the system sets no limit."""
    shed: dict[str, int]
    """What was closed to make room, by what it was."""
    panics: int
    dropped_fields: int
    """Fields of requests that were dropped because some servers read their names as others."""
    access_log: AccessLogStats
    events_dropped: int
