"""Compare token counts of corpora: divergences with intervals, floors, λ, correlations."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.similarity.counts import Counts
from mergekit_audio.similarity.divergence import (
    cosine_distance,
    distributions,
    jensen_shannon,
    softmax_weights,
)

CONFIDENCE = 0.95
_CHUNK = 64
MEASURES = {"jensen_shannon": jensen_shannon, "cosine": cosine_distance}

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """What was found between N corpora.

    Parameters
    ----------
    names
        The corpora, in the recipe's order.
    values
        By measure, shape ``[N, N]``; 0 on the diagonal.
    by_codebook
        By measure, shape ``[K, N, N]``.
    corrected
        By measure, without the bias that resampling shows, shape ``[N, N]``.
    low, high
        By measure, 95 % intervals over resampled tracks, shape ``[N, N]``.
    floors
        By measure, shape ``[N]``: the mean between random halves of a corpus's own tracks. Corpora
        that are no further apart than that can't be told apart by this.
    """

    names: tuple[str, ...]
    values: Mapping[str, Array]
    by_codebook: Mapping[str, Array]
    corrected: Mapping[str, Array]
    low: Mapping[str, Array]
    high: Mapping[str, Array]
    floors: Mapping[str, Array]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        kinds = ("values", "corrected", "low", "high", "by_codebook", "floors")
        return {
            measure: {kind: getattr(self, kind)[measure].tolist() for kind in kinds}
            for measure in MEASURES
        }


def compare(counts: Mapping[str, Counts], *, resamples: int, seed: int) -> Comparison:
    """Return divergences between all corpora.

    Each codebook's tokens are pooled over a corpus's tracks, ``p = Σ_tracks n / Σ n``, compared,
    and the codebooks averaged. A resample draws each corpus's tracks anew with replacement. Finite
    corpora look further apart than they are, and resampled ones as much further again: with the
    value d and the resampled d* the corrected value is ``2 d - mean d*`` and the ends are the basic
    bootstrap's, ``2 d - q(d*)`` (Davison and Hinkley 1997, eq. 5.6), none below 0.

    Parameters
    ----------
    counts
        By corpus, shape ``[tracks, K, C]``.
    resamples
        Of the bootstrap.
    seed
        Of its generator.
    """
    names = tuple(counts)
    pooled = np.stack([counts[name].sum(axis=0) for name in names])
    pairs = list(itertools.combinations(range(len(names)), 2))
    shares = distributions(pooled.astype(np.float64))
    by_codebook = {
        measure: _square(
            np.stack([function(shares[i], shares[j]) for i, j in pairs]), pairs, len(names)
        )
        for measure, function in MEASURES.items()
    }
    values = {measure: found.mean(axis=0) for measure, found in by_codebook.items()}
    drawn = _resampled_values([counts[name] for name in names], pairs, resamples, seed)
    corrected, low, high = (
        {measure: _reflected(values[measure], drawn[measure], end, pairs) for measure in MEASURES}
        for end in ("mean", "high", "low")
    )
    return Comparison(
        names=names,
        values=values,
        by_codebook=by_codebook,
        corrected=corrected,
        low=low,
        high=high,
        floors=_floors([counts[name] for name in names], resamples, seed),
    )


def suggested_scales(
    comparison: Comparison, cultures: Sequence[str], *, temperature: float, scale: float
) -> dict[str, dict[str, float]]:
    """Return for each corpus the λ of the cultures: ``scale · softmax(-JSD / T)``.

    A corpus that is one of the cultures gives most to itself.
    """
    places = [comparison.names.index(name) for name in cultures]
    found = {}
    for row, target in enumerate(comparison.names):
        weights = softmax_weights(comparison.values["jensen_shannon"][row, places], temperature)
        found[target] = {
            name: float(scale * weight) for name, weight in zip(cultures, weights, strict=True)
        }
    return found


def gain_correlation(
    comparison: Comparison, gains: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    """Return how the gain of culture i's model on corpus j goes with their divergence, i ≠ j.

    Pearson's and Spearman's coefficients with two-sided p; pairs share corpora, so that p is too
    small, and with few pairs it says little.

    Parameters
    ----------
    gains
        ``gains[culture][corpus]``: score minus the base's.
    """
    from scipy.stats import pearsonr, spearmanr

    places = {name: place for place, name in enumerate(comparison.names)}
    pairs = [
        (culture, corpus)
        for culture in gains
        for corpus in gains[culture]
        if culture != corpus and culture in places and corpus in places
    ]
    found: dict[str, Any] = {
        "pairs": [
            {"culture": culture, "corpus": corpus, "gain": gains[culture][corpus]}
            for culture, corpus in pairs
        ]
    }
    for measure, values in comparison.values.items():
        distances = [float(values[places[culture], places[corpus]]) for culture, corpus in pairs]
        own = [gains[culture][corpus] for culture, corpus in pairs]
        for pair, distance in zip(found["pairs"], distances, strict=True):
            pair[measure] = distance
        if len(pairs) < 3 or len(set(own)) < 2 or len(set(distances)) < 2:
            found[measure] = None
            continue
        linear, ranks = pearsonr(distances, own), spearmanr(distances, own)
        found[measure] = {
            "pearson": float(linear.statistic),
            "pearson_p": float(linear.pvalue),
            "spearman": float(ranks.statistic),
            "spearman_p": float(ranks.pvalue),
        }
    return found


def _resampled_values(
    counts: Sequence[Counts], pairs: Sequence[tuple[int, int]], resamples: int, seed: int
) -> dict[str, Array]:
    """Return each pair's value in every resample by measure, shape ``[R, P]``."""
    generator = np.random.default_rng([seed, 1])
    drawn: dict[str, list[Array]] = {measure: [] for measure in MEASURES}
    for size in _chunks(resamples):
        shares = [_resampled(each, size, generator) for each in counts]
        for measure, function in MEASURES.items():
            drawn[measure].append(
                np.stack([function(shares[i], shares[j]).mean(axis=1) for i, j in pairs], axis=1)
            )
    return {measure: np.concatenate(parts) for measure, parts in drawn.items()}


