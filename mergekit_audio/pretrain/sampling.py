"""Which clip comes when: a function of seed, stage and position, so that a resume has no state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

# What a stream of random numbers is for; the first word of its seed.
_ORDER, _CROP, BATCH, SUBSET, DROPOUT, HEAD, FIT, TRANSFER = 1, 2, 3, 4, 5, 6, 7, 8


@dataclass(frozen=True)
class ClipOrder:
    """The source and segment of every position of a stage.

    Parameters
    ----------
    sources
        Index of the source of each position ``[N]``.
    segments
        Index of the segment within its source of each position ``[N]``.
    """

    sources: IntArray
    segments: IntArray


def clip_order(
    shares: Sequence[Fraction],
    segment_counts: Sequence[int],
    positions: int,
    *,
    seed: int,
    stage: int,
) -> ClipOrder:
    """Return the order of N clips, with exact shares and every segment of a source once a pass.

    The counts of the sources are ``shares · N`` rounded by the largest remainder, and each source's
    clips are spread evenly: its k-th clip of n stands near position (k + ½) · N / n.

    Parameters
    ----------
    shares
        The share of each source; they add up to 1.
    segment_counts
        Segments of each source.
    positions
        N, clips of the stage.
    seed, stage
        The recipe's seed and the index of the stage.
    """
    sources = interleave(whole_counts(shares, positions))
    segments = np.empty(positions, dtype=np.int64)
    for source, count in enumerate(segment_counts):
        places = np.flatnonzero(sources == source)
        passes = -(-len(places) // count) if len(places) else 0
        drawn = [
            stream(_ORDER, seed, stage, source, turn).permutation(count) for turn in range(passes)
        ]
        if drawn:
            segments[places] = np.concatenate(drawn)[: len(places)]
    return ClipOrder(sources, segments)


def whole_counts(shares: Sequence[Fraction], total: int) -> list[int]:
    """Return whole numbers near ``shares · total`` that add up to ``total`` (largest remainder)."""
    exact = [share * total for share in shares]
    counts = [int(value) for value in exact]
    by_remainder = sorted(
        range(len(exact)), key=lambda index: (counts[index] - exact[index], index)
    )
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts


def interleave(counts: Sequence[int]) -> IntArray:
    """Return each index as often as its count says, every one spread evenly over the whole."""
    times = [(np.arange(count) + 0.5) / count for count in counts if count]
    indices = [np.full(count, index) for index, count in enumerate(counts) if count]
    if not times:
        return np.empty(0, dtype=np.int64)
    order = np.argsort(np.concatenate(times), kind="stable")
    return np.concatenate(indices)[order].astype(np.int64)


def crop_start(
    segment_samples: int, crop_samples: int, *, snap: int, seed: int, stage: int, position: int
) -> int:
    """Return where the crop of a position starts in its segment, a multiple of ``snap`` samples."""
    choices = (segment_samples - crop_samples) // snap + 1
    return int(stream(_CROP, seed, stage, position).integers(choices)) * snap


def stream(purpose: int, *words: int) -> np.random.Generator:
    """Return the generator of one purpose, seeded by words that name what it is drawn for."""
    return np.random.default_rng([purpose, len(words), *words])


def seed_of(purpose: int, *words: int) -> int:
    """Return a 63-bit seed for generators that take one number."""
    return int(stream(purpose, *words).integers(1 << 63, dtype=np.uint64))
