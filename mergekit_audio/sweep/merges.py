"""The merges of a sweep in memory: Δ once for each variant of the method, weights for each λ."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from mergekit_audio import merge
from mergekit_audio.merge import MergePlan
from mergekit_audio.probe.encoders import FrozenEncoder
from mergekit_audio.probe.model_row import ModelRow, model_key, require_config
from mergekit_audio.probe.scoring import SCORED_SPLITS
from mergekit_audio.progress import Progress, silent
from mergekit_audio.sweep.spaces import Point, Space
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.digest import content_digest, tensor_digest
from mergekit_audio.weights.dtypes import from_torch

if TYPE_CHECKING:
    from mergekit_audio.sweep.executors.base import Outcome
    from mergekit_audio.sweep.planner import SweepPlan

AVERAGE_NAME = "weight average"
VALID_ALONE = ("valid",)


@dataclass
class Merges:
    """Merged weights of any point of a sweep's space.

    One Δ is kept, of the variant that was asked for last: ask for the points of one variant after
    the other. With one λ a culture, Δ is summed anew for each point, from files that are mapped.

    Parameters
    ----------
    planned
        The sweep; all its models must be there.
    space
        Its points.
    base
        The base's checkpoint.
    progress
        Called with every tensor.
    """

    planned: SweepPlan
    space: Space
    base: Checkpoint
    progress: Progress = silent

    def row(
        self,
        point: Point,
        splits: tuple[str, ...] = SCORED_SPLITS,
        known: Outcome | None = None,
    ) -> ModelRow:
        """Return a point's row; its weights are in memory as long as it is.

        Where a worker has computed it, it is merged here only if its weights are asked for.
        """
        return self._row(self.space.name(point), lambda: self.state(point), point, splits, known)

    def average_row(self, known: Outcome | None = None) -> ModelRow:
        """Return the row of weight averaging where no λ of the method gives it."""

        def averaged() -> dict[str, torch.Tensor]:
            averaging = self.planned.merge(None, average=True)
            delta = merge.compute_delta(averaging, self.progress)
            return merge.apply_delta(averaging, delta, 1.0)

        return self._row(AVERAGE_NAME, averaged, None, SCORED_SPLITS, known)

    def state(self, point: Point) -> dict[str, torch.Tensor]:
        """Return the merged weights by canonical name; the bits are those of ``merge.run``."""
        if self.space.kind == "per_culture":
            weighted = self._weighted(point.scales)
            return merge.apply_delta(weighted, merge.compute_delta(weighted, self.progress), 1.0)
        plan, delta = self._delta(point.variant)
        if self.space.kind == "groups":
            return merge.apply_delta(_at_groups(plan, point.scales), delta, 0.0)
        return merge.apply_delta(plan, delta, point.scales[0])

    @functools.cached_property
    def _delta(self) -> Any:
        @functools.lru_cache(maxsize=1)
        def found(variant: int) -> tuple[MergePlan, dict[str, torch.Tensor]]:
            ones = Point((1.0,) * len(self.space.axes), variant)
            plan = self.planned.merge(ones)
            return plan, merge.compute_delta(plan, self.progress)

        return found

    @functools.cached_property
    def _plan(self) -> MergePlan:
        return self.planned.merge(Point((1.0,) * len(self.space.axes)))

    def _weighted(self, scales: tuple[float, ...]) -> MergePlan:
        """Return the plan with λ in the models' weights; the models keep their order."""
        plan = self._plan
        factor = dict(zip(self.space.axes, scales, strict=True))
        weight = {each.name: each.weight for each in self.planned.recipe.cultures}
        found = {
            place: factor[model.label] * weight[model.label]
            for place, model in enumerate(plan.models)
        }
        rows = tuple(
            replace(
                row, sources=tuple(replace(each, weight=found[each.model]) for each in row.sources)
            )
            for row in plan.rows
        )
        return replace(plan, rows=rows)

    def _row(
        self,
        name: str,
        state: Callable[[], Mapping[str, torch.Tensor]],
        point: Point | None,
        splits: tuple[str, ...],
        known: Outcome | None,
    ) -> ModelRow:
        config, backbone = require_config(self.base), self.planned.recipe.backbone
        merged = functools.cache(state)
        digests = functools.cache(lambda: _digests(merged()))
        digest = content_digest(digests()) if known is None else known.digest
        return ModelRow(
            name=name,
            kind="merge",
            digest=digest,
            key=scored_key(model_key(digest, config), splits),
            encoder=FrozenEncoder(
                backbone,
                config,
                tuple(sorted(self.base.index)),
                lambda each: digests()[each],
                lambda each: merged()[each],
            ),
            scale=None if point is None else point.scale,
            weight_average=point is None or point.weight_average,
            in_grid=point is not None,
            facts={} if point is None else point_facts(self.space, point),
            splits=splits,
        )


def point_facts(space: Space, point: Point, *, interpolated: bool = False) -> dict[str, Any]:
    """Return what a row of the summary says of its point."""
    return {
        "scales": dict(zip(space.axes, point.scales, strict=True)),
        "parameters": dict(space.variants[point.variant][0]),
        "negation": point.negation,
        "interpolated": interpolated,
    }


def scored_key(key: str, splits: tuple[str, ...]) -> str:
    """Return a row's key; one without test scores has another than the same row with them."""
    return key if splits == SCORED_SPLITS else f"{key}/{'+'.join(splits)}"


def state_digest(state: Mapping[str, torch.Tensor]) -> str:
    """Return what ``Checkpoint.digest`` of these tensors would be, so that λ = 0 has the base's."""
    return content_digest(_digests(state))


def _digests(state: Mapping[str, torch.Tensor]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, tensor in state.items():
        bits, dtype = from_torch(tensor)
        found[name] = tensor_digest(name, dtype, bits)
    return found


def _at_groups(plan: MergePlan, scales: tuple[float, ...]) -> MergePlan:
    """Return the plan with another λ for each group; tensors of no group keep the base's values."""
    rows = tuple(
        row if row.fixed or row.group is None else replace(row, scale=scales[row.group])
        for row in plan.rows
    )
    return replace(plan, rows=rows)