def _reflected(values: Array, drawn: Array, end: str, pairs: Sequence[tuple[int, int]]) -> Array:
    """Return ``2 d`` minus a statistic of the resampled values, as a matrix, at least 0."""
    tail = (1 - CONFIDENCE) / 2
    statistics = {
        "mean": drawn.mean(axis=0),
        "low": np.quantile(drawn, tail, axis=0),
        "high": np.quantile(drawn, 1 - tail, axis=0),
    }
    square = _square(statistics[end][:, None], pairs, len(values))[0]
    reflected: Array = np.clip(2 * values - square, 0.0, None)
    return reflected


def _resampled(counts: Counts, size: int, generator: np.random.Generator) -> Array:
    """Return the pooled distributions of so many resamples of a corpus's tracks, ``[R, K, C]``."""
    tracks = len(counts)
    times = generator.multinomial(tracks, np.full(tracks, 1 / tracks), size=size)
    pooled = times.astype(np.float64) @ counts.reshape(tracks, -1)
    return distributions(pooled.reshape(size, *counts.shape[1:]))


def _floors(counts: Sequence[Counts], resamples: int, seed: int) -> dict[str, Array]:
    """Return the mean divergence between random halves of each corpus's tracks."""
    generator = np.random.default_rng([seed, 2])
    floors: dict[str, list[float]] = {measure: [] for measure in MEASURES}
    for each in counts:
        tracks, found = len(each), {measure: 0.0 for measure in MEASURES}
        for size in _chunks(min(resamples, 200)):
            halves = np.argsort(generator.random((size, tracks)), axis=1) < tracks // 2
            shares = [
                distributions(
                    (side.astype(np.float64) @ each.reshape(tracks, -1)).reshape(
                        size, *each.shape[1:]
                    )
                )
                for side in (halves, ~halves)
            ]
            for measure, function in MEASURES.items():
                found[measure] += float(function(*shares).mean(axis=1).sum())
        for measure, total in found.items():
            floors[measure].append(total / min(resamples, 200))
    return {measure: np.array(each) for measure, each in floors.items()}


def _chunks(count: int) -> Iterator[int]:
    for first in range(0, count, _CHUNK):
        yield min(_CHUNK, count - first)


def _square(values: Array, pairs: Sequence[tuple[int, int]], size: int) -> Array:
    """Return pairs' values ``[P, K]`` as symmetric matrices ``[K, N, N]``."""
    square = np.zeros((values.shape[1], size, size))
    for (i, j), value in zip(pairs, values, strict=True):
        square[:, i, j] = square[:, j, i] = value
    return square
