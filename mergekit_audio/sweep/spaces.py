"""The points of a sweep: λ for all, for each culture or for each group, and which of them matter.

A point is a tuple of λ and a variant of the method. The base, weight averaging, single cultures and
negations are marked where the space holds them: they are evaluated directly, also on test.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mergekit_audio.methods.base import MergeMethod
from mergekit_audio.recipe.spaces import Design, Interpolate, even_values, method_variants
from mergekit_audio.recipe.sweep import SweepRecipe
from mergekit_audio.sweep.dense.interpolation import Box, basis_size

SAME_SCALE = 1e-9
BASE_NAME = "base"
AUTO_COUNT = 11
"""λ of an automatic range."""


@dataclass(frozen=True)
class Point:
    """One merge.

    Parameters
    ----------
    scales
        One λ for each axis of the space.
    variant
        The place of the method's parameters in the space's variants.
    weight_average
        Whether it is weight averaging.
    negation
        The culture that it takes away alone, or "".
    """

    scales: tuple[float, ...]
    variant: int = 0
    weight_average: bool = False
    negation: str = ""

    @property
    def scale(self) -> float | None:
        """λ where there is one, ``None`` where there are several."""
        return self.scales[0] if len(self.scales) == 1 else None

    @property
    def is_base(self) -> bool:
        """Whether every λ is 0."""
        return not any(self.scales)

    @property
    def is_marked(self) -> bool:
        """Whether it is scored on test whatever is chosen."""
        return self.weight_average or bool(self.negation)


@dataclass(frozen=True)
class Space:
    """Where a sweep looks.

    Parameters
    ----------
    kind
        ``shared``, ``per_culture`` or ``groups``.
    axes
        What each λ belongs to: ``λ``, the cultures or the groups.
    variants
        The method's parameters that are swept, and the method that has them.
    points
        The merges, without the base: of each variant in rising order.
    box
        The λ from the lowest to the highest of each axis, with 0.
    singles
        Where one culture alone is its own model: these rows are the checkpoints themselves.
    reasons
        How an automatic range was found.
    """

    kind: str
    axes: tuple[str, ...]
    variants: tuple[tuple[Mapping[str, Any], MergeMethod], ...]
    points: tuple[Point, ...]
    box: Box
    singles: Mapping[str, tuple[float, ...]]
    reasons: tuple[str, ...] = ()

    def name(self, point: Point) -> str:
        """Return the row's name in results; the base's where every λ is 0."""
        if point.is_base:
            return BASE_NAME
        if len(self.axes) == 1:
            text = f"λ = {point.scales[0]:.12g}"
        else:
            pairs = zip(self.axes, point.scales, strict=True)
            text = "λ: " + ", ".join(f"{axis} {scale:.12g}" for axis, scale in pairs)
        values = self.variants[point.variant][0]
        return text + "".join(f", {key} = {value}" for key, value in values.items())

    def single(self, culture: str) -> Point | None:
        """Return the point that is one culture's own model, where the space holds it."""
        scales = self.singles.get(culture)
        return Point(scales) if scales is not None and self.box.contains(scales) else None


def make_space(
    recipe: SweepRecipe, values: Sequence[float] | None = None, reasons: Sequence[str] = ()
) -> Space:
    """Return the points of a recipe.

    Parameters
    ----------
    recipe
        The sweep.
    values
        λ for each axis where the recipe says ``auto``.
    reasons
        How they were found.
    """
    found = recipe.scale_values() if values is None else list(values)
    if found is None:
        raise ValueError("an automatic range needs its values")
    scales = sorted({0.0 if scale == 0 else scale for scale in [0.0, *found]})
    axes = _axes(recipe)
    high = scales[-1] if len(scales) > 1 else 1.0
    box = Box((scales[0],) * len(axes), (high,) * len(axes))
    variants = tuple(method_variants(recipe.method, recipe.method_grid))
    singles = _singles(recipe, axes)
    points = _distinct(_marked(recipe, axes, box), _designed(recipe, scales, box))
    ordered = sorted(
        (each for each in points if not each.is_base and not _is_single(each, singles)),
        key=lambda point: point.scales,
    )
    return Space(
        kind=recipe.space,
        axes=axes,
        variants=variants,
        singles=singles,
        points=tuple(
            replace(each, variant=variant) for variant in range(len(variants)) for each in ordered
        ),
        box=box,
        reasons=tuple(reasons),
    )


def direct_points(recipe: SweepRecipe, space: Space, variant: int) -> list[Point]:
    """Return what a variant evaluates where interpolation is not accurate enough.

    The λ that the recipe lists; of several λ only the marked points, for the nodes of the
    interpolation, which are there already, cover the space.
    """
    points = [point for point in space.points if point.variant == variant]
    if len(space.axes) > 1:
        return [point for point in points if point.is_marked]
    known = recipe.scale_values()
    if known is None:
        known = even_values(space.box.low[0], space.box.high[0], AUTO_COUNT)
    found = _distinct([point for point in points if point.is_marked], [(each,) for each in known])
    return [replace(point, variant=variant) for point in found if not point.is_base]


def scale_grid(recipe: SweepRecipe) -> list[Point]:
    """Return the points of a recipe's list or range with the base, of the method's first variant.

    λ = 0 is the base. A λ within a relative 1e-9 of weight averaging counts as weight averaging.
    """
    space = make_space(recipe)
    points = [point for point in space.points if point.variant == 0]
    return sorted([Point((0.0,) * len(space.axes)), *points], key=lambda point: point.scales)


