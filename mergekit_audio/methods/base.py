"""What a merge method is, and what it sees of one tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")
Array: TypeAlias = Any
"""A float64 array: numpy's on the CPU, torch's on a GPU; methods compute in ``group.xp``."""


@dataclass(frozen=True)
class TensorGroup:
    """One tensor of the base and of the K models, or an equal slice of each.

    What a slice is, the method's ``granularity`` says: any flat run of elements (``element``),
    whole rows along the first axis (``row``), or always the whole tensor (``tensor``).

    Parameters
    ----------
    name
        The tensor's name in the base.
    base
        θ_base, float64, shape ``[*S]``.
    models
        θ₁ … θ_K, float64, shape ``[K, *S]``, ordered by content and weight.
    weights
        w₁ … w_K.
    parameters
        For each model the method's parameters that its entry in the recipe sets for it alone.
    labels
        For each model its ``name`` in the recipe.
    digests
        For each model the digest of its whole content: what its randomness is keyed by.
    seed
        The recipe's seed.
    start
        The place of the slice's first element in the flat tensor.
    shape
        The shape of the whole tensor; None: this is the whole tensor.
    layer
        (Index of the tensor's layer, number of layers) in the model's main stack; None outside it.
    survey
        What the method's ``survey`` returned for this tensor.
    model_survey
        What the method's ``survey_model`` returned for all tensors.
    statistics
        Measured statistics by kind: shape ``[K, *S]`` where they have the tensor's shape (then cut
        as the models are), otherwise ``[K, …]`` whole.
    """

    name: str
    base: Array
    models: Array
    weights: tuple[float, ...]
    parameters: tuple[Mapping[str, Any], ...] = ()
    labels: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    seed: int = 0
    start: int = 0
    shape: tuple[int, ...] | None = None
    layer: tuple[int, int] | None = None
    survey: Any = None
    model_survey: Any = None
    statistics: Mapping[str, Array] = field(default_factory=dict)

    @property
    def xp(self) -> ModuleType:
        """The array namespace (Python array API standard) of ``base`` and ``models``."""
        from mergekit_audio.methods._arrays import namespace

        return namespace(self.base)

    @property
    def task_vectors(self) -> Array:
        """τ₁ … τ_K = θᵢ − θ_base, float64, shape ``[K, *S]``."""
        return self.models - self.base[None, ...]

    @property
    def whole_shape(self) -> tuple[int, ...]:
        """The shape of the whole tensor, also where this is a slice of it."""
        return tuple(self.base.shape) if self.shape is None else self.shape

    def values(self, key: str, default: T) -> list[T]:
        """Return one of the method's parameters for each model: its own, else ``default``."""
        if not self.parameters:
            return [default] * len(self.weights)
        return [each.get(key, default) for each in self.parameters]

    def uniform(self, model: int, stream: str = "") -> Array:
        """Return random numbers of one model, uniform in [0, 1), float64, shape ``[*S]``.

        Keyed by (recipe seed, tensor name, the model's content, ``stream``) and counted by place in
        the tensor: the same for any slicing, order, thread and device.
        """
        from mergekit_audio.methods._arrays import like, uniform

        key = (str(self.seed), self.name, self.digests[model], stream)
        shape = tuple(self.base.shape)
        values: np.ndarray = uniform(key, self.start, shape)
        return like(values, self.base)


class Slices(Protocol):
    """A tensor of base and models as a method's survey reads it: slice by slice, as often as asked.

    ``name`` is the tensor's, ``shape`` the whole shape, ``layer`` as in ``TensorGroup``.
    """

    name: str
    shape: tuple[int, ...]
    layer: tuple[int, int] | None

    def __iter__(self) -> Iterator[TensorGroup]: ...

    def sampled(self, step: int) -> Iterator[TensorGroup]:
        """Yield every ``step``-th element, from the first, flat and without statistics."""
        ...


class Tensors(Protocol):
    """All tensors that one method merges, sorted by canonical name.

    ``size`` is the number of their elements.
    """

    size: int

    def map(self, function: Callable[[Slices], T]) -> list[T]:
        """Return ``function`` of each tensor, in their order; computed on all cores."""
        ...


class MergeMethod(BaseModel, ABC):
    """A merge method: its fields are its hyper-parameters, ``name`` is its module's name.

    Class variables tell the engine and the property tests what the formula allows.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    name: str
    """The method's name, its module's."""
    reference: ClassVar[str]
    """The paper: title, arXiv id, equation."""
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "tensor"
    """The smallest slices that Δ can be computed from (with the surveys' results at hand)."""
    symmetric: ClassVar[bool] = True
    """Swapping models together with their weights and parameters changes nothing but rounding."""
    anchored: ClassVar[bool] = True
    """Models that all equal the base give Δ = 0, whatever the weights."""
    needs_base: ClassVar[bool] = True
    """The formula has a base; without one the first model stands in for it."""
    linear: ClassVar[bool] = False
    """Δ is a linear combination of the inputs: a value that is not finite shows in the result."""
    random: ClassVar[bool] = False
    """It calls ``group.uniform``, so the models' digests are needed before the merge."""
    model_counts: ClassVar[tuple[int, int | None]] = (1, None)
    """The smallest and largest number of models."""
    model_parameters: ClassVar[tuple[str, ...]] = ()
    """Fields that an entry of ``models`` may set for its model alone."""
    needs_statistics: ClassVar[tuple[str, ...]] = ()
    """Kinds of measured statistics that every model must bring."""

    @property
    def is_plain(self) -> bool:
        """Δ is elementwise and needs no survey."""
        cls = type(self)
        surveyed = (cls.survey, cls.survey_model) != (MergeMethod.survey, MergeMethod.survey_model)
        return self.granularity == "element" and not surveyed

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` when the method can't use these weights, before any work."""

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ``RecipeError`` when a parameter names a model that is not there."""

    def check_statistics(
        self, statistics: Sequence[Any], digests: Sequence[str], weights: Sequence[float]
    ) -> None:
        """Raise ``InputError`` when what was measured does not fit these models and weights.

        Parameters
        ----------
        statistics
            The models' ``weights.statistics.Statistics``.
        digests
            The models' content digests.
        weights
            w₁ … w_K.
        """

    def survey_model(self, tensors: Tensors) -> Any:
        """Return what the method must know of all tensors together before it merges the first."""
        return None

    def survey(self, slices: Slices, model_survey: Any) -> Any:
        """Return what the method must know of a whole tensor before it merges slices of it."""
        return None

    @abstractmethod
    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ, float64, shape ``[*S]``; the engine computes θ = base + scale · Δ."""
