"""The λ of a sweep: a list or a range; one λ, one a culture or one a group of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from mergekit_audio.methods.base import MergeMethod
from mergekit_audio.recipe.base import FiniteFloat, RowName, Strict
from mergekit_audio.recipe.merge import LayerRange
from mergekit_audio.registry import did_you_mean

SpaceName = Literal["shared", "per_culture", "groups"]
Design = Literal["grid", "sobol"]


class ScaleRange(Strict):
    """λ at even distances from one value to another; both are in."""

    model_config = ConfigDict(
        validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )

    low: FiniteFloat = Field(alias="from")
    """The smallest λ."""
    high: FiniteFloat = Field(alias="to")
    """The largest λ."""
    count: int = Field(default=11, ge=2)
    """How many λ."""

    @model_validator(mode="after")
    def _is_forward(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"from: {self.low:g} must be below to: {self.high:g}")
        return self

    def values(self) -> list[float]:
        """Return the λ in rising order, rounded to 12 digits."""
        return even_values(self.low, self.high, self.count)


class SpaceGroup(Strict):
    """Tensors with a λ of their own."""

    name: RowName
    """The group's name in tables."""
    match: str | list[str] = "*"
    """Globs over tensor names: `*` any text, `?` one character, `{0-5}` range, `{a,b}` choice."""
    layers: LayerRange | None = None
    """Only tensors of these layers of the main stack."""


class Interpolate(Strict):
    """Probe many λ on features that are interpolated between a few λ where they were extracted."""

    points: int = Field(default=101, ge=3)
    """λ to probe: at even distances for one λ; for several λ by `design`."""
    tolerance: Annotated[FiniteFloat, Field(gt=0)] = 1e-3
    """The largest mean error of features at λ that the interpolation has not seen, relative to
    their largest shift from the base; above it every λ of `scales` is evaluated directly. What
    bfloat16 rounds is no error: with `precision: fp32` there is none."""
    max_nodes: int | None = Field(default=None, ge=3)
    """The most λ where features are extracted, beside those of a few tracks that test; null means
    9 for one λ, and for K λ as many as polynomials of total degree 4 (K = 2) or 3 (K > 2) need."""
    design: Design | None = None
    """Where the points lie for several λ: `grid` (a product of even values) or `sobol` (a sequence
    drawn by the recipe's seed); null means `sobol`."""


Scales = Annotated[list[FiniteFloat], Field(min_length=1)] | ScaleRange | Literal["auto"]


def even_values(low: float, high: float, count: int) -> list[float]:
    """Return values at even distances in rising order, rounded to 12 digits, the ends exact."""
    step = (high - low) / (count - 1)
    inner = [float(f"{low + place * step:.12g}") for place in range(1, count - 1)]
    return [low, *inner, high]


def method_variants(
    method: MergeMethod, grid: dict[str, list[Any]]
) -> list[tuple[dict[str, Any], MergeMethod]]:
    """Return each combination of a method's parameters, with the method that has them.

    Parameters
    ----------
    method
        The recipe's method; it keeps what the grid does not name.
    grid
        Values by parameter; without any there is one variant, the method itself.

    Raises
    ------
    ValueError
        The method has no such parameter, or can't have a value.
    """
    _require_parameters(method, list(grid))
    chosen: list[dict[str, Any]] = [{}]
    for name, values in grid.items():
        chosen = [{**each, name: value} for each in chosen for value in values]
    return [(each, _changed(method, each)) for each in chosen]


def _require_parameters(method: MergeMethod, names: Sequence[str]) -> None:
    known = [name for name in type(method).model_fields if name != "name"]
    for name in names:
        if name not in known:
            near = did_you_mean(name, known)
            detail = near or (f"known: {', '.join(known)}" if known else "it has none")
            raise ValueError(f"method_grid: {method.name} has no parameter {name!r}; {detail}")


def _changed(method: MergeMethod, values: dict[str, Any]) -> MergeMethod:
    if not values:
        return method
    try:
        return type(method).model_validate({**method.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        problem = f"{where}: {first['msg']}" if where else first["msg"]
        raise ValueError(f"method_grid: {problem}") from None
