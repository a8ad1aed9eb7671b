"""The chosen λ of the cultures read as a training mixture, as a recipe for ``train-multi``.

OptiMer (arXiv 2603.28858) found that the best weights of a merge, taken as the ratios of a data
mixture, improve a model that is trained on this mixture.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergekit_audio.pretrain.segments import SEGMENT_S
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.recipe.sweep import SweepRecipe
from mergekit_audio.sweep.mixture_recipe import (
    MIXTURE_NAME,
    Source,
    mixture_recipe,
    rounded,
    source_of,
    template_of,
)
from mergekit_audio.sweep.planner import SweepPlan

DEFAULT_HOURS = 100.0
"""Of the whole mixture, where the recipe gives none and the corpora's hours are not known."""


@dataclass(frozen=True)
class Mixture:
    """A mixture and the recipe that trains on it.

    Parameters
    ----------
    summary
        ``row`` whose λ it reads, ``equal`` (whether all cultures share one λ), ``total_hours``,
        ``cultures`` (``name``, ``scale``, ``weight``, ``share``, ``hours``) and ``recipe``, the
        file; only ``row`` and ``why`` where there is none.
    notes
        What a reader must know.
    text
        The recipe; empty where there is no mixture.
    """

    summary: dict[str, Any]
    notes: tuple[str, ...]
    text: str = ""


def suggest_mixture(
    planned: SweepPlan, tasks: Sequence[PreparedTask], selection: Mapping[str, Any]
) -> Mixture | None:
    """Read the chosen λ as a mixture: ``share_i = max(0, λ_i w_i) / Σ_j max(0, λ_j w_j)``.

    The hours are the recipe's ``mixture_hours``, else as many as the corpora hold at these shares,
    where the sweep knows all of them, else 100. ``None`` for one culture alone.

    Parameters
    ----------
    planned
        The sweep.
    tasks
        Its prepared tasks.
    selection
        What was chosen: ``row`` and ``scales``.
    """
    recipe = planned.recipe
    if len(recipe.cultures) < 2:
        return None
    factors = _factors(recipe, selection)
    weights = {each.name: factors[each.name] * each.weight for each in recipe.cultures}
    total = sum(max(0.0, weight) for weight in weights.values())
    if total <= 0:
        why = f"no culture has a λ above 0 at {selection['row']}"
        return Mixture({"row": selection["row"], "why": why}, (f"No mixture to train on: {why}.",))
    shares = {name: max(0.0, weight) / total for name, weight in weights.items()}
    template = template_of(planned, shares)
    sources = {name: source_of(planned, name) for name in shares if shares[name] > 0}
    held = {
        name: _hours(planned, tasks, source, template.recipe.arguments.crop_s)
        for name, source in sources.items()
    }
    hours = _total_hours(recipe, shares, held)
    summary = {
        "row": selection["row"],
        "equal": recipe.space != "per_culture",
        "total_hours": hours,
        "cultures": [
            {
                "name": each.name,
                "scale": factors[each.name],
                "weight": each.weight,
                "share": shares[each.name],
                "hours": rounded(hours * shares[each.name]),
            }
            for each in recipe.cultures
        ],
        "recipe": MIXTURE_NAME,
    }
    notes = _notes(recipe, summary, held)
    return Mixture(summary, tuple(notes), mixture_recipe(planned, summary, template, sources))


def _factors(recipe: SweepRecipe, selection: Mapping[str, Any]) -> dict[str, float]:
    """Return λ of each culture; with one λ, or one a group of tensors, the same for all."""
    scales = dict(selection["scales"])
    if recipe.space == "per_culture":
        return {each.name: float(scales[each.name]) for each in recipe.cultures}
    mean = sum(scales.values()) / len(scales)
    return {each.name: float(mean) for each in recipe.cultures}


def _hours(
    planned: SweepPlan,
    tasks: Sequence[PreparedTask],
    source: Source,
    crop_s: float,
) -> float | None:
    """Return the hours of training segments, where the corpora are those of tasks; else None."""
    known = {os.path.realpath(planned.root / task.task.corpus): task.corpus for task in tasks}
    corpora = [known.get(os.path.realpath(place)) for place in source.places]
    found = 0.0
    for corpus in corpora:
        if corpus is None:
            return None
        pieces = corpus.segments(max(SEGMENT_S, crop_s), crop_s, "train")
        found += sum(each.stop - each.start for each in pieces) / corpus.sample_rate_hz / 3600
    return found


def _total_hours(
    recipe: SweepRecipe, shares: Mapping[str, float], held: Mapping[str, float | None]
) -> float:
    if recipe.mixture_hours is not None:
        return recipe.mixture_hours
    most = [None if hours is None else hours / shares[name] for name, hours in held.items()]
    known = [hours for hours in most if hours]
    return rounded(min(known)) if len(known) == len(most) else DEFAULT_HOURS


def _notes(
    recipe: SweepRecipe, summary: Mapping[str, Any], held: Mapping[str, float | None]
) -> list[str]:
    cultures = summary["cultures"]
    told = ", ".join(f"{each['name']} {100 * each['share']:.1f} %" for each in cultures)
    how = f"the λ of {summary['row']} as ratios"
    if summary["equal"]:
        how = "one λ for all cultures is the equal mixture"
        if len({each.weight for each in recipe.cultures}) > 1:
            how = "one λ for all cultures is the mixture by their weights"
    notes = [
        f"Suggested mixture for `cmerge train-multi`, {summary['total_hours']:.4g} h: {told} "
        f"({how}; {MIXTURE_NAME})."
    ]
    left_out = [each["name"] for each in cultures if each["scale"] * each["weight"] < 0]
    if left_out:
        notes.append(
            f"{', '.join(left_out)}: λ below 0 takes a culture away, which no mixture can: 0 hours."
        )
    for each in cultures:
        hours = held.get(each["name"])
        if hours is not None and each["hours"] > hours * 1.001:
            most = min(h / e["share"] for e in cultures if (h := held.get(e["name"])) is not None)
            notes.append(
                f"{each['name']} holds {hours:.4g} h to train on, but its share are "
                f"{each['hours']:.4g} h: with `mixture_hours: {most:.4g}` the ratios hold."
            )
    return notes
