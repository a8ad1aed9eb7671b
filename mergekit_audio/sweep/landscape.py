"""Score the points of a sweep: directly, or on features that are interpolated between nodes."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mergekit_audio.errors import NotFiniteError
from mergekit_audio.probe.points import ModelRow, PointRunner, checkpoint_row
from mergekit_audio.progress import ProgressEvent
from mergekit_audio.recipe.sweep import SweepRecipe
from mergekit_audio.sweep.dense import NodeFinder
from mergekit_audio.sweep.interpolated import Interpolation, Scales
from mergekit_audio.sweep.merges import VALID_ALONE, Merges, point_facts, scored_key
from mergekit_audio.sweep.spaces import (
    BASE_NAME,
    Point,
    Space,
    direct_points,
    early_order,
)
from mergekit_audio.weights.checkpoint import Checkpoint

MOST_NAMED = 5


@dataclass
class Landscape:
    """A sweep's points and their scores, each computed once.

    Parameters
    ----------
    recipe
        The sweep.
    space
        Its points.
    models
        The base, the cultures and the compared models by name.
    merges
        Makes merged weights.
    runner
        Scores rows.
    rows
        The summary's rows so far, in the order in which they were scored.
    interpolations
        Of each variant of the method, where the recipe asks for them.
    diverged
        The points whose features are not finite, and why.
    """

    recipe: SweepRecipe
    space: Space
    models: Mapping[str, Checkpoint]
    merges: Merges
    runner: PointRunner
    rows: list[dict[str, Any]] = field(default_factory=list)
    interpolations: dict[int, Interpolation] = field(default_factory=dict)
    diverged: list[dict[str, Any]] = field(default_factory=list)

    def run(self) -> None:
        """Score the models, then the points of each variant in an order that shows much early."""
        for row in self._model_rows():
            self.rows.append(self.runner.run(row))
        for variant in range(len(self.space.variants)):
            if self.recipe.interpolate is not None:
                self._interpolate(variant)
            points = self.points(variant)
            marked = [point for point in points if point.is_marked]
            others = [point for point in points if not point.is_marked]
            for point in [*marked, *(others[place] for place in early_order(len(others)))]:
                self.score(point)

    def add(self, rows: Iterable[ModelRow]) -> None:
        """Score rows that are no points of the space, on validation and test."""
        for row in rows:
            self.runner.total += len(self.runner.tasks) * len(self.runner.seeds)
            self.rows.append(self.runner.run(row))

    def points(self, variant: int) -> list[Point]:
        """Return the points of a variant that are scored, in rising order.

        All of the space; where interpolation is not accurate enough the recipe's λ and the nodes.
        """
        found = self.interpolations.get(variant)
        if found is None or found.accepted:
            return [point for point in self.space.points if point.variant == variant]
        points = {each.scales: each for each in direct_points(self.recipe, self.space, variant)}
        singles = list(self.space.singles.values())
        for scales in found.nodes:
            if any(scales) and scales not in singles:
                points.setdefault(scales, Point(scales, variant))
        return sorted(points.values(), key=lambda point: point.scales)

    def score(self, point: Point) -> dict[str, Any] | None:
        """Return a point's row, scored on validation, on test as well where it is marked.

        Interpolated where that was found to be accurate, else direct. ``None`` where the features
        are not finite: the point is kept in ``diverged``.
        """
        try:
            found = self.runner.run(self._row(point))
        except NotFiniteError as error:
            name = self.space.name(point)
            self.runner.lines = [line for line in self.runner.lines if line["model"] != name]
            self.diverged.append({"row": name, "scales": list(point.scales), "why": error.message})
            note = f"left out: {name}: {error.message.removeprefix(f'{name} on ')}"
            self.runner.progress(ProgressEvent("sweep", len(self.rows), len(self.rows), note))
            return None
        self.rows.append(found)
        return found

    def finish(self, name: str) -> dict[str, Any] | None:
        """Score the chosen row directly on validation and test; return its earlier row.

        ``None`` where it was scored on both already.
        """
        place = next(i for i, row in enumerate(self.rows) if row["name"] == name)
        earlier = self.rows[place]
        if all("test" in held for held in earlier["scores"].values()):
            return None
        point = self.point_of(earlier)
        self.runner.lines = [line for line in self.runner.lines if line["model"] != name]
        self.rows[place] = self.runner.run(self.merges.row(point))
        return earlier

    def point_of(self, row: Mapping[str, Any]) -> Point:
        """Return the point of a row of the summary."""
        scales = tuple(row["scales"].values())
        variants = [dict(each[0]) for each in self.space.variants]
        variant = variants.index(row["parameters"]) if row["parameters"] in variants else 0
        return Point(scales, variant, row["weight_average"], row["negation"])

    def ordered_lines(self) -> list[dict[str, Any]]:
        """Return the finished points in the order of the rows, tasks and seeds."""
        places = {row["name"]: place for place, row in enumerate(self.ordered_rows())}
        return sorted(self.runner.lines, key=lambda line: places[line["model"]])

    def ordered_rows(self) -> list[dict[str, Any]]:
        """Return the rows: models first, then the points, variant by variant, in rising order."""
        variants = [dict(each[0]) for each in self.space.variants]

        def place(row: Mapping[str, Any]) -> tuple[Any, ...]:
            if row["kind"] != "merge" or not row["in_grid"]:
                return (0,)
            return 1, variants.index(row["parameters"]), tuple(row["scales"].values())

        return sorted(self.rows, key=place)

    def notes(self) -> list[str]:
        """Return what a reader must know of interpolation and of points that diverge."""
        notes = [note for each in self.interpolations.values() for note in each.notes]
        names: dict[str, list[str]] = {}
        for each in self.diverged:
            why = each["why"].removeprefix(f"{each['row']} on ")
            names.setdefault(why, []).append(each["row"])
        for why, rows in names.items():
            more = f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else ""
            notes.append(f"Left out: {'; '.join(rows[:MOST_NAMED])}{more}: {why}.")
        return notes

    def _model_rows(self) -> Iterator[ModelRow]:
        backbone, space = self.recipe.backbone, self.space
        yield self.base
        for culture in self.recipe.cultures:
            row = checkpoint_row(culture.name, "culture", self.models[culture.name], backbone)
            point = space.single(culture.name)
            if point is not None:
                facts = {**point_facts(space, point), "parameters": {}}
                row = replace(row, in_grid=True, scale=point.scale, facts=facts)
            yield row
        for compared in self.recipe.compare:
            yield checkpoint_row(compared.name, "compare", self.models[compared.name], backbone)
        if self.merges.planned.has_extra_average:
            yield self.merges.average_row()

    @functools.cached_property
    def base(self) -> ModelRow:
        """The row of λ = 0."""
        axes = self.space.axes
        facts = {**point_facts(self.space, Point((0.0,) * len(axes))), "parameters": {}}
        row = checkpoint_row(
            BASE_NAME,
            "base",
            self.models[BASE_NAME],
            self.recipe.backbone,
            scale=0.0 if len(axes) == 1 else None,
            in_grid=True,
        )
        return replace(row, facts=facts)

    def _interpolate(self, variant: int) -> None:
        assert self.recipe.interpolate is not None
        finder = NodeFinder(
            self.runner, self.space, self.recipe.interpolate, self.base, self.merges.row
        )
        found = finder.find(variant)
        self.interpolations[variant] = found
        if not found.accepted:
            self._recount()

    def _recount(self) -> None:
        """Tell the runner how many points there are now."""
        rows = self.merges.planned.checkpoints
        rows += sum(len(self.points(variant)) for variant in range(len(self.space.variants)))
        self.runner.total = rows * len(self.runner.tasks) * len(self.runner.seeds)

    def _row(self, point: Point) -> ModelRow:
        if point.is_marked:
            return self.merges.row(point)
        found = self.interpolations.get(point.variant)
        if found is None or (point.scales not in found.nodes and not found.accepted):
            return self.merges.row(point, VALID_ALONE)
        if not found.box.contains(point.scales):
            raise NotFiniteError("beyond the range in which features were found to be finite")
        return self._interpolated_row(found, point)

    def _interpolated_row(self, found: Interpolation, point: Point) -> ModelRow:
        """Return a row on a node's features, or on features between those of the nodes."""
        node = found.nodes.get(point.scales)
        scales: Scales = point.scales
        return ModelRow(
            name=self.space.name(point),
            kind="merge",
            digest="" if node is None else node.digest,
            key=scored_key(found.key(scales) if node is None else node.key, VALID_ALONE),
            encoder=self.base.encoder,
            scale=point.scale,
            in_grid=True,
            features=lambda task: found.features(scales, task.task.name),
            facts=point_facts(self.space, point, interpolated=node is None),
            splits=VALID_ALONE,
        )
