"""What the DELLA methods share: changes dropped at random, the larger of a row less often."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.methods._sparse import SparseMerge
from mergekit_audio.methods.base import Array, Slices, TensorGroup


class MagnitudeSampling(SparseMerge):
    """Δ = join of τᵢ Bᵢ / pᵢ, Bᵢ = 1 with probability pᵢ, which grows with the rank in the row.

    A row is all that one output has: the elements at one index of the first axis. A vector is
    one row. Where a row has one element, that has no rank: its probability is the density.
    """

    granularity: ClassVar[Literal["element", "row", "tensor"]] = "row"
    random: ClassVar[bool] = True
    model_parameters: ClassVar[tuple[str, ...]] = ("density", "epsilon")

    density: float = Field(default=0.7, ge=0, le=1)
    """Mean probability that a change is kept; 0.7 is the authors' example (drop rate 0.3)."""
    epsilon: float = Field(default=0.07, ge=0, lt=0.5)
    """Half the range of the probabilities: a row's smallest change is kept with density − ε, its
    largest with density + ε, both within (0, 1); 0.07 is the authors' example (window 0.14)."""
    rescale: bool = True
    """Make up for the changes that are dropped."""
    semantics: Literal["paper", "mergekit"] = "paper"
    """`paper`: a row is all at one index of the first axis, each kept change is divided by its
    probability. `mergekit`: ranks run along the second axis, `rescale` restores the sum of
    magnitudes of each tensor."""

    @model_validator(mode="after")
    def _probabilities_are_possible(self) -> Self:
        problem = _problem(self.density, self.epsilon)
        if problem:
            raise ValueError(problem)
        return self

    def keeps_norm(self) -> bool:
        """Whether a tensor's sum of magnitudes is restored."""
        return self.rescale and self.semantics == "mergekit"

    def selection(self, slices: Slices, model_survey: Any) -> Any:
        """Return the keep probabilities of a vector, which slices would cut; else None."""
        from mergekit_audio.methods._magprune import probabilities_of_vector

        for first in slices:
            densities, epsilons = self._ranges(first)
            self._require_possible(densities, epsilons)
            if len(slices.shape) < 2:
                return probabilities_of_vector(slices, densities, epsilons)
            break
        return None

    def sparse(self, group: TensorGroup, selection: Any) -> Iterator[Array]:
        """Yield τᵢ Bᵢ, in the paper's way divided by pᵢ."""
        from mergekit_audio.methods._magprune import pruned

        return pruned(
            group,
            *self._ranges(group),
            selection,
            axis=1 if self.semantics == "mergekit" else None,
            divide=self.rescale and self.semantics == "paper",
        )

    @staticmethod
    def _require_possible(densities: list[float], epsilons: list[float]) -> None:
        faults = [
            Fault("", 0, 0, f"models.{i}.parameters", problem)
            for i, problem in enumerate(map(_problem, densities, epsilons))
            if problem
        ]
        if faults:
            raise RecipeError(faults, "change the model's density or epsilon")

    def _ranges(self, group: TensorGroup) -> tuple[list[float], list[float]]:
        return group.values("density", self.density), group.values("epsilon", self.epsilon)


def _problem(density: float, epsilon: float) -> str:
    if density in {0.0, 1.0} or (density - epsilon > 0 and density + epsilon < 1):
        return ""
    return (
        f"DELLA keeps changes with probabilities from density - epsilon to density + epsilon, "
        f"which must lie within (0, 1); found density {density:g}, epsilon {epsilon:g}"
    )
