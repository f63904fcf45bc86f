"""Ways to cut what one side says into segments. The verdict may depend on none of them (safety.md R12)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Pieces = list[bytes]

SINGLE = 512  # of a large block, so many bytes at each end go out one by one
EVERY = 400  # up to so many bytes every offset is tried
EDGE, BETWEEN = 96, 32  # of more bytes, so many offsets at each end and so many between


@dataclass(frozen=True)
class Cut:
    """How the blocks of one side are cut: `pieces` gets a block and how many bytes the side has said before it."""

    name: str
    side: str
    pieces: Callable[[bytes, int], Pieces]

    def of(self, side: str, block: bytes, before: int) -> Pieces:
        """The segments of a block; the other side's are left whole."""
        return self.pieces(block, before) if side == self.side else [block]


def at(offset: int, side: str = "client") -> Cut:
    """One cut, after so many bytes of all that the side says."""

    def pieces(block: bytes, before: int) -> Pieces:
        local = offset - before
        return [block[:local], block[local:]] if 0 < local < len(block) else [block]

    return Cut(f"{side} at {offset}", side, pieces)


def offsets(length: int) -> Iterator[int]:
    """Where `length` bytes can be cut: everywhere, or at a sample of offsets if there are many."""
    if length <= EVERY:
        yield from range(1, length)
    else:
        yield from range(1, EDGE)
        step = (length - 2 * EDGE) / BETWEEN
        yield from (EDGE + int(step * n) for n in range(BETWEEN))
        yield from range(length - EDGE, length)


def _one_by_one(block: bytes, _before: int) -> Pieces:
    if len(block) <= 2 * SINGLE:
        return [block[n : n + 1] for n in range(len(block))]
    ends = [block[n : n + 1] for n in range(SINGLE)], [block[n : n + 1] for n in range(len(block) - SINGLE, len(block))]
    return [*ends[0], block[SINGLE:-SINGLE], *ends[1]]


def _in_halves(block: bytes, _before: int) -> Pieces:
    middle = len(block) // 2
    return [block[:middle], block[middle:]] if middle else [block]


WHOLE = Cut("whole", "client", lambda block, _before: [block])
BYTES = Cut("bytes", "client", _one_by_one)
HALVES = Cut("halves", "client", _in_halves)
ANSWERS = Cut("answers", "origin", _one_by_one)
