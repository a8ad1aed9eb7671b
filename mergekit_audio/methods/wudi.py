"""WUDI: the matrix that interferes least with what each model's task matrix spans."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.methods._spectral import SpectralMethod
from mergekit_audio.methods.base import Array, TensorGroup
from mergekit_audio.methods.ops import weighted_sum

_STEPS = (300, 1e-5)
_MOMENTS = (0.9, 0.999)
_ADAM_EPSILON = 1e-8
_SMALLEST_EIGENVALUE_RATIO = 1e-12


class Wudi(SpectralMethod):
    """Δ = T that lowers L(T) = Σᵢ ‖(T − tᵢ) tᵢᵀ‖² / ‖tᵢ‖² from T = Σᵢ tᵢ on, where tᵢ = wᵢ τᵢ.

    Needs no data: tᵢ stands for the inputs of its layer. L is quadratic, ∇L(T) = 2 (T A − B) with
    A = Σᵢ tᵢᵀ tᵢ / ‖tᵢ‖² and B = Σᵢ tᵢ tᵢᵀ tᵢ / ‖tᵢ‖², so the paper's Adam needs one product of
    matrices a step. Its 300 steps of 10⁻⁵ move no element by much more than 3·10⁻³: an early
    stop, part of the method where task vectors are larger than that. ``solver: exact`` goes where
    gradient descent ends, T = Σᵢ tᵢ + (B − Σᵢ tᵢ A) A⁺.

    Axes of size 1 are left out first. Vectors (also the g ``[1, 1, k]`` of a weight norm) get the
    mean of wᵢ τᵢ, and so do convolution kernels (also its v) unless ``convolutions: flatten`` makes
    them matrices ``[out, in·k]``.
    """

    name: Literal["wudi"] = "wudi"
    """Always `wudi`."""
    reference: ClassVar[str] = (
        "Cheng et al., Whoever Started the Interference Should End It: Guiding Data-Free Model "
        "Merging via Task Vectors, arXiv 2503.08099, section 4 and algorithm 1"
    )
    solver: Literal["adam", "exact"] = "adam"
    """`adam`: the paper's steps; `exact`: the minimum, without steps."""
    steps: int = Field(default=_STEPS[0], ge=1)
    """Steps of Adam."""
    learning_rate: float = Field(default=_STEPS[1], gt=0)
    """The step size of Adam, in units of the weights."""

    @model_validator(mode="after")
    def _check_solver(self) -> Self:
        if self.solver == "exact" and (self.steps, self.learning_rate) != _STEPS:
            raise ValueError("`steps` and `learning_rate` need `solver: adam`; `exact` takes none")
        return self

    def merge_matrices(self, matrices: Array, group: TensorGroup) -> Array:
        """Return the merged matrix ``[m, n]`` of wᵢ τᵢ, shape ``[K, m, n]``, float64."""
        xp = group.xp
        start = weighted_sum(matrices, [1.0] * matrices.shape[0])
        second, first = _quadratic(matrices, xp)
        if second is None:
            return xp.zeros_like(start)
        if self.solver == "exact":
            return _minimum(start, second, first, xp)
        return _adam(start, second, first, self.steps, self.learning_rate, xp)


def _quadratic(matrices: Array, xp: Any) -> tuple[Array | None, Array | None]:
    """Return A ``[n, n]`` and B ``[m, n]``; None where all task matrices are zero."""
    second: Array | None = None
    first: Array | None = None
    for i in range(matrices.shape[0]):
        matrix = matrices[i, ...]
        squared_norm = float(xp.sum(matrix * matrix))
        if squared_norm == 0:
            continue
        gram = (matrix.T @ matrix) / squared_norm
        product = matrix @ gram
        second = gram if second is None else second + gram
        first = product if first is None else first + product
    return second, first


def _minimum(start: Array, second: Array, first: Array, xp: Any) -> Array:
    """Return the minimum that is nearest to ``start``."""
    eigenvalues, vectors = xp.linalg.eigh(second)
    kept = eigenvalues > _SMALLEST_EIGENVALUE_RATIO * float(eigenvalues[-1])
    inverse = xp.where(kept, 1.0 / xp.where(kept, eigenvalues, 1.0), 0.0)
    step = (first - start @ second) @ vectors
    return start + (step * inverse[None, :]) @ vectors.T


def _adam(
    start: Array, second: Array, first: Array, steps: int, learning_rate: float, xp: Any
) -> Array:
    """Return ``start`` after so many steps of Adam (Kingma and Ba, arXiv 1412.6980)."""
    decay, square_decay = _MOMENTS
    place = start + 0.0
    mean, square = xp.zeros_like(start), xp.zeros_like(start)
    for step in range(1, steps + 1):
        gradient = place @ second
        gradient -= first
        gradient *= 2.0
        mean *= decay
        mean += (1 - decay) * gradient
        gradient *= gradient
        gradient *= 1 - square_decay
        square *= square_decay
        square += gradient
        root = xp.sqrt(square)
        root *= (1 - square_decay**step) ** -0.5
        root += _ADAM_EPSILON
        update = mean / root
        update *= learning_rate / (1 - decay**step)
        place -= update
    return place