def most_nodes(settings: Interpolate, directions: int) -> int:
    """Return the most λ where features are extracted."""
    if settings.max_nodes is not None:
        return settings.max_nodes
    return 9 if directions == 1 else basis_size(directions, 4 if directions == 2 else 3)


def early_order(count: int) -> list[int]:
    """Return the places 0 to count - 1 so that few of them show the curve: ends, middle, halves."""
    order = list(dict.fromkeys([0, count - 1])) if count else []
    gaps = [(0, count - 1)]
    while gaps:
        halves = []
        for low, high in gaps:
            if high - low > 1:
                middle = (low + high) // 2
                order.append(middle)
                halves += [(low, middle), (middle, high)]
        gaps = halves
    return order


def weight_average_scale(recipe: SweepRecipe) -> float | None:
    """Return the λ at which the method averages the cultures' weights; ``None`` if there is none.

    With all weights 1, task arithmetic averages at λ = 1/N. With other positive weights the average
    is the weighted one, λ = 1/Σw. A negative weight takes a culture away: then no λ averages. With
    one λ a culture, all of them are 1/Σw; groups of tensors need not cover the model.
    """
    if not can_average(recipe) or recipe.space == "groups":
        return None
    if recipe.method.name == "task_arithmetic":
        return 1.0 / math.fsum(culture.weight for culture in recipe.cultures)
    return 1.0 if recipe.method.name == "weighted_average" else None


def can_average(recipe: SweepRecipe) -> bool:
    """Tell whether the weights are those of an average: all above 0."""
    return all(culture.weight > 0 for culture in recipe.cultures)


def _axes(recipe: SweepRecipe) -> tuple[str, ...]:
    if recipe.space == "per_culture":
        return tuple(culture.name for culture in recipe.cultures)
    return tuple(group.name for group in recipe.groups) if recipe.space == "groups" else ("λ",)


def _singles(recipe: SweepRecipe, axes: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Return λ = 1/w of each culture alone, where every culture has its own λ."""
    if recipe.space != "per_culture":
        return {}
    return {
        each.name: tuple(1.0 / each.weight if axis == each.name else 0.0 for axis in axes)
        for each in recipe.cultures
        if each.weight
    }


def _is_single(point: Point, singles: Mapping[str, tuple[float, ...]]) -> bool:
    return any(_same(point.scales, scales) for scales in singles.values())


def _marked(recipe: SweepRecipe, axes: Sequence[str], box: Box) -> list[Point]:
    """Return weight averaging, and each culture taken away alone at its axis's lowest λ."""
    points = []
    averaging = weight_average_scale(recipe)
    if averaging is not None:
        points.append(Point((averaging,) * len(axes), weight_average=True))
    if recipe.space == "groups" or (recipe.space == "shared" and len(recipe.cultures) > 1):
        return points
    for place, culture in enumerate(recipe.cultures):
        if box.low[place] < 0:
            scales = tuple(box.low[i] if i == place else 0.0 for i in range(len(axes)))
            points.append(Point(scales, negation=culture.name))
    return points


def _designed(recipe: SweepRecipe, scales: Sequence[float], box: Box) -> list[tuple[float, ...]]:
    """Return the points to look at: of an interpolation its many, else the scales' product."""
    directions, dense = len(box.low), recipe.interpolate
    if recipe.search is not None and dense is None and directions > 1:
        return []
    if dense is None:
        return list(itertools.product(scales, repeat=directions))
    if directions == 1:
        listed = scales if isinstance(recipe.scales, list) else []
        even = even_values(box.low[0], box.high[0], dense.points)
        return [(scale,) for scale in [*listed, *even]]
    return design_points(box, dense.points, dense.design, recipe.seed)


def design_points(
    box: Box, count: int, design: Design | None, seed: int
) -> list[tuple[float, ...]]:
    """Return points that cover a box: at most so many of a product, or a Sobol sequence.

    Parameters
    ----------
    box
        Where.
    count
        How many.
    design
        ``grid``: as many even values of each direction as give no more points, two at least; else
        the first points of a scrambled Sobol sequence, rounded to 6 digits.
    seed
        Of the scrambling.
    """
    if design == "grid":
        each = max(2, math.floor(count ** (1 / len(box.low)) + 1e-9))
        ends = zip(box.low, box.high, strict=True)
        return list(itertools.product(*(even_values(low, high, each) for low, high in ends)))
    from scipy.stats import qmc

    drawn = qmc.Sobol(len(box.low), scramble=True, seed=seed).random_base2(
        math.ceil(math.log2(count))
    )
    scaled = qmc.scale(drawn[:count], box.low, box.high)
    return [tuple(float(f"{value:.6g}") for value in row) for row in scaled]


def _distinct(marked: Sequence[Point], others: Iterable[tuple[float, ...]]) -> list[Point]:
    """Return the marked points and the other λ that equal none of them nor each other."""
    found = {_rounded(point.scales): point for point in reversed(marked)}
    for scales in others:
        if not any(_same(scales, point.scales) for point in marked):
            found.setdefault(_rounded(scales), Point(scales))
    return list(found.values())


def _rounded(scales: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(f"{scale:.9e}") for scale in scales)


def _same(scales: Sequence[float], others: Sequence[float]) -> bool:
    pairs = zip(scales, others, strict=True)
    return all(math.isclose(mine, theirs, rel_tol=SAME_SCALE) for mine, theirs in pairs)
