"""Turn a mergekit recipe into ours: resolve every tensor's parameters, group what is equal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mergekit_audio.recipe._mergekit_globs import globs_of
from mergekit_audio.recipe._mergekit_layout import Module
from mergekit_audio.recipe._mergekit_methods import Settings, settings, told_apart
from mergekit_audio.recipe._mergekit_parameters import CONTRACTS, REQUIRED, Contract, resolve
from mergekit_audio.recipe._mergekit_plan import (
    ModulePlan,
    PlannedTensor,
    Problems,
    is_in_place,
    plan_modules,
    planned_tensors,
)
from mergekit_audio.recipe._mergekit_schema import MergekitRecipe, ModelReference, Parameters
from mergekit_audio.recipe.positions import Path
from mergekit_audio.weights.depth import main_stack
from mergekit_audio.weights.keys import canonical_name


@dataclass
class Translation:
    """What a mergekit recipe says, in our words; models are still mergekit's references.

    Parameters
    ----------
    base
        The base; None: the first model stands in.
    models
        The models in their order; for a method that ignores the base it may be among them.
    default
        The settings of most tensors.
    groups, exclude, stack
        As in the recipe.
    notes
        What the user should know.
    problems
        What is wrong, by path in the file.
    """

    base: ModelReference | None
    models: list[ModelReference]
    default: Settings | None = None
    groups: list[dict[str, Any]] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    stack: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: Problems = field(default_factory=list)


def translate(
    recipe: MergekitRecipe,
    modules: Sequence[Module],
    spelling: Mapping[str, str],
    *,
    has_layers: bool,
) -> Translation:
    """Return the recipe in our words.

    Parameters
    ----------
    recipe
        The validated recipe.
    modules
        The base's modules, by the names of its tensors as stored.
    spelling
        Stored name -> canonical name, of the tensors that are merged (floating point).
    has_layers
        Gradients run over layers (`mergekit-yaml`); otherwise t is 0 everywhere.
    """
    contract = CONTRACTS[recipe.merge_method]
    problems: Problems = []
    plans = plan_modules(recipe, modules, contract, problems)
    bases = {one.base for plan in plans for one in plan.slices}
    if len(bases) > 1:
        problems.append((("slices",), "one base for all slices is expected"))
    base = next(iter(bases), recipe.base_model) if plans else recipe.base_model
    ignores_base = contract.base == "ignored"
    if base is not None and base.lora is not None and contract.base != "ignored":
        problems.append((("base_model",), "a base takes no adapter: merge it in beforehand"))
    models = list(
        dict.fromkeys(
            model
            for plan in plans
            for one in plan.slices
            for model in one.models
            if ignores_base or model != base
        )
    )
    found = Translation(base, models, problems=problems)
    if problems:
        return found
    if not models:
        problems.append((("models",), "the base alone is no merge"))
        return found
    everyone = [*models, *([base] if base is not None and base not in models else [])]
    stacked = [plan for plan in plans if not is_in_place(plan, everyone)]
    main = main_stack(canonical_name(name) for name in spelling)
    for plan in stacked:
        if main is None or f"{plan.module.prefix}." != main.prefix:
            where = f"the layers {main.prefix}N" if main else "numbered layers"
            problem = f"only {where} can be stacked anew"
            problems.append((plan.slices[0].path, problem))
    if problems:
        return found
    resolver = _Resolver(recipe, contract, found, has_layers)
    resolved: dict[str, Settings] = {}
    for plan in plans:
        stand_in = _stack(plan, found) if plan in stacked else {}
        for tensor in planned_tensors(plan, stand_in):
            stored = tensor.name
            if stand_in and tensor.is_layered:
                stored = _stored(plan, stored, stand_in)
            if stored not in spelling:
                continue
            name = canonical_name(tensor.name)
            outcome = resolver.settings(tensor, is_stacked=bool(stand_in))
            if outcome is not None:
                resolved[name] = outcome
    resolver.report()
    if not problems:
        _group(found, told_apart(resolved))
        _leave_out(found, plans, modules, resolved, spelling)
    return found


class _Resolver:
    """Resolve parameters tensor by tensor and remember what is missing."""

    def __init__(
        self, recipe: MergekitRecipe, contract: Contract, found: Translation, has_layers: bool
    ) -> None:
        self.recipe, self.contract, self.found = recipe, contract, found
        self.has_layers = has_layers
        self.missing: dict[tuple[Path, str], list[str]] = {}
        self.refused: set[str] = set()

    def settings(self, tensor: PlannedTensor, *, is_stacked: bool) -> Settings | None:
        """Return a tensor's settings, or None when something is missing."""
        found, one = self.found, tensor.slice
        general = (one.parameters, tensor.module.parameters, self.recipe.parameters)
        position = tensor.position if self.has_layers else 0.0
        shared = self._values(("shared",), general, tensor.name, position, ("parameters",))
        by_model: dict[ModelReference, dict[str, Any]] = {}
        for source, name in zip(one.sources, tensor.inputs, strict=True):
            own = (source.parameters, *general)
            is_base = source.model == found.base
            scopes = ("inputs",) if is_base else ("models", "inputs")
            by_model[source.model] = self._values(scopes, own, name, position, source.path)
        if any(REQUIRED in each.values() for each in [shared, *by_model.values()]):
            return None
        values = [by_model.get(model) for model in found.models]
        if is_stacked and tensor.is_layered:
            # A model that takes no part is named by the stack: its weight is not looked at.
            present = next(each for each in values if each is not None)
            values = [present if each is None else each for each in values]
        try:
            return settings(
                self.recipe.merge_method, shared, values, has_base=found.base is not None
            )
        except ValueError as error:
            self.refused.add(str(error))
            return None

    def _values(
        self,
        scopes: Sequence[Any],
        sources: Sequence[Parameters | None],
        name: str,
        position: float,
        path: Path,
    ) -> dict[str, Any]:
        values = {}
        for parameter in self.contract.parameters:
            if parameter.scope not in scopes:
                continue
            value = resolve(parameter, sources, name, position)
            if value is REQUIRED:
                self.missing.setdefault((path, parameter.name), []).append(name)
            values[parameter.name] = value
        return values

    def report(self) -> None:
        """Add what is missing to the problems, once for each parameter and place."""
        for (path, name), tensors in self.missing.items():
            count = len(tensors)
            more = f" and {count - 1} more tensors" if count > 1 else ""
            problem = f"missing required parameter {name!r} for {tensors[0]}{more}"
            self.found.problems.append((path, problem))
        self.found.problems += [(("slices",), problem) for problem in sorted(self.refused)]


