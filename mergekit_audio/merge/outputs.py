"""List the tensors of a merge's output: those of the base, or its layers stacked anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.merge.layout import Layout
from mergekit_audio.recipe.merge import LayerRange, MergeRecipe
from mergekit_audio.weights.checkpoint import Checkpoint, TensorInfo
from mergekit_audio.weights.depth import Stack, main_stack


def output_tensors(
    recipe: MergeRecipe, base: Checkpoint, models: Sequence[Checkpoint], layout: Layout
) -> list[OutputTensor]:
    """Return the tensors of the output, each with its origins.

    Raises
    ------
    RecipeError
        ``stack`` asks for layers that are not there; all faults are listed.
    """
    names = [name for name in base.index if name not in layout.dropped]
    plain = [
        OutputTensor(
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


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of the output: its base's tensor and each model's, None for a model left out."""

    name: str
    info: TensorInfo
    base_name: str
    models: tuple[str | None, ...]

    @property
    def stored_name(self) -> str:
        """The name in the file, in the base's spelling."""
        return self.info.stored_name


def _stacked(
    recipe: MergeRecipe, base: Checkpoint, models: Sequence[Checkpoint], stack: Stack
) -> list[OutputTensor]:
    faults: list[Fault] = []
    tensors: list[OutputTensor] = []
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
) -> Iterator[OutputTensor]:
    for name, info in base.index.items():
        if stack.layer(name) == base_layer:
            spelt = replace(info, stored_name=stack.renumbered(info.stored_name, layer))
            yield OutputTensor(
                stack.renumbered(name, layer),
                spelt,
                name,
                tuple(None if n is None else stack.renumbered(name, n) for n in layers),
            )


def _has_layers(checkpoint: Checkpoint, stack: Stack, layers: LayerRange) -> bool:
    there = {stack.layer(name) for name in checkpoint.index}
    return there.issuperset(range(layers.first, layers.last + 1))
