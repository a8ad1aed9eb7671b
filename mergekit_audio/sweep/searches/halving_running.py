"""Successive halving in a sweep's landscape: λ on parts of the tasks, then on the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

from mergekit_audio.errors import NotFiniteError
from mergekit_audio.probe.points import PointRunner
from mergekit_audio.recipe.search import Search
from mergekit_audio.sweep.landscape import Landscape
from mergekit_audio.sweep.merges import VALID_ALONE, scored_key
from mergekit_audio.sweep.searches.halving import (
    USED,
    Round,
    extracted_tracks,
    halve,
    part_of_task,
    rounds,
    smallest_scorable,
)
from mergekit_audio.sweep.searches.scored import (
    Searched,
    count_trials,
    known_rows,
    rounded,
    search_goal,
)
from mergekit_audio.sweep.spaces import Point, design_points


def halve_landscape(landscape: Landscape, settings: Search) -> Searched:
    """Score many λ on few tracks and the best of them on more; those of the last round are rows.

    Scores on fewer tracks have task digests of their own, so that neither the ledger nor the
    feature cache takes them for scores on all; they are lines of the results with their
    ``budget``, no rows. In each round the rule of choice looks at the base on the same tracks.

    Parameters
    ----------
    landscape
        A sweep that was run; it gets the rows of the last round.
    settings
        ``sampler: halving``.
    """
    halving = settings.halving_settings()
    tasks = landscape.runner.tasks
    used = [int(sum((task.splits == split).sum() for split in USED)) for task in tasks]
    found, notes = smallest_scorable(rounds(settings.trials, used, halving), tasks, settings.seed)
    known = known_rows(landscape)
    drawn = design_points(landscape.space.box, settings.trials, halving.design, settings.seed)
    candidates = [place for place in dict.fromkeys(map(rounded, drawn)) if place not in known]
    work = _Halving(landscape, settings, found)
    ranked = halve(
        [Point(place) for place in candidates],
        found,
        work.score,
        lambda point: (math.hypot(*point.scales), point.scales),
    )
    heard = [
        extracted_tracks(found, *(int((task.splits == split).sum()) for split in USED))
        for task in tasks
    ]
    worth = math.ceil(sum(heard) / sum(used))
    told = ", ".join(f"{each.candidates} on {each.text()}" for each in found)
    notes.append(
        f"Successive halving: {len(candidates)} λ, {told}; with features kept between rounds it "
        f"embeds as much as {worth} λ on all tracks."
    )
    if not ranked:
        notes.append("No λ of the halving had finite features.")
    return Searched(
        {
            "sampler": settings.sampler,
            "axes": list(landscape.space.axes),
            "split": "valid",
            "trials": work.trials,
            "halving": {
                "factor": halving.factor,
                "rounds": [
                    {
                        "candidates": each.candidates,
                        "share": each.share,
                        "tracks": work.tracks(place),
                    }
                    for place, each in enumerate(found)
                ],
                "extractions": worth,
            },
        },
        tuple(work.lines),
        tuple(notes),
    )


@dataclass
class _Halving:
    """The rounds' scores so far."""

    landscape: Landscape
    settings: Search
    rounds: list[Round]
    trials: list[dict[str, Any]] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)
    _parts: dict[int, tuple[PointRunner, dict[str, Any]]] = field(default_factory=dict)

    def score(self, point: Point, place: int) -> float | None:
        """Return the goal of a candidate in a round; ``None`` where features are not finite."""
        each = self.rounds[place]
        found = self._full(point) if each.is_full else self._part(point, place)
        if found is None:
            return None
        row, base = found
        value = search_goal(self.landscape.recipe, row, base)
        self.trials.append(
            {
                "number": len(self.trials),
                "row": row["name"],
                "scales": dict(zip(self.landscape.space.axes, point.scales, strict=True)),
                "values": [value],
                "share": each.share,
            }
        )
        return value

    def tracks(self, place: int) -> dict[str, int]:
        """Return the training and validation tracks of each task in a round."""
        runner = self.landscape.runner
        tasks = runner.tasks
        if not self.rounds[place].is_full:
            tasks = self._parts[place][0].tasks if place in self._parts else []
        return {
            task.task.name: int(sum((task.splits == split).sum() for split in USED))
            for task in tasks
        }

    def _full(self, point: Point) -> tuple[dict[str, Any], dict[str, Any]] | None:
        count_trials(self.landscape, 1)
        row = self.landscape.score(point)
        base = next(each for each in self.landscape.rows if each["kind"] == "base")
        return None if row is None else (row, base)

    def _part(self, point: Point, place: int) -> tuple[dict[str, Any], dict[str, Any]] | None:
        runner, base = self._runner(place)
        name = self.landscape.space.name(point)
        row = self.landscape.merges.row(point, VALID_ALONE)
        try:
            found = self._scored(runner, replace(row, name=self._name(name, place)), place)
        except NotFiniteError as error:
            self.landscape.diverged.append(
                {"row": name, "scales": list(point.scales), "why": error.message}
            )
            return None
        return found, base

    def _runner(self, place: int) -> tuple[PointRunner, dict[str, Any]]:
        """Return the runner of a round's tracks, and the base's row on them."""
        if place not in self._parts:
            whole, each = self.landscape.runner, self.rounds[place]
            tasks = [part_of_task(task, each.share, self.settings.seed) for task in whole.tasks]
            rows = 1 + each.candidates
            runner = replace(
                whole, tasks=tasks, lines=[], total=rows * len(tasks) * len(whole.seeds)
            )
            base = self.landscape.base
            part = replace(
                base,
                name=self._name(base.name, place),
                key=scored_key(base.key, VALID_ALONE),
                splits=VALID_ALONE,
            )
            self._parts[place] = runner, self._scored(runner, part, place)
        return self._parts[place]

    def _scored(self, runner: PointRunner, row: Any, place: int) -> dict[str, Any]:
        """Score a row on a part of the tracks and keep its lines with their budget."""
        before = len(runner.lines)
        try:
            found = runner.run(row)
        except NotFiniteError:
            del runner.lines[before:]
            raise
        each = self.rounds[place]
        sizes = {task.task.name: len(task.splits) for task in runner.tasks}
        whole = {task.task.name: len(task.splits) for task in self.landscape.runner.tasks}
        for line in runner.lines[before:]:
            task = line["task"]
            budget = {"share": each.share, "tracks": sizes[task], "of": whole[task]}
            self.lines.append({**line, "budget": budget})
        return found

    def _name(self, name: str, place: int) -> str:
        return f"{name} ({self.rounds[place].text()})"
