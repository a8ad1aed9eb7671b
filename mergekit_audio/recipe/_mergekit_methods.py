"""What a tensor's parameters in mergekit mean as one of our methods with λ and weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mergekit_audio import registry

_SMALLEST_SUM = 1e-8
# Weight 0 in these is the same as not to take part.
_BY_WEIGHT = (
    "linear",
    "task_arithmetic",
    "ties",
    "dare_linear",
    "dare_ties",
    "breadcrumbs",
    "breadcrumbs_ties",
    "della",
    "della_linear",
)
_BOUNDS = {"density": (0.0, 1.0), "select_topk": (0.0, 1.0), "gamma": (-math.inf, 1.0)}


@dataclass(frozen=True)
class Settings:
    """How one tensor is merged, in our words.

    Parameters
    ----------
    method
        The method's plain values.
    scale
        λ.
    weights, parameters
        Of each model, in the order of ``models``.
    """

    method: Mapping[str, Any]
    scale: float
    weights: tuple[float, ...]
    parameters: tuple[Mapping[str, Any], ...]

    @property
    def key(self) -> str:
        """Equal for equal settings."""
        return json.dumps([self.method, self.scale, self.weights, self.parameters], sort_keys=True)


def settings(
    name: str,
    shared: Mapping[str, Any],
    models: Sequence[Mapping[str, Any] | None],
    *,
    has_base: bool,
) -> Settings:
    """Return what mergekit's method does with these values.

    Parameters
    ----------
    name
        mergekit's name of the method.
    shared
        Values for the whole merge.
    models
        Values for each of our models; None: the model takes no part in this tensor.
    has_base
        The recipe names a base.

    Raises
    ------
    ValueError
        Models take no part, and the method has no word for that.
    """
    if name == "passthrough":
        return _passthrough(models)
    shared = _clipped(name, shared)
    models = [None if each is None else _clipped(name, each) for each in models]
    if None in models and name not in _BY_WEIGHT:
        raise ValueError(
            f"{name} can't leave models out of tensors that lie outside the stacked layers"
        )
    given = [each or {} for each in models]
    weights = tuple(float(each.get("weight", 0.0 if each is None else 1.0)) for each in given)
    weights = tuple(
        0.0 if model is None else weight for model, weight in zip(models, weights, strict=True)
    )
    if name == "task_arithmetic":
        divides = shared["normalize"] and abs(sum(weights)) >= _SMALLEST_SUM
        method = {"name": "weighted_average" if divides else "task_arithmetic"}
        return Settings(method, shared["lambda"], weights, ({},) * len(models))
    return _general(name, _fields(name, shared, has_base), given, weights)


def told_apart(resolved: Mapping[str, Settings]) -> dict[str, Settings]:
    """Return the settings with each parameter in one place: of the method, or of each model.

    What differs between models for one tensor is written for each model for all tensors: a group's
    entry for a model is added to the recipe's, so that it can't be taken back.
    """
    own = {key for each in resolved.values() for model in each.parameters for key in model}
    moved: dict[str, Settings] = {}
    for name, each in resolved.items():
        method = {key: value for key, value in each.method.items() if key not in own}
        values = {key: each.method[key] for key in sorted(own) if key in each.method}
        parameters = tuple({**values, **model} for model in each.parameters)
        moved[name] = replace(each, method=method, parameters=parameters)
    return moved


def _clipped(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values beyond a bound as the bound, which is what they mean in mergekit."""
    bounds = {**_BOUNDS, **({"t": (0.0, math.inf)} if name == "nearswap" else {})}
    return {
        key: min(max(value, bounds[key][0]), bounds[key][1]) if key in bounds else value
        for key, value in values.items()
    }


def _fields(name: str, shared: Mapping[str, Any], has_base: bool) -> dict[str, Any]:
    """Return mergekit's values under our fields' names."""
    if name not in ("nuslerp", "multislerp"):
        return dict(shared)
    fields = {"space": "task_vectors" if has_base else "weights"}
    if name == "multislerp":
        return {**shared, **fields}
    axis = "first_axis" if shared["nuslerp_row_wise"] else "last_axis"
    return {**fields, "vectors": "tensor" if shared["nuslerp_flatten"] else axis}


def _general(
    name: str,
    shared: Mapping[str, Any],
    models: Sequence[Mapping[str, Any]],
    weights: tuple[float, ...],
) -> Settings:
    fields = registry.lookup("methods", name).model_fields
    method: dict[str, Any] = {"name": name}
    if "semantics" in fields:
        method["semantics"] = "mergekit"
    method |= {key: value for key, value in shared.items() if key in fields}
    own: list[dict[str, Any]] = [{} for _ in models]
    for key in dict.fromkeys(key for each in models for key in each):
        if key == "weight" or key not in fields:
            continue
        values = [each[key] for each in models if key in each]
        if all(value == values[0] for value in values):
            method[key] = values[0]
            continue
        for place, each in zip(own, models, strict=True):
            if key in each:
                place[key] = each[key]
    return Settings(method, shared.get("lambda", 1.0), weights, tuple(own))


def _passthrough(models: Sequence[Mapping[str, Any] | None]) -> Settings:
    """Return θ = s · θᵢ of the one model i that takes part."""
    scales = [0.0 if each is None else _scale_of(each) for each in models]
    if len(models) == 1:
        method: dict[str, Any] = {"name": "passthrough"}
        if scales[0] != 1.0:
            method["factor"] = scales[0]
        return Settings(method, 1.0, (1.0,), ({},))
    return Settings({"name": "linear", "normalize": False}, 1.0, tuple(scales), ({},) * len(models))


def _scale_of(values: Mapping[str, Any]) -> float:
    scale = values.get("scale")
    return 1.0 if scale is None else float(scale)
