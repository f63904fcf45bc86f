"""What a row brings home: samples, medians, ratios and verdicts. Pure, and the whole of what the JSON holds."""

from dataclasses import asdict, dataclass, field
from math import comb
from statistics import median
from typing import Any

# Samples that differ by more than this say more about the machine than about the peer.
NOISY = 1.15


@dataclass
class Figure:
    """One quantity of one contender, sampled once a round."""

    peer: str
    unit: str
    variant: str = ""
    samples: list[float] = field(default_factory=list)
    # What helps to judge the samples: requests per second, share of the core, latency; also one value a round.
    beside: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        return f"{self.peer}, {self.variant}" if self.variant else self.peer

    @property
    def middle(self) -> float | None:
        return median(self.samples) if self.samples else None

    @property
    def noisy(self) -> bool:
        return len(self.samples) > 1 and max(self.samples) > min(self.samples) * NOISY

    def observe(self, **values: float) -> None:
        """Keeps what was seen beside a sample."""
        for name, value in values.items():
            self.beside.setdefault(name, []).append(value)

    def as_json(self) -> dict[str, Any]:
        """The figure with its summary, rounded to what the measurement can tell."""
        whole = asdict(self)
        whole["samples"] = [round(sample, 3) for sample in self.samples]
        whole["beside"] = {name: round(median(values), 3) for name, values in self.beside.items()}
        whole["noisy"] = self.noisy
        whole["median"] = None if self.middle is None else round(self.middle, 3)
        if self.samples:
            whole["low"], whole["high"] = round(min(self.samples), 3), round(max(self.samples), 3)
        return whole


@dataclass(frozen=True)
class Verdict:
    """A figure or a ratio beside its target. `met` is nothing when there was nobody to compare with, or no target."""

    what: str
    value: float | None
    limit: float | None = None
    unit: str = "×"

    @property
    def met(self) -> bool | None:
        if self.value is None or self.limit is None:
            return None
        # Compared as it is printed: no target is missed by a digit that nobody sees.
        return round(self.value, 2) <= self.limit

    def as_json(self) -> dict[str, Any]:
        value = None if self.value is None else round(self.value, 3)
        return {"what": self.what, "value": value, "limit": self.limit, "unit": self.unit, "met": self.met}


@dataclass
class Result:
    """One row of the report."""

    row: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def find(self, peer: str, variant: str = "") -> Figure | None:
        """The figure of a contender, if it was measured."""
        return next((one for one in self.figures if (one.peer, one.variant) == (peer, variant) and one.samples), None)

    def compare(self, ours: Figure | None, theirs: Figure | None, name: str, limit: float | None = None) -> None:
        """Adds the ratio of two figures as a verdict; without one of them it stands there as not measured."""
        self.verdicts.append(Verdict(f"to {name}", ratio(ours, theirs), limit))

    def exceed(self, ours: Figure | None, theirs: Figure | None, name: str, limit: float) -> None:
        """Adds by how much one figure exceeds another, the median of the rounds, as a verdict in their unit."""
        found = None
        if ours is not None and theirs is not None:
            found = median(mine - other for mine, other in zip(ours.samples, theirs.samples, strict=False))
        self.verdicts.append(Verdict(f"more than {name}", found, limit, ours.unit.partition("/")[0] if ours else ""))

    def as_json(self) -> dict[str, Any]:
        return {
            "row": self.row,
            "title": self.title,
            "figures": [one.as_json() for one in self.figures],
            "verdicts": [one.as_json() for one in self.verdicts],
            "absent": self.absent,
            "failures": self.failures,
            "notes": self.notes,
        }


def ratio(ours: Figure | None, theirs: Figure | None) -> float | None:
    """The median of the ratios round by round.

    The samples of a round were taken within the same seconds, so a machine that slows down for a while slows both, and
    the ratio stands.
    """
    if ours is None or theirs is None:
        return None
    each = ratios(ours, theirs)
    return median(each) if each else None


def ratios(ours: Figure, theirs: Figure) -> list[float]:
    """The ratio of each round."""
    return [mine / other for mine, other in zip(ours.samples, theirs.samples, strict=False) if other > 0]


def interval(samples: list[float]) -> tuple[float, float, float]:
    """The median, and between what it lies with 95 % confidence.

    From the order of the samples alone: each lies above the true median or below it like a coin, whatever its
    distribution. Few samples cannot tell, then it is all of them.
    """
    ordered = sorted(samples)
    total = 2 ** len(ordered)
    below = cut = 0
    for place in range(len(ordered) // 2):
        below += comb(len(ordered), place)
        if below * 40 > total:
            break
        cut = place
    return median(ordered), ordered[cut], ordered[-1 - cut]


def better(*figures: Figure | None) -> Figure | None:
    """The figure with the lowest median among those that were measured."""
    measured = [one for one in figures if one is not None and one.middle is not None]
    return min(measured, key=lambda one: one.middle or 0.0, default=None)
