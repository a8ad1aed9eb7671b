"""SSF: a scale and a shift of every linear map's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mergekit_audio.transfers._names import heads_only, is_layer_linear
from mergekit_audio.transfers.base import Shapes, Transfer

if TYPE_CHECKING:
    from torch import nn


class Ssf(Transfer):
    """Train ``scale ⊙ (W x + b) + shift`` on all six linear maps of a layer (arXiv 2210.08823).

    As in the study of music foundation models (Ding and Lerch, section 3.3) neither layer norms nor
    convolutions are scaled, and the initial values are near the identity, not at it.
    """

    name: Literal["ssf"] = "ssf"
    init_std: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.02
    """Standard deviation of the initial scales about 1 and of the initial shifts about 0."""

    def prepare(self, model: nn.Module, trainable: list[str], *, seed: int = 0) -> None:
        """Scale and shift every linear map whose weight may change; the rest is frozen."""
        from mergekit_audio.transfers._modules import freeze_encoder, swap_linears
        from mergekit_audio.transfers._ssf import ScaledLinear

        freeze_encoder(model, trainable)
        swap_linears(
            model,
            trainable,
            lambda linear, generator: ScaledLinear(linear, self.init_std, generator),
            seed,
        )

    def trained_sizes(self, shapes: Shapes, trainable: Sequence[str]) -> dict[str, int]:
        """Return ``2 · out`` for each map."""
        scaled = {
            f"{name.removesuffix('.weight')}.ssf": 2 * shapes[name][0]
            for name in trainable
            if is_layer_linear(name, "weight")
        }
        return scaled | heads_only(shapes, trainable)
