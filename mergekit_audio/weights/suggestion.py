"""Suggest a range of λ for θ = θ_base + λ Σ τᵢ from norms and signs alone, and say why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

UNEVEN_NORMS = 2.0
"""A largest ‖τ‖ beyond this many times the smallest is worth a word."""
GRID_POINTS = 5
_STRANGER = 1.0  # ‖τ‖ / ‖θ_base‖
_SAME_COSINE = 0.9999
_OPPOSED_COSINE = -0.05
_CHANCE = 0.4  # of signs that conflict: independent task vectors reach 0.5
_STEEPER = 1.25  # growth of a part beside that of the whole model
_TOLD_PARTS = 3
_WORTH_TELLING = 0.05  # of the whole model's norm


def suggest_scale(relations: Mapping[str, Any]) -> dict[str, Any]:
    """Return λ from ``low`` to ``high``, where to ``start``, a ``grid``, ``reasons``, ``cautions``.

    With K task vectors that are not zero, S = ‖Σ τ‖, n̄ = mean ‖τᵢ‖ and c the mean share of sign
    conflicts of the pairs:

    - ``average`` = 1 / K minimises Σᵢ ‖λ Σ τ − τᵢ‖²: the merged model is nearest to all models;
    - ``trust`` = n̄ / S: the merged model is as far from the base as the models are on average,
      ‖λ Σ τ‖ = n̄. It is never below 1 / K (S ≤ K n̄), and 1 / √K for ``orthogonal`` task vectors
      of one norm;
    - ``low`` = (1 − c) / K: where signs conflict, the sum takes from one model what it gives to
      another; ``high`` = min(1, ``trust``); ``start`` = 1 / K.

    One model alone: from ½ (WiSE-FT, arXiv 2109.01903) to 1, the model itself. Norms tell nothing
    about scores: the range is where to search on validation data. Numbers are None where no task
    vector differs from zero or one is not finite.

    Parameters
    ----------
    relations
        What ``inspect_models`` returns; weights are all 1.
    """
    active = [place for place, norm in enumerate(relations["norms"]) if norm]
    norms = [relations["norms"][place] for place in active]
    if None in relations["norms"] or relations["sum_norm"] is None:
        return _nothing("a task vector holds values that are not finite: no λ can be derived")
    if not norms:
        return _nothing("no model differs from the base: every λ gives the base")
    count, total = len(norms), relations["sum_norm"]
    mean_norm = math.fsum(norms) / count
    conflict = _pair_mean(relations["sign_conflict"], active)
    average, growth = 1.0 / count, total / mean_norm
    trust = 1.0 / growth if growth else None
    if count == 1:
        low, high = 0.5, 1.0
    else:
        low = (1.0 - (conflict or 0.0)) / count
        high = 1.0 if trust is None else min(1.0, max(trust, average))
    start = 1.0 if count == 1 else average
    found = {
        "low": low,
        "high": high,
        "start": start,
        "grid": _grid(low, high),
        "models": count,
        "mean_norm": mean_norm,
        "sum_norm": total,
        "growth": growth,
        "mean_cosine": _pair_mean(relations["cosine"], active),
        "mean_sign_conflict": conflict,
        "average": average,
        "orthogonal": 1.0 / math.sqrt(count),
        "trust": trust,
        "even_weights": [mean_norm / norm if norm else None for norm in relations["norms"]],
    }
    return {**found, "reasons": _reasons(found), "cautions": _cautions(relations, found, active)}


def _reasons(found: Mapping[str, Any]) -> list[str]:
    count = found["models"]
    if count == 1:
        return [
            "one model: λ = 1 is the model itself, smaller values lie between it and the base",
            "WiSE-FT (arXiv 2109.01903) found values around 0.5 robust where the data shifts",
        ]
    trust = found["trust"]
    reasons = [
        f"the sum of the {count} task vectors is {found['growth']:.2f} times as long as one of "
        f"them is on average ({math.sqrt(count):.2f} if they were orthogonal, {count} if parallel)",
        f"start: λ = 1/{count} = {found['average']:.3g} is nearest to all models "
        "(least squared distance)",
    ]
    if trust is None:
        reasons.append("high: the task vectors cancel out, so no λ below 1 leaves the base far")
    elif trust > 1:
        reasons.append(
            "high: λ = 1, though even there the merged model is nearer to the base than the models "
            "are, for the task vectors cancel each other"
        )
    else:
        reasons.append(
            f"high: at λ = {trust:.3g} the merged model is as far from the base as the models are "
            "on average; beyond it lie weights that no training has seen"
        )
    share = found["mean_sign_conflict"]
    if share is not None:
        reasons.append(
            f"low: λ = (1 − {share:.2f}) / {count} = {found['low']:.3g}, for two models disagree "
            f"about the sign of {100 * share:.0f} % of the values that both changed"
        )
    reasons.append(
        f"for a method that divides by the weights' sum, multiply by {count}: "
        f"{found['low'] * count:.2g} to {found['high'] * count:.2g}"
    )
    return reasons


def _cautions(
    relations: Mapping[str, Any], found: Mapping[str, Any], active: Sequence[int]
) -> list[str]:
    names, norms = relations["models"], relations["norms"]
    cautions = [
        f"{name} does not differ from the base"
        for name, norm in zip(names, norms, strict=True)
        if not norm
    ]
    cautions += [
        f"the task vector of {names[i]} is {relations['relative_norms'][i]:.2f} times as large as "
        "the base's weights: was the model trained from this base?"
        for i in active
        if (relations["relative_norms"][i] or 0.0) > _STRANGER
    ]
    largest = max(active, key=lambda place: norms[place])
    smallest = min(active, key=lambda place: norms[place])
    if norms[largest] > UNEVEN_NORMS * norms[smallest]:
        cautions.append(
            f"the task vector of {names[largest]} is {norms[largest] / norms[smallest]:.1f} times "
            f"as long as that of {names[smallest]} and decides the sum; weights of "
            + ", ".join(f"{names[i]}: {found['even_weights'][i]:.2g}" for i in active)
            + " would even them"
        )
    for j in active:
        for i in active:
            if i < j and (relations["cosine"][i][j] or 0.0) > _SAME_COSINE:
                cautions.append(
                    f"{names[i]} and {names[j]} have the same direction: one model twice?"
                )
    if found["mean_cosine"] is not None and found["mean_cosine"] < _OPPOSED_COSINE:
        cautions.append(
            f"the task vectors point against each other (mean cosine {found['mean_cosine']:.2f}): "
            "what one model learnt the sum takes from another"
        )
    if (found["mean_sign_conflict"] or 0.0) >= _CHANCE:
        cautions.append(
            "signs conflict about as often as by chance (50 %): methods that trim and elect signs "
            "(ties, sce) keep more of each model than a plain sum"
        )
    return cautions + _steep_parts(relations, found, active)


def _steep_parts(
    relations: Mapping[str, Any], found: Mapping[str, Any], active: Sequence[int]
) -> list[str]:
    """Return a line for each part of some size whose sum grows much more than the whole model's."""
    steep = []
    for part in relations["parts"]:
        mean_norm = math.fsum(part["norms"][place] for place in active) / len(active)
        if mean_norm >= _WORTH_TELLING * found["mean_norm"]:
            growth = part["sum_norm"] / mean_norm
            if growth > _STEEPER * found["growth"]:
                steep.append((growth, part["name"]))
    return [
        f"in {name} the task vectors are more alike (the sum is {growth:.2f} times as long): "
        f"there λ = {1 / growth:.3g} is already as far as the models went"
        for growth, name in sorted(steep, reverse=True)[:_TOLD_PARTS]
    ]


def _nothing(reason: str) -> dict[str, Any]:
    keys = (
        *("low", "high", "start", "models", "mean_norm", "sum_norm", "growth", "mean_cosine"),
        *("mean_sign_conflict", "average", "orthogonal", "trust", "even_weights"),
    )
    return {**dict.fromkeys(keys), "grid": [], "reasons": [reason], "cautions": []}


def _grid(low: float, high: float) -> list[float]:
    """Return points from low to high, rounded to two digits, for a sweep's ``scales``."""
    step = (high - low) / (GRID_POINTS - 1)
    points = [float(f"{low + place * step:.2g}") for place in range(GRID_POINTS)]
    return list(dict.fromkeys(points))


def _pair_mean(table: Sequence[Sequence[float | None]], active: Sequence[int]) -> float | None:
    values = [table[i][j] for i in active for j in active if i < j]
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