def _stack(plan: ModulePlan, found: Translation) -> dict[int, int]:
    """Add the plan's slices to the stack; return the base's layer for each layer of the output."""
    reference = found.base or found.models[0]
    count = plan.module.count
    stand_in: dict[int, int] = {}
    layer = 0
    for one in plan.slices:
        own = one.source_of(reference)
        other = own or one.sources[0]
        # Layers that the base lacks are compared with its last: it has no say in them.
        layers = [min(other.first + i, count - 1) for i in range(one.count)]
        runs = _runs(layers)
        start = 0
        for run in runs:
            ranges = []
            for model in found.models:
                source = one.source_of(model)
                first = None if source is None else source.first + start
                ranges.append(None if first is None else _range(first, len(run)))
            found.stack.append({"base": _range(run[0], len(run)), "models": ranges})
            start += len(run)
        for below in layers:
            stand_in[layer] = below
            layer += 1
    return stand_in


def _range(first: int, count: int) -> dict[str, int]:
    return {"first": first, "last": first + count - 1}


def _runs(layers: Sequence[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return runs


def _stored(plan: ModulePlan, name: str, stand_in: Mapping[int, int]) -> str:
    """Return the name in the base of the tensor that an output layer's tensor is made after."""
    number, _, suffix = name[len(plan.module.prefix or "") + 1 :].partition(".")
    return plan.module.name_of(stand_in[int(number)], suffix)


def _group(found: Translation, resolved: Mapping[str, Settings]) -> None:
    """Set the default to the most frequent settings, and a group for each of the others."""
    by_key: dict[str, list[str]] = {}
    for name in sorted(resolved):
        by_key.setdefault(resolved[name].key, []).append(name)
    counts = Counter({key: len(names) for key, names in by_key.items()})
    usual = counts.most_common(1)[0][0]
    default = found.default = resolved[by_key[usual][0]]
    for key, names in sorted(by_key.items(), key=lambda item: _first_place(item[1])):
        if key == usual:
            continue
        chosen = resolved[names[0]]
        match = globs_of(names, resolved)
        group: dict[str, Any] = {"match": match[0] if len(match) == 1 else match}
        if chosen.method != default.method:
            group["method"] = dict(chosen.method)
        if chosen.scale != default.scale:
            group["scale"] = chosen.scale
        if chosen.weights != default.weights:
            group["weights"] = list(chosen.weights)
        if chosen.parameters != default.parameters:
            group["parameters"] = [dict(each) for each in chosen.parameters]
        found.groups.append(group)


def _first_place(names: Sequence[str]) -> list[Any]:
    """Order groups by their first tensor, numbers as numbers."""
    parts = names[0].split(".")
    return [(part.isdigit(), int(part) if part.isdigit() else part) for part in parts]


def _leave_out(
    found: Translation,
    plans: Sequence[ModulePlan],
    modules: Sequence[Module],
    resolved: Mapping[str, Settings],
    spelling: Mapping[str, str],
) -> None:
    """Copy the modules that the recipe does not name from the base."""
    left = [module.name for module in modules if all(plan.module is not module for plan in plans)]
    if left:
        names = set(spelling.values())
        found.exclude = globs_of(names - set(resolved), names)
        listed = ", ".join(left)
        found.notes.append(
            f"the recipe does not name the modules {listed}: they are copied from the base "
            "(mergekit leaves them out of the output)"
        )
