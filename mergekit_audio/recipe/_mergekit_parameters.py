"""The parameters of mergekit's methods: scopes, defaults, and values by filter and gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mergekit_audio.recipe._mergekit_schema import Conditional, Parameters, Setting

Kind = Literal["number", "integer", "switch"]
Scope = Literal["shared", "models", "inputs"]
"""One value for the merge; one for each model but the base; one for each model and the base."""

REQUIRED = object()
_TRUE = ("true", "yes", "on", "t", "y", "1")
_FALSE = ("false", "no", "off", "f", "n", "0")


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method: its name, type, scope and default."""

    name: str
    kind: Kind
    scope: Scope = "shared"
    default: Any = REQUIRED


@dataclass(frozen=True)
class Contract:
    """What a method of mergekit takes.

    Parameters
    ----------
    parameters
        Its parameters.
    base
        Whether the base is ``required``, ``optional``, or ``ignored`` (an input as any other).
    inputs
        The smallest and largest number of inputs; the base counts.
    models
        The smallest and largest number of inputs beside the base.
    """

    parameters: tuple[Parameter, ...]
    base: Literal["required", "optional", "ignored"] = "ignored"
    inputs: tuple[int, int | None] = (1, None)
    models: tuple[int, int | None] = (0, None)

    def names(self, scopes: Iterable[Scope]) -> list[str]:
        """Return the names of the parameters of some scopes."""
        return [each.name for each in self.parameters if each.scope in scopes]


def _family(normalize: bool, rescale: bool, *more: Parameter) -> Contract:
    return Contract(
        (
            Parameter("weight", "number", "models"),
            Parameter("density", "number", "models", 1.0),
            Parameter("lambda", "number", default=1.0),
            Parameter("normalize", "switch", default=normalize),
            Parameter("rescale", "switch", default=rescale),
            Parameter("int8_mask", "switch", default=False),
            *more,
        ),
        base="required",
    )


_GAMMA = Parameter("gamma", "number", "models", 0.01)
_EPSILON = Parameter("epsilon", "number", "models", 0.15)
_NUMBER_T = Parameter("t", "number")

CONTRACTS: Mapping[str, Contract] = {
    "linear": Contract(
        (Parameter("weight", "number", "inputs"), Parameter("normalize", "switch", default=True))
    ),
    "slerp": Contract((_NUMBER_T,), "required", (2, 2)),
    "nuslerp": Contract(
        (
            Parameter("weight", "number", "models"),
            Parameter("nuslerp_row_wise", "switch", default=False),
            Parameter("nuslerp_flatten", "switch", default=True),
        ),
        "optional",
        models=(2, 2),
    ),
    "multislerp": Contract(
        (
            Parameter("weight", "number", "models"),
            Parameter("normalize_weights", "switch", default=True),
            Parameter("eps", "number", default=1e-8),
        ),
        "optional",
        models=(1, None),
    ),
    "karcher": Contract(
        (
            Parameter("max_iter", "integer", default=10),
            Parameter("tol", "number", default=1e-5),
        )
    ),
    "task_arithmetic": _family(False, False),
    "ties": _family(True, False),
    "dare_linear": _family(False, True),
    "dare_ties": _family(False, True),
    "breadcrumbs": _family(False, False, _GAMMA),
    "breadcrumbs_ties": _family(False, False, _GAMMA),
    "della": _family(True, True, _EPSILON),
    "della_linear": _family(False, True, _EPSILON),
    "sce": Contract(
        (
            Parameter("select_topk", "number", default=1.0),
            Parameter("int8_mask", "switch", default=False),
        ),
        "required",
    ),
    "model_stock": Contract(
        (Parameter("filter_wise", "switch", default=False),), "required", (3, None)
    ),
    "ram": Contract((Parameter("epsilon", "number", default=1e-5),), "required"),
    "ramplus_tl": Contract(
        (
            Parameter("r", "number", default=0.1),
            Parameter("alpha", "number", default=0.2),
            Parameter("epsilon", "number", default=1e-5),
        ),
        "required",
    ),
    "nearswap": Contract((_NUMBER_T,), "required", (2, 2)),
    "arcee_fusion": Contract((), "required", (2, 2)),
    "passthrough": Contract((Parameter("scale", "number", "inputs", None),), inputs=(1, 1)),
}
"""What each method of mergekit 0.1.5 takes."""


def coerce(value: Any, kind: Kind) -> Any:
    """Return a value as mergekit reads it: numbers may be text, switches 0 and 1.

    Raises
    ------
    ValueError
        It is nothing of that kind.
    """
    if kind == "switch":
        if value in (True, False):
            return bool(value)
        if isinstance(value, str) and value.lower() in (*_TRUE, *_FALSE):
            return value.lower() in _TRUE
        raise ValueError(f"expected true or false, found {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, found {value!r}")
    if kind == "number":
        return number
    if number != int(number):
        raise ValueError(f"expected a whole number, found {value!r}")
    return int(number)


def resolve(
    parameter: Parameter, sources: Iterable[Parameters | None], name: str, position: float
) -> Any:
    """Return a parameter's value for a tensor: the first source that has one, else the default.

    Parameters
    ----------
    parameter
        What is asked for; a required one that no source has comes back as ``REQUIRED``.
    sources
        Settings, the most specific first; one whose filters all miss leaves it to the next.
    name
        The tensor's name.
    position
        t, from 0 at the first layer to 1 at the last.
    """
    for settings in sources:
        if settings is not None and parameter.name in settings:
            value = _evaluate(settings[parameter.name], name, position, parameter.kind)
            if value is not None:
                return value
    return parameter.default


def _evaluate(setting: Setting, name: str, position: float, kind: Kind) -> Any:
    items = [setting] if isinstance(setting, Conditional) else setting
    if not isinstance(items, list):
        return coerce(items, kind)
    for item in items:
        if not isinstance(item, Conditional):
            return _gradient([coerce(each, kind) for each in items], position, kind)
        if item.filter in (None, "*") or (name and str(item.filter) in name):
            return _evaluate(item.value, name, position, kind)
    return None


def _gradient(values: list[Any], position: float, kind: Kind) -> Any:
    """Return (1 − f) vᵢ + f vᵢ₊₁ with i + f = t (n − 1); switches take vᵢ."""
    place = position * (len(values) - 1)
    first = int(place)
    if kind == "switch":
        return values[first]
    part = place - first
    value = (1 - part) * values[first] + part * values[min(len(values) - 1, first + 1)]
    # 15 digits: what is equal but for rounding becomes one group.
    return coerce(float(f"{value:.15g}"), kind)
