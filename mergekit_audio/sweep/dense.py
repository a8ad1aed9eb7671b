"""Features at any λ from a few λ where they were extracted, with the error at unseen λ.

Mean-pooled hidden states are smooth in λ. Nodes are nested by the polynomial's degree: each node
first tests the interpolation between the earlier ones, and joins it afterwards.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mergekit_audio.errors import NotFiniteError
from mergekit_audio.probe.points import ModelRow, PointRunner
from mergekit_audio.progress import ProgressEvent
from mergekit_audio.recipe.spaces import Interpolate
from mergekit_audio.sweep.interpolated import (
    Interpolation,
    Node,
    Scales,
    held_out_error,
    mean_shift,
)
from mergekit_audio.sweep.interpolation import Box, basis_size, leja_nodes
from mergekit_audio.sweep.spaces import Point, Space, most_nodes

MOST_SHRINKS = 14
ROUNDING_FACTOR = 2.0
"""The rounding of all nodes with their weights, beside that of one."""


@dataclass
class NodeFinder:
    """Extracts features at nodes until the interpolation between them is accurate.

    Parameters
    ----------
    runner
        Extracts, with its cache.
    space
        The λ.
    settings
        Tolerance and the most nodes.
    base
        The row of λ = 0.
    row
        Returns a point's row.
    """

    runner: PointRunner
    space: Space
    settings: Interpolate
    base: ModelRow
    row: Callable[[Point], ModelRow]
    _known: dict[tuple[int, Scales], Node] = field(default_factory=dict)

    def find(self, variant: int) -> Interpolation:
        """Return the interpolation of one variant of the method.

        A node with features that are not finite brings the box's ends on its side to a half, the
        next one to a quarter of that, and so on; the search starts again with the nodes that are
        there. Where no box is found nothing is interpolated.

        Raises
        ------
        NotFiniteError
            Features of the base are not finite.
        """
        box = self.space.box
        failed: list[_Diverging] = []
        for attempt in range(MOST_SHRINKS):
            try:
                return self._search(variant, box, self._shrink_notes(variant, box, failed))
            except _Diverging as diverging:
                failed.append(diverging)
                box = _shrunk(box, diverging.scales, 2.0 ** (attempt + 1))
        notes = [f"Nothing is interpolated, for features are not finite: {failed[-1].why}."]
        return Interpolation(variant, box, {}, 0, False, (), notes)

    def _shrink_notes(self, variant: int, box: Box, failed: Sequence[_Diverging]) -> list[str]:
        if not failed:
            return []
        names = [self.space.name(Point(each.scales, variant)) for each in failed]
        return [
            f"Features are not finite at {'; '.join(names)} ({failed[-1].why}): features are "
            f"interpolated {_range(box)} instead of {_range(self.space.box)}."
        ]

    def _search(self, variant: int, box: Box, notes: list[str]) -> Interpolation:
        directions = len(box.low)
        most = most_nodes(self.settings, directions)
        degree = max(d for d in range(most) if math.comb(directions + d, d) <= most)
        nodes: dict[Scales, Node] = {}
        tests: list[dict[str, Any]] = []
        accepted, reached = False, 0
        wanted = self._nodes(variant, box, degree)
        for reached in range(degree + 1):
            new = wanted[len(nodes) : basis_size(directions, reached)]
            found = {scales: self._node(scales, variant) for scales in new}
            if reached > 0:
                tests += self._tested(variant, box, nodes, found, reached - 1)
                self._tell(tests[-1], len(nodes) + len(found), most)
            nodes.update(found)
            if accepted := self._is_accurate(tests, len(new)):
                break
        worst = max(mean for test in tests[-max(2, len(new)) :] for mean in _means(test))
        if accepted:
            notes = [
                *notes,
                f"Features between {len(nodes)} extracted λ are interpolated: at unseen λ they were"
                f" off by up to {worst:.2g} of the largest shift from the base (mean of a task)"
                f"{_rounding_text(tests, self.settings.tolerance)}.",
            ]
        else:
            notes = [
                *notes,
                f"The interpolation between {len(nodes)} λ misses the tolerance: at an unseen λ "
                f"the error is {worst:.2g} of the largest shift from the base, allowed are "
                f"{self.settings.tolerance:g}. The recipe's λ are evaluated directly instead.",
            ]
        return Interpolation(variant, box, nodes, reached, accepted, tests, notes)

    def _nodes(self, variant: int, box: Box, degree: int) -> list[Scales]:
        """Return nested nodes; the base and marked points are taken where they fit."""
        marked = [
            point.scales
            for point in self.space.points
            if point.variant == variant and point.is_marked
        ]
        known = [scales for place, scales in self._known if place == variant]
        first = [(0.0,) * len(box.low), *known, *self.space.singles.values(), *marked]
        found = leja_nodes(box, degree, first=list(dict.fromkeys(first)))
        return [tuple(map(float, row)) for row in found]

    def _node(self, scales: Scales, variant: int) -> Node:
        key = (variant if any(scales) else 0, scales)
        if key not in self._known:
            row = self.base if not any(scales) else self.row(Point(scales, variant))
            build = functools.lru_cache(maxsize=1)(row.encoder.build)
            try:
                features = {
                    task.task.name: self.runner.features(row, task, build)
                    for task in self.runner.tasks
                }
            except NotFiniteError as error:
                if not any(scales):
                    raise
                raise _Diverging(scales, error) from error
            self._known[key] = Node(row.digest, row.key, features)
        return self._known[key]

    def _tested(
        self,
        variant: int,
        box: Box,
        nodes: Mapping[Scales, Node],
        found: Mapping[Scales, Node],
        degree: int,
    ) -> Iterator[dict[str, Any]]:
        earlier = Interpolation(variant, box, dict(nodes), degree, False, ())
        origin = self._node((0.0,) * len(box.low), variant)
        units = {
            name: self._unit(name, [*nodes.values(), *found.values()], origin)
            for name in origin.features
        }
        for scales, node in found.items():
            yield {
                "scales": list(scales),
                "degree": degree,
                "nodes": len(nodes),
                "tasks": {
                    name: {
                        **held_out_error(earlier.features(scales, name), features, units[name][0]),
                        "rounding": units[name][1],
                    }
                    for name, features in node.features.items()
                },
            }

    def _unit(self, task: str, nodes: Sequence[Node], origin: Node) -> tuple[float, float]:
        """Return the largest mean shift of the nodes, and what of it is bfloat16's rounding.

        The measured difference of bfloat16 from float32 is one of the features' length.
        """
        base = origin.features[task]
        found = [mean_shift(node.features[task], base) for node in nodes]
        length = max(size for _, size in found)
        unit = max(shift for shift, _ in found) or length or 1.0
        off = max(node.features[task].facts.get("relative_difference") or 0.0 for node in nodes)
        return unit, off * length / unit

    def _tell(self, test: Mapping[str, Any], nodes: int, most: int) -> None:
        note = f"{nodes} λ extracted, error at an unseen λ {max(_means(test)):.1e} of the shift"
        self.runner.progress(ProgressEvent("interpolate", nodes, most, note))

    def _is_accurate(self, tests: Sequence[Mapping[str, Any]], new: int) -> bool:
        """Whether the last two tests at least, and all of the last degree, are below.

        Below the tolerance, or as small as what bfloat16 rounds: more nodes can't help there.
        """
        last = tests[-max(2, new) :]
        return len(last) >= 2 and all(
            error["mean"] <= max(self.settings.tolerance, ROUNDING_FACTOR * error["rounding"])
            for test in last
            for error in test["tasks"].values()
        )


class _Diverging(Exception):  # noqa: N818 - caught here, never shown
    """A node's features are not finite."""

    def __init__(self, scales: Scales, error: NotFiniteError) -> None:
        super().__init__(scales)
        self.scales, self.why = scales, error.message


def _means(test: Mapping[str, Any]) -> list[float]:
    return [errors["mean"] for errors in test["tasks"].values()]


def _rounding_text(tests: Sequence[Mapping[str, Any]], tolerance: float) -> str:
    """Say where bfloat16 alone is above the tolerance."""
    rounding = max(error["rounding"] for error in tests[-1]["tasks"].values())
    if ROUNDING_FACTOR * rounding <= tolerance:
        return ""
    return f", of which bfloat16 rounds {rounding:.2g}; `precision: fp32` has none"


def _shrunk(box: Box, failed: Scales, factor: float) -> Box:
    """Return the box whose ends on the failed node's side are nearer to 0 by a factor."""
    ends = zip(box.low, box.high, failed, strict=True)
    both = [
        (low / factor if value < 0 else low, high / factor if value > 0 else high)
        for low, high, value in ends
    ]
    return Box(tuple(low for low, _ in both), tuple(high for _, high in both))


def _range(box: Box) -> str:
    ends = zip(box.low, box.high, strict=True)
    if len(set(zip(box.low, box.high, strict=True))) == 1:
        return f"from {box.low[0]:g} to {box.high[0]:g}"
    return "from " + ", ".join(f"{low:g} to {high:g}" for low, high in ends)
