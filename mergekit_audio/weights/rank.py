"""How many directions a task vector uses: effective and stable rank of its matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mergekit_audio.progress import Progress, silent
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.dtypes import is_floating, to_float64
from mergekit_audio.weights.geometry import in_threads

_ELEMENTS_AT_ONCE = 1 << 19


@dataclass(frozen=True)
class Rank:
    """The ranks of one matrix τ with singular values σ₁ ≥ σ₂ ≥ ….

    Parameters
    ----------
    effective
        exp(− Σ pₖ ln pₖ) with pₖ = σₖ / Σ σ, from 1 to ``full`` (Roy & Vetterli, 2007, The
        effective rank).
    stable
        ‖τ‖² / σ₁², from 1 to ``full``.
    full
        min(rows, columns).
    """

    effective: float
    stable: float
    full: int

    @property
    def share(self) -> float:
        """The effective rank as a share of the full one, from 0 to 1."""
        return self.effective / self.full


def ranks(
    base: Checkpoint,
    models: Sequence[Checkpoint],
    *,
    workers: int | None = None,
    progress: Progress = silent,
) -> dict[str, list[Rank | None]]:
    """Return the ranks of τ for each model, by the name of each floating-point matrix.

    None where τ is zero or holds a value that is not finite. Singular values are the roots of the
    eigenvalues of the smaller Gram matrix (τ τᵀ or τᵀ τ), which is summed in float64 from blocks of
    rows or columns: those below 10⁻⁸ σ₁ are lost, and weigh nothing in either rank.

    Parameters
    ----------
    base, models
        Checkpoints of one layout, already known to be finite where they must be.
    workers
        Threads; None: one for each core that this process may use.
    progress
        Told of every matrix.
    """
    names = [
        name
        for name, info in base.index.items()
        if is_floating(info.dtype) and len(info.shape) == 2
    ]
    tasks = [(name, place) for name in names for place in range(len(models))]
    tasks.sort(key=lambda task: min(base.index[task[0]].shape), reverse=True)

    def ranked(task: tuple[str, int]) -> Rank | None:
        return _rank_of_gram(_gram(base, models[task[1]], task[0]), base.index[task[0]].shape)

    found: dict[str, list[Rank | None]] = {name: [None] * len(models) for name in names}
    for (name, place), rank in in_threads(ranked, tasks, workers, "effective ranks", progress):
        found[name][place] = rank
    return found


def _gram(base: Checkpoint, model: Checkpoint, name: str) -> np.ndarray:
    """Return τᵀ τ or τ τᵀ, whichever is smaller, in float64."""
    before, after = base.bits(name), model.bits(name)
    kinds = base.index[name].dtype, model.index[name].dtype
    if before.shape[0] < before.shape[1]:
        before, after = before.T, after.T
    gram = np.zeros((before.shape[1], before.shape[1]))
    rows = max(1, _ELEMENTS_AT_ONCE // before.shape[1])
    with np.errstate(invalid="ignore", over="ignore"):  # infinite values, where allowed
        for start in range(0, before.shape[0], rows):
            tau = to_float64(after[start : start + rows], kinds[1])
            tau -= to_float64(before[start : start + rows], kinds[0])
            gram += tau.T @ tau
    return gram


def _rank_of_gram(gram: np.ndarray, shape: tuple[int, ...]) -> Rank | None:
    if not np.isfinite(gram).all() or not gram.any():
        return None
    squares = np.maximum(np.linalg.eigvalsh(gram), 0.0)
    values = np.sqrt(squares)
    shares = values / values.sum()
    entropy = -math.fsum(float(share) * math.log(share) for share in shares if share > 0)
    stable = float(squares.sum() / squares.max())
    return Rank(effective=math.exp(entropy), stable=stable, full=min(shape))
