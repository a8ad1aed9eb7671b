"""Which layers and models each output tensor of a mergekit recipe comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mergekit_audio.recipe._mergekit_layout import Module
from mergekit_audio.recipe._mergekit_parameters import Contract
from mergekit_audio.recipe._mergekit_schema import (
    MergekitRecipe,
    ModelInput,
    ModelReference,
    OutputModule,
    OutputSlice,
    Parameters,
)
from mergekit_audio.recipe.positions import Path
from mergekit_audio.registry import did_you_mean


@dataclass(frozen=True)
class Source:
    """Layers of one model: the first of them, and the model's own parameters."""

    model: ModelReference
    first: int
    parameters: Parameters | None
    path: Path


@dataclass(frozen=True)
class Slice:
    """Layers of the output that are merged from as many layers of each source."""

    sources: tuple[Source, ...]
    count: int
    base: ModelReference | None
    parameters: Parameters | None
    path: Path

    @property
    def models(self) -> list[ModelReference]:
        """The models that take part, the base among them."""
        return [source.model for source in self.sources]

    def source_of(self, model: ModelReference) -> Source | None:
        """Return a model's layers, or None when it takes no part."""
        return next((source for source in self.sources if source.model == model), None)


@dataclass(frozen=True)
class ModulePlan:
    """A module of the output: its slices in order, and its own parameters."""

    module: Module
    slices: tuple[Slice, ...]
    parameters: Parameters | None


@dataclass(frozen=True)
class PlannedTensor:
    """One tensor of the output.

    Parameters
    ----------
    name
        Its name in the output.
    inputs
        Each source's tensor, in the order of the slice's sources.
    slice, module
        Where it comes from.
    position
        t of gradients.
    is_layered
        It belongs to a layer.
    """

    name: str
    inputs: tuple[str, ...]
    slice: Slice
    module: ModulePlan
    position: float
    is_layered: bool


Problems = list[tuple[Path, str]]


def plan_modules(
    recipe: MergekitRecipe, modules: Sequence[Module], contract: Contract, problems: Problems
) -> list[ModulePlan]:
    """Return the output's modules; what can't be is added to ``problems``."""
    by_name = {module.name: module for module in modules}
    if recipe.modules is None:
        if recipe.slices is not None and len(modules) != 1:
            listed = ", ".join(by_name)
            problems.append(
                (
                    ("slices",),
                    f"the model has several modules ({listed}): write modules: {{NAME: {{slices: "
                    "…}}}} for each",
                )
            )
            return []
        wanted: dict[str, tuple[Path, OutputModule | None]]
        wanted = {module.name: (("slices",), None) for module in modules}
    else:
        wanted = {}
        for name in recipe.modules:
            if name not in by_name:
                near = did_you_mean(name, by_name) or f"it has: {', '.join(by_name)}"
                problems.append((("modules", name), f"the model has no such module; {near}"))
            else:
                wanted[name] = (("modules", name), recipe.modules[name])
    plans = []
    for name, (path, definition) in wanted.items():
        module = by_name[name]
        models = recipe.models if definition is None else definition.models
        slices = recipe.slices if definition is None else definition.slices
        if models is not None:
            below = ("models",) if definition is None else (*path, "models")
            planned = [_of_models(recipe, models, module, below)]
        else:
            below = path if definition is None else (*path, "slices")
            planned = [
                each
                for i, one in enumerate(slices or [])
                if (each := _of_slice(recipe, one, (*below, i), problems))
            ]
        for each in planned:
            _check_inputs(each, contract, problems)
        parameters = None if definition is None else definition.parameters
        plans.append(ModulePlan(module, tuple(planned), parameters))
    return plans


def planned_tensors(plan: ModulePlan, stand_in: Mapping[int, int]) -> Iterator[PlannedTensor]:
    """Yield a module's tensors: input side, layers, output side.

    ``stand_in`` maps layers of the output to the base's layers, whose tensors' names they have.
    """
    module = plan.module
    for name in module.before:
        first = plan.slices[0]
        yield PlannedTensor(name, (name,) * len(first.sources), first, plan, 0.0, False)
    layer = 0
    for one in plan.slices:
        for offset in range(one.count):
            position = offset / (one.count - 1) if one.count > 1 else 1.0
            for suffix in module.layers.get(stand_in.get(layer, layer), []):
                inputs = tuple(
                    module.name_of(source.first + offset, suffix) for source in one.sources
                )
                name = module.name_of(layer, suffix)
                yield PlannedTensor(name, inputs, one, plan, position, True)
            layer += 1
    for name in module.after:
        last = plan.slices[-1]
        yield PlannedTensor(name, (name,) * len(last.sources), last, plan, 0.0, False)


def is_in_place(plan: ModulePlan, models: Sequence[ModelReference]) -> bool:
    """Say whether layer i of the output is layer i of every model, for all layers."""
    layer = 0
    for one in plan.slices:
        if any(source.first != layer for source in one.sources):
            return False
        if len(plan.slices) > 1 and any(model not in one.models for model in models):
            return False
        layer += one.count
    return layer == plan.module.count


def _of_models(
    recipe: MergekitRecipe, models: Sequence[ModelInput], module: Module, path: Path
) -> Slice:
    base = recipe.base_model
    sources = [Source(each.model, 0, each.parameters, (*path, i)) for i, each in enumerate(models)]
    if base is not None and base not in [source.model for source in sources]:
        sources.append(Source(base, 0, None, ("base_model",)))
    return Slice(tuple(sources), module.count, base, None, path)


def _of_slice(
    recipe: MergekitRecipe, one: OutputSlice, path: Path, problems: Problems
) -> Slice | None:
    sources, lengths = [], []
    for i, each in enumerate(one.sources):
        below = (*path, "sources", i)
        first, end = each.layer_range
        if not 0 <= first < end:
            problems.append(
                (
                    (*below, "layer_range"),
                    f"expected [first, one after the last], found [{first}, {end}]",
                )
            )
        sources.append(Source(each.model, first, each.parameters, below))
        lengths.append(end - first)
    if any(length != lengths[0] for length in lengths):
        problems.append(((*path, "sources"), f"all must have equally many layers, found {lengths}"))
        return None
    base = one.base_model or recipe.base_model
    return Slice(tuple(sources), lengths[0], base, one.parameters, path)


def _check_inputs(one: Slice, contract: Contract, problems: Problems) -> None:
    models = one.models
    for i, source in enumerate(one.sources):
        if source.model in models[:i]:
            problems.append((source.path, f"{source.model} is here twice"))
    if contract.base == "required" and one.base is None:
        problems.append((("base_model",), "missing required key: this method has a base"))
        return
    has_base = one.base is not None and one.base in models and contract.base != "ignored"
    if one.base is not None and contract.base != "ignored" and not has_base:
        problems.append((one.path, f"the base {one.base} is not among the sources"))
        return
    _check_count(len(models), contract.inputs, "models, the base among them", one, problems)
    others = len(models) - has_base
    _check_count(others, contract.models, "models beside the base", one, problems)


def _check_count(
    count: int, bounds: tuple[int, int | None], what: str, one: Slice, problems: Problems
) -> None:
    low, high = bounds
    if count < low or (high is not None and count > high):
        expected = f"{low}" if low == high else f"at least {low}"
        problems.append((one.path, f"this method takes {expected} {what}; found {count}"))
