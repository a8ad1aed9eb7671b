"""Decide for every tensor of the output where it comes from and how it is merged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mergekit_audio.errors import Fault, InputError, RecipeError
from mergekit_audio.merge.layout import Layout
from mergekit_audio.merge.outputs import OutputTensor, output_tensors
from mergekit_audio.methods.base import MergeMethod
from mergekit_audio.recipe.merge import Group, MergeRecipe, Scale
from mergekit_audio.registry import did_you_mean
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.depth import Stack, main_stack
from mergekit_audio.weights.dtypes import STORED, is_floating
from mergekit_audio.weights.globs import matches, validate_glob


@dataclass(frozen=True)
class Source:
    """A model's tensor that takes part: the model's place, its name there, its settings."""

    model: int
    name: str
    weight: float
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PlanRow:
    """What happens to one tensor.

    Parameters
    ----------
    name, stored_name
        The tensor's canonical name in the output, and the spelling in which it is written.
    base_name
        The base's tensor: another one where layers are stacked.
    shape, dtype
        Shape, and dtype in the output.
    action
        ``merge``: base + scale · Δ; ``copy``: the base's values.
    reason
        Why it is copied; empty for ``merge``.
    scale
        λ of this tensor, 0 where it is copied.
    override
        What set λ beside the recipe's default: a glob of ``scale.overrides`` or ``groups[i]``.
    fixed
        It is copied at every λ (not floating point, excluded, not in all models).
    method
        How Δ is computed.
    sources
        The models' tensors, in the models' order.
    group
        The place in ``groups`` that it belongs to; None: the recipe's own settings.
    layer
        (Index, number of layers) in the output's main stack; None outside it.
    """

    name: str
    stored_name: str
    base_name: str
    shape: tuple[int, ...]
    dtype: str
    action: Literal["merge", "copy"]
    reason: str
    scale: float
    override: str | None
    fixed: bool
    method: MergeMethod
    sources: tuple[Source, ...]
    group: int | None = None
    layer: tuple[int, int] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes in the output."""
        return math.prod(self.shape) * STORED[self.dtype].itemsize

    def at_scale(self, scale: float) -> PlanRow:
        """Return the row at another λ of the recipe; an override keeps its own."""
        if self.fixed or self.override is not None:
            return self
        if not scale:
            return replace(self, action="copy", reason="scale 0", scale=0.0)
        return replace(self, action="merge", reason="", scale=scale)


def make_rows(
    recipe: MergeRecipe, base: Checkpoint, models: Sequence[Checkpoint], layout: Layout
) -> tuple[PlanRow, ...]:
    """Return one row for each tensor of the output, sorted by its name in the file.

    Raises
    ------
    RecipeError
        A glob or a range of layers matches no tensor, or layers are asked for that are not there;
        all faults are listed.
    """
    tensors = output_tensors(recipe, base, models, layout)
    stack = main_stack(tensor.name for tensor in tensors)
    _check_globs(recipe, base, tensors, stack)
    rows = [_row(recipe, layout, tensor, stack) for tensor in tensors]
    return tuple(sorted(rows, key=lambda row: row.stored_name))


def idle_settings(recipe: MergeRecipe, rows: Sequence[PlanRow]) -> Iterator[str]:
    """Say which overrides and groups decide nothing, though their globs match some tensors."""
    reason = "earlier ones, `exclude` and integer tensors leave it none"
    overrides = recipe.scale.overrides if isinstance(recipe.scale, Scale) else []
    used = {row.override for row in rows if not row.fixed}
    seen: set[str] = set()
    for i, each in enumerate(overrides):
        if each.match not in used or each.match in seen:
            yield f"scale.overrides[{i}] ({each.match!r}) sets λ of no tensor: {reason}"
        seen.add(each.match)
    groups = {row.group for row in rows if not row.fixed}
    for i, group in enumerate(recipe.groups):
        if i not in groups:
            yield f"groups[{i}] ({_match_text(group)}) merges no tensor: {reason}"


def _row(recipe: MergeRecipe, layout: Layout, tensor: OutputTensor, stack: Stack | None) -> PlanRow:
    place = next(
        (i for i, group in enumerate(recipe.groups) if _in_group(group, tensor, stack)), None
    )
    group = Group() if place is None else recipe.groups[place]
    factor, override = _scale(recipe, group, place, tensor)
    floating = is_floating(tensor.info.dtype)
    fixed_reason = _fixed_reason(recipe, layout, tensor)
    reason = fixed_reason or ("" if factor else "scale 0")
    layer = stack.layer(tensor.name) if stack else None
    return PlanRow(
        name=tensor.name,
        stored_name=tensor.stored_name,
        base_name=tensor.base_name,
        shape=tensor.info.shape,
        dtype=(recipe.dtype or tensor.info.dtype) if floating else tensor.info.dtype,
        action="copy" if reason else "merge",
        reason=reason,
        scale=0.0 if reason else factor,
        override=override,
        fixed=bool(fixed_reason),
        method=group.method or recipe.method,
        sources=tuple(_sources(recipe, group, tensor)),
        group=place,
        layer=(layer, stack.count) if stack and layer is not None else None,
    )


