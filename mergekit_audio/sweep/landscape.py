"""Score the points of a sweep: directly, or on features that are interpolated between nodes."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mergekit_audio.errors import NotFiniteError
from mergekit_audio.probe.model_row import ModelRow
from mergekit_audio.probe.points import PointRunner
from mergekit_audio.progress import ProgressEvent, remark
from mergekit_audio.recipe.sweep import SweepRecipe
from mergekit_audio.sweep.ahead import NodesAhead, stored
from mergekit_audio.sweep.dense.finder import NodeFinder
from mergekit_audio.sweep.dense.interpolated import Interpolation, Scales
from mergekit_audio.sweep.dense.node_features import NodeFeatures
from mergekit_audio.sweep.executors.base import (
    Arrivals,
    Executor,
    Outcome,
    Piece,
    StoredInterpolation,
)
from mergekit_audio.sweep.live import curve_event
from mergekit_audio.sweep.merges import (
    VALID_ALONE,
    Merges,
    point_facts,
    scored_key,
)
from mergekit_audio.sweep.model_rows import ModelRows
from mergekit_audio.sweep.spaces import (
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
    executor
        Computes pieces before they are asked for here; results do not depend on it.
    """

    recipe: SweepRecipe
    space: Space
    models: Mapping[str, Checkpoint]
    merges: Merges
    runner: PointRunner
    rows: list[dict[str, Any]] = field(default_factory=list)
    interpolations: dict[int, Interpolation] = field(default_factory=dict)
    diverged: list[dict[str, Any]] = field(default_factory=list)
    executor: Executor = field(default_factory=Executor)
    _stored: dict[int, StoredInterpolation] = field(default_factory=dict, init=False)

    @functools.cached_property
    def model_rows(self) -> ModelRows:
        """The rows that are no merges at a λ."""
        return ModelRows(self.recipe, self.space, self.models, self.merges)

    @property
    def base(self) -> ModelRow:
        """The row of λ = 0."""
        return self.model_rows.base

    def run(self) -> None:
        """Score the models, then the points of each variant in an order that shows much early."""
        variants = range(len(self.space.variants))
        is_direct = self.recipe.interpolate is None
        ahead = [point for each in variants for point in self._early(each)] if is_direct else []
        self.begin(ahead, models=True)
        for row in self.model_rows.rows(lambda name: self._outcome(Piece("model", name))):
            self._keep(self.runner.run(row))
        for variant in variants:
            if not is_direct:
                self._interpolate(variant)
                self.begin(self._early(variant))
            for point in self._early(variant):
                self.score(point)

    def begin(self, points: Iterable[Point], *, models: bool = False) -> None:
        """Let the executor compute points, in their order, before they are scored here.

        What was begun earlier and is in no worker's hands is dropped. Points need not be begun to
        be scored.
        """
        pieces = [Piece("model", name) for name in self.model_rows.names()] if models else []
        self.executor.begin(pieces + [self._piece(each) for each in points if self._is_near(each)])

    def arrivals(self) -> Arrivals:
        """Return where an executor's lines arrive: the runner's results."""

        def told(note: str) -> None:
            done, total = len(self.runner.lines), self.runner.total
            self.runner.progress(ProgressEvent("probe", done, total, note))

        return Arrivals(self.runner, told)

    def add(self, rows: Iterable[ModelRow]) -> None:
        """Score rows that are no points of the space, on validation and test."""
        for row in rows:
            self.runner.total += len(self.runner.tasks) * len(self.runner.seeds)
            self.rows.append(self.runner.run(row))

    def _keep(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if (event := curve_event(self.rows, self.recipe)) is not None:
            self.runner.progress(event)

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
            self.leave_out(point, error)
            return None
        self._keep(found)
        return found

    def leave_out(self, point: Point, error: NotFiniteError) -> None:
        """Keep a point in ``diverged`` and nowhere else."""
        name = self.space.name(point)
        self.rows = [row for row in self.rows if row["name"] != name]
        self.runner.lines = [line for line in self.runner.lines if line["model"] != name]
        self.diverged.append({"row": name, "scales": list(point.scales), "why": error.message})
        note = f"left out: {name}: {error.message.removeprefix(f'{name} on ')}"
        self.runner.progress(remark("sweep", note))

    def finish(self, name: str) -> dict[str, Any] | None:
        """Score the chosen row directly on validation and test; return its earlier row.

        ``None`` where it was scored on both already.

        Raises
        ------
        NotFiniteError
            Its own features, or those of the test split, are not finite.
        """
        place = next(i for i, row in enumerate(self.rows) if row["name"] == name)
        earlier = self.rows[place]
        if all("test" in held for held in earlier["scores"].values()):
            return None
        point = self.point_of(earlier)
        piece = Piece("point", name, point)
        self.runner.lines = [line for line in self.runner.lines if line["model"] != name]
        row = self.merges.row(point, known=self._outcome(piece))
        self.rows[place] = self.runner.run(row)
        found = self.interpolations.get(point.variant)
        if earlier["interpolated"] and found is not None:
            direct = {task.task.name: self.runner.features(row, task) for task in self.runner.tasks}
            self.interpolations[point.variant] = found.checked(point.scales, direct)
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

    def _early(self, variant: int) -> list[Point]:
        """Return a variant's points: those that are marked, then few that show much of a curve."""
        points = self.points(variant)
        others = [point for point in points if not point.is_marked]
        marked = [point for point in points if point.is_marked]
        return marked + [others[place] for place in early_order(len(others))]

    def _outcome(self, piece: Piece) -> Outcome | None:
        """Return what the executor knows of a piece, or ``None``; raise what a worker raised."""
        outcome = self.executor.wait(piece)
        if outcome is not None and outcome.error is not None:
            raise outcome.error
        return outcome

    def _interpolate(self, variant: int) -> None:
        assert self.recipe.interpolate is not None
        ahead = NodesAhead(self.executor, self.space)
        at = self.model_rows.at
        extracted = NodeFeatures(self.runner, self.space, self.base, at, ahead)
        found = NodeFinder(extracted, self.recipe.interpolate).find(variant)
        self.interpolations[variant] = found
        self._stored[variant] = stored(found)
        if not found.accepted:
            self._recount()

    def _recount(self) -> None:
        """Tell the runner how many points there are now."""
        rows = self.merges.planned.checkpoints
        rows += sum(len(self.points(variant)) for variant in range(len(self.space.variants)))
        self.runner.total = rows * len(self.runner.tasks) * len(self.runner.seeds)

    def _piece(self, point: Point) -> Piece:
        """Return how a point is scored: directly, or on features between those of nodes."""
        name = self.space.name(point)
        if point.is_marked:
            return Piece("point", name, point)
        found = self.interpolations.get(point.variant)
        if found is None or (point.scales not in found.nodes and not found.accepted):
            return Piece("point", name, point, VALID_ALONE)
        return Piece("between", name, point, VALID_ALONE, self._stored[point.variant])

    def _is_near(self, point: Point) -> bool:
        """Whether features may be finite here, as far as an interpolation has found."""
        found = self.interpolations.get(point.variant)
        if found is None or point.is_marked or not found.accepted:
            return True
        return point.scales in found.nodes or found.box.contains(point.scales)

    def _row(self, point: Point) -> ModelRow:
        if not self._is_near(point):
            raise NotFiniteError("beyond the range in which features were found to be finite")
        piece = self._piece(point)
        known = self._outcome(piece)
        if piece.kind == "point":
            return self.merges.row(point, piece.splits, known)
        return self.interpolated_row(self.interpolations[point.variant], point)

    def interpolated_row(self, found: Interpolation, point: Point) -> ModelRow:
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
