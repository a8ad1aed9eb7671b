"""Decide for every tensor of the output where it comes from and how it is merged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mergekit_audio.errors import Fault, InputError, RecipeError
from mergekit_audio.merge.layout import Layout
from mergekit_audio.methods.base import MergeMethod
from mergekit_audio.recipe.merge import Group, LayerRange, MergeRecipe, Scale
from mergekit_audio.registry import did_you_mean
from mergekit_audio.weights.checkpoint import Checkpoint, TensorInfo
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
    tensors = _output_tensors(recipe, base, models, layout)
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


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the output: its base's tensor and each model's, None for a model left out."""

    name: str
    info: TensorInfo
    base_name: str
    models: tuple[str | None, ...]

    @property
    def stored_name(self) -> str:
        return self.info.stored_name


def _output_tensors(
    recipe: MergeRecipe, base: Checkpoint, models: Sequence[Checkpoint], layout: Layout
) -> list[_Tensor]:
    names = [name for name in base.index if name not in layout.dropped]
    plain = [
        _Tensor(
            name, base.index[name], name, tuple(each.get(name, name) for each in layout.sources)
        )
        for name in names
    ]
    if not recipe.stack:
        return plain
    stack = main_stack(names)
    if stack is None:
        raise RecipeError(
            [Fault("", 0, 0, "stack", f"{base.source} has no numbered layers")],
            "remove `stack`",
        )
    outside = [tensor for tensor in plain if stack.layer(tensor.name) is None]
    return [*outside, *_stacked(recipe, base, models, stack)]


def _stacked(
    recipe: MergeRecipe, base: Checkpoint, models: Sequence[Checkpoint], stack: Stack
) -> list[_Tensor]:
    faults: list[Fault] = []
    tensors: list[_Tensor] = []
    place = 0
    for i, part in enumerate(recipe.stack):
        length = part.base.last - part.base.first + 1
        ranges = [("base", part.base, base)]
        ranges += [(f"models[{j}]", each, models[j]) for j, each in enumerate(part.models) if each]
        for key, each, checkpoint in ranges:
            if each.last - each.first + 1 != length or length < 1:
                problem = f"{each.first} to {each.last} are not {max(length, 0)} layers as in base"
                faults.append(Fault("", 0, 0, f"stack[{i}].{key}", problem))
            elif not _has_layers(checkpoint, stack, each):
                problem = f"{checkpoint.source} has no layers {each.first} to {each.last}"
                faults.append(Fault("", 0, 0, f"stack[{i}].{key}", problem))
        if len(part.models) != len(models):
            problem = f"{len(part.models)} ranges for {len(models)} models"
            faults.append(Fault("", 0, 0, f"stack[{i}].models", problem))
        if faults:
            place += max(length, 0)
            continue
        for offset in range(length):
            tensors += _stacked_layer(
                base,
                stack,
                part.base.first + offset,
                place + offset,
                [each.first + offset if each else None for each in part.models],
            )
        place += length
    if faults:
        raise RecipeError(faults, "layers count from 0, and first and last are both in")
    return tensors


def _stacked_layer(
    base: Checkpoint, stack: Stack, base_layer: int, layer: int, layers: Sequence[int | None]
) -> Iterator[_Tensor]:
    for name, info in base.index.items():
        if stack.layer(name) == base_layer:
            spelt = replace(info, stored_name=stack.renumbered(info.stored_name, layer))
            yield _Tensor(
                stack.renumbered(name, layer),
                spelt,
                name,
                tuple(None if n is None else stack.renumbered(name, n) for n in layers),
            )


def _has_layers(checkpoint: Checkpoint, stack: Stack, layers: LayerRange) -> bool:
    there = {stack.layer(name) for name in checkpoint.index}
    return there.issuperset(range(layers.first, layers.last + 1))


def _row(recipe: MergeRecipe, layout: Layout, tensor: _Tensor, stack: Stack | None) -> PlanRow:
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


def _sources(recipe: MergeRecipe, group: Group, tensor: _Tensor) -> Iterator[Source]:
    for i, (entry, name) in enumerate(zip(recipe.models, tensor.models, strict=True)):
        if name is None:
            continue
        weight = entry.weight if group.weights is None else group.weights[i]
        own = group.parameters[i] if group.parameters else {}
        yield Source(i, name, weight, {**entry.parameters, **own})


def _scale(
    recipe: MergeRecipe, group: Group, place: int | None, tensor: _Tensor
) -> tuple[float, str | None]:
    scale = recipe.scale if isinstance(recipe.scale, Scale) else Scale(default=recipe.scale)
    if group.scale is not None:
        return group.scale, f"groups[{place}]"
    override = next((each for each in scale.overrides if _named(each.match, tensor)), None)
    return (override.scale, override.match) if override else (scale.default, None)


def _fixed_reason(recipe: MergeRecipe, layout: Layout, tensor: _Tensor) -> str:
    if not is_floating(tensor.info.dtype):
        return f"{tensor.info.dtype}, not floating point"
    excluded = next((glob for glob in recipe.exclude if _named(glob, tensor)), None)
    if excluded is not None:
        return f"excluded by {excluded!r}"
    return layout.kept.get(tensor.base_name, "")


def _named(glob: str, tensor: _Tensor) -> bool:
    return matches(glob, tensor.name) or matches(glob, tensor.stored_name)


def _in_group(group: Group, tensor: _Tensor, stack: Stack | None) -> bool:
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
    recipe: MergeRecipe, base: Checkpoint, tensors: Sequence[_Tensor], stack: Stack | None
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
    key: str, glob: str, base: Checkpoint, tensors: Sequence[_Tensor]
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
