"""Features at any λ from a few λ where they were extracted, with the error at unseen λ.

Mean-pooled hidden states are smooth in λ. Nodes are nested by the polynomial's degree. Each degree
is tested at the next λ of their order, where features of a few tracks alone are extracted: they
become nodes, of all tracks, only where the test fails.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergekit_audio.progress import ProgressEvent
from mergekit_audio.recipe.spaces import Interpolate
from mergekit_audio.sweep.dense.interpolated import (
    Interpolation,
    Node,
    Scales,
    held_out_error,
    mean_shift,
)
from mergekit_audio.sweep.dense.interpolation import Box, basis_size, leja_nodes
from mergekit_audio.sweep.dense.node_features import Diverging, NodeFeatures
from mergekit_audio.sweep.spaces import Point, most_nodes

MOST_SHRINKS = 14
LEAST_TESTS = 2
ROUNDING_FACTOR = 2.0
"""The rounding of all nodes with their weights, beside that of one."""


@dataclass
class NodeFinder:
    """Extracts features at nodes until the interpolation between them is accurate.

    Parameters
    ----------
    extracted
        The features at nodes and tests.
    settings
        Tolerance and the most nodes.
    """

    extracted: NodeFeatures
    settings: Interpolate

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
        box = self.extracted.space.box
        failed: list[Diverging] = []
        for attempt in range(MOST_SHRINKS):
            try:
                return self._search(variant, box, self._shrink_notes(variant, box, failed))
            except Diverging as diverging:
                failed.append(diverging)
                box = _shrunk(box, diverging.scales, 2.0 ** (attempt + 1))
        notes = [f"Nothing is interpolated, for features are not finite: {failed[-1].why}."]
        return Interpolation(variant, box, {}, 0, False, (), notes)

    def _shrink_notes(self, variant: int, box: Box, failed: Sequence[Diverging]) -> list[str]:
        if not failed:
            return []
        names = [self.extracted.space.name(Point(each.scales, variant)) for each in failed]
        return [
            f"Features are not finite at {'; '.join(names)} ({failed[-1].why}): features are "
            f"interpolated {_range(box)} instead of {_range(self.extracted.space.box)}."
        ]

    def _search(self, variant: int, box: Box, notes: list[str]) -> Interpolation:
        directions = len(box.low)
        most = most_nodes(self.settings, directions)
        highest = max(d for d in range(most) if math.comb(directions + d, d) <= most)
        degree = min(highest, 2 if directions == 1 else 1)
        wanted = self._wanted(variant, box, highest)
        tests: list[dict[str, Any]] = []
        while True:
            count = basis_size(directions, degree)
            unseen = wanted[count : count + max(LEAST_TESTS, directions)]
            self.extracted.begin(variant, wanted[:count], unseen)
            nodes = {scales: self.extracted.node(scales, variant) for scales in wanted[:count]}
            last = list(self._tested(variant, box, nodes, unseen, degree))
            tests += last
            self._tell(last, len(nodes), most)
            accepted = self._is_accurate(last)
            if accepted or degree == highest:
                break
            degree += 1
        notes = [*notes, self._outcome(len(nodes), last, accepted=accepted)]
        return Interpolation(variant, box, nodes, degree, accepted, tests, notes)

    def _wanted(self, variant: int, box: Box, highest: int) -> list[Scales]:
        """Return nested nodes, and λ behind them for tests of the highest degree.

        The base and marked points are taken where they fit.
        """
        marked = [
            point.scales
            for point in self.extracted.space.points
            if point.variant == variant and point.is_marked
        ]
        known = self.extracted.known(variant)
        first = [(0.0,) * len(box.low), *known, *self.extracted.space.singles.values(), *marked]
        more = LEAST_TESTS if len(box.low) == 1 else 1
        found = leja_nodes(box, highest + more, first=list(dict.fromkeys(first)))
        return [tuple(map(float, row)) for row in found]

    def _tested(
        self,
        variant: int,
        box: Box,
        nodes: Mapping[Scales, Node],
        unseen: Sequence[Scales],
        degree: int,
    ) -> Iterator[dict[str, Any]]:
        """Yield the errors of a degree at unseen λ, of a few tracks.

        An error counts as much more as the few tracks show less of it than all do, at the last node
        from the nodes of the degree below.
        """
        few = {scales: self.extracted.sample(scales, variant) for scales in nodes}
        found = {scales: self.extracted.sample(scales, variant) for scales in unseen}
        between = Interpolation(variant, box, few, degree, False, ())
        origin = (0.0,) * len(box.low)
        for scales, node in found.items():
            errors: dict[str, dict[str, float]] = {}
            for name, features in node.features.items():
                unit, rounding = _unit(name, [*few.values(), *found.values()], few[origin])
                more = self._share_unseen(variant, box, nodes, few, degree, name)
                error = held_out_error(between.features(scales, name), features, unit / more)
                tracks, of_tracks = self.extracted.tracks(name)
                errors[name] = {
                    **error,
                    "rounding": rounding,
                    "tracks": tracks,
                    "of_tracks": of_tracks,
                }
            yield {"scales": list(scales), "degree": degree, "nodes": len(nodes), "tasks": errors}

    def _share_unseen(
        self,
        variant: int,
        box: Box,
        nodes: Mapping[Scales, Node],
        few: Mapping[Scales, Node],
        degree: int,
        task: str,
    ) -> float:
        """Return the error of all tracks over that of a few, at least 1, where both are known."""
        if degree == 0:
            return 1.0
        count, last = basis_size(len(box.low), degree - 1), list(nodes)[-1]
        means = []
        for every in (nodes, few):
            lower = Interpolation(
                variant, box, dict(list(every.items())[:count]), degree - 1, False, ()
            )
            origin = every[(0.0,) * len(box.low)]
            unit, _ = _unit(task, list(every.values()), origin)
            direct = every[last].features[task]
            means.append(held_out_error(lower.features(last, task), direct, unit)["mean"])
        return max(1.0, means[0] / means[1]) if means[1] else 1.0

    def _outcome(self, nodes: int, tests: Sequence[Mapping[str, Any]], *, accepted: bool) -> str:
        worst = max(mean for test in tests for mean in _means(test))
        errors = tests[-1]["tasks"].values()
        tracks = f"{sum(each['tracks'] for each in errors)} of "
        tracks += f"{sum(each['of_tracks'] for each in errors)} tracks"
        if accepted:
            return (
                f"Features between {nodes} extracted λ are interpolated: at {len(tests)} unseen λ, "
                f"on {tracks}, they were off by up to {worst:.2g} of the largest shift from the "
                f"base (mean of a task){_rounding_text(tests, self.settings.tolerance)}."
            )
        return (
            f"The interpolation between {nodes} λ misses the tolerance: at an unseen λ, on "
            f"{tracks}, the error is {worst:.2g} of the largest shift from the base, allowed are "
            f"{self.settings.tolerance:g}. The recipe's λ are evaluated directly instead."
        )

    def _tell(self, tests: Sequence[Mapping[str, Any]], nodes: int, most: int) -> None:
        worst = max(mean for test in tests for mean in _means(test))
        note = f"{nodes} λ extracted, error at an unseen λ {worst:.1e} of the shift"
        self.extracted.runner.progress(ProgressEvent("interpolate", nodes, most, note))

    def _is_accurate(self, tests: Sequence[Mapping[str, Any]]) -> bool:
        """Whether all tests of a degree, two at least, are below.

        Below the tolerance, or as small as what bfloat16 rounds: more nodes can't help there.
        """
        return len(tests) >= LEAST_TESTS and all(
            error["mean"] <= max(self.settings.tolerance, ROUNDING_FACTOR * error["rounding"])
            for test in tests
            for error in test["tasks"].values()
        )


def _unit(task: str, nodes: Sequence[Node], origin: Node) -> tuple[float, float]:
    """Return the largest mean shift of the nodes, and what of it is bfloat16's rounding.

    The measured difference of bfloat16 from float32 is one of the features' length.
    """
    base = origin.features[task]
    found = [mean_shift(node.features[task], base) for node in nodes]
    length = max(size for _, size in found)
    unit = max(shift for shift, _ in found) or length or 1.0
    off = max(node.features[task].facts.get("relative_difference") or 0.0 for node in nodes)
    return unit, off * length / unit


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