def _sources(recipe: MergeRecipe, group: Group, tensor: OutputTensor) -> Iterator[Source]:
    for i, (entry, name) in enumerate(zip(recipe.models, tensor.models, strict=True)):
        if name is None:
            continue
        weight = entry.weight if group.weights is None else group.weights[i]
        own = group.parameters[i] if group.parameters else {}
        yield Source(i, name, weight, {**entry.parameters, **own})


def _scale(
    recipe: MergeRecipe, group: Group, place: int | None, tensor: OutputTensor
) -> tuple[float, str | None]:
    scale = recipe.scale if isinstance(recipe.scale, Scale) else Scale(default=recipe.scale)
    if group.scale is not None:
        return group.scale, f"groups[{place}]"
    override = next((each for each in scale.overrides if _named(each.match, tensor)), None)
    return (override.scale, override.match) if override else (scale.default, None)


def _fixed_reason(recipe: MergeRecipe, layout: Layout, tensor: OutputTensor) -> str:
    if not is_floating(tensor.info.dtype):
        return f"{tensor.info.dtype}, not floating point"
    excluded = next((glob for glob in recipe.exclude if _named(glob, tensor)), None)
    if excluded is not None:
        return f"excluded by {excluded!r}"
    return layout.kept.get(tensor.base_name, "")


def _named(glob: str, tensor: OutputTensor) -> bool:
    return matches(glob, tensor.name) or matches(glob, tensor.stored_name)


def _in_group(group: Group, tensor: OutputTensor, stack: Stack | None) -> bool:
    if group.layers is not None:
        layer = stack.layer(tensor.name) if stack else None
        if layer is None or not group.layers.first <= layer <= group.layers.last:
            return False
    return any(_named(glob, tensor) for glob in _globs(group))


def _globs(group: Group) -> list[str]:
    return [group.match] if isinstance(group.match, str) else group.match


def _match_text(group: Group) -> str:
    globs = _globs(group)
    text = ", ".join(repr(glob) for glob in globs[:3]) + (", …" if len(globs) > 3 else "")
    return (
        text
        if group.layers is None
        else f"{text}, layers {group.layers.first} to {group.layers.last}"
    )


def _check_globs(
    recipe: MergeRecipe, base: Checkpoint, tensors: Sequence[OutputTensor], stack: Stack | None
) -> None:
    faults = [
        fault
        for key, glob in _all_globs(recipe)
        for fault in _glob_faults(key, glob, base, tensors)
    ]
    for i, group in enumerate(recipe.groups):
        if group.layers is not None and not any(_in_group(group, each, stack) for each in tensors):
            where = f"{stack.prefix}{{0-{stack.count - 1}}}" if stack else "no numbered layers"
            problem = f"{_match_text(group)} matches no tensor; the main stack is {where}"
            faults.append(Fault("", 0, 0, f"groups[{i}].layers", problem))
    if faults:
        raise RecipeError(faults, f"cmerge inspect {base.source} lists the tensors")


def _all_globs(recipe: MergeRecipe) -> Iterator[tuple[str, str]]:
    overrides = recipe.scale.overrides if isinstance(recipe.scale, Scale) else []
    yield from ((f"scale.overrides[{i}].match", each.match) for i, each in enumerate(overrides))
    yield from ((f"exclude[{i}]", glob) for i, glob in enumerate(recipe.exclude))
    for i, group in enumerate(recipe.groups):
        if isinstance(group.match, str):
            yield f"groups[{i}].match", group.match
        else:
            yield from ((f"groups[{i}].match[{j}]", glob) for j, glob in enumerate(group.match))


def _glob_faults(
    key: str, glob: str, base: Checkpoint, tensors: Sequence[OutputTensor]
) -> Iterator[Fault]:
    try:
        validate_glob(glob)
    except InputError as error:
        yield Fault("", 0, 0, key, error.message)
        return
    if not any(_named(glob, tensor) for tensor in tensors):
        near = did_you_mean(glob, _modules(tensor.name for tensor in tensors))
        problem = f"{glob!r} matches no tensor of {base.source}"
        yield Fault("", 0, 0, key, f"{problem}; {near}" if near else problem)


def _modules(names: Iterable[str]) -> list[str]:
    """Return the names and, for each module above them, the glob of all that is below it."""
    groups: dict[str, None] = {}
    for name in names:
        groups[name] = None
        parts = name.split(".")
        for depth in range(1, len(parts)):
            groups[".".join(parts[:depth]) + ".*"] = None
    return list(groups)
