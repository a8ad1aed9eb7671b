"""LoRA: a low-rank update of every linear map of the encoder's layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mergekit_audio.transfers._names import heads_only, is_layer_linear
from mergekit_audio.transfers.base import Shapes, Transfer

if TYPE_CHECKING:
    from torch import nn


class Lora(Transfer):
    """Train ``W + α · B A`` on all six linear maps of a layer (LoRA, arXiv 2106.09685, eq. 3).

    As in the study of music foundation models (Ding and Lerch, section 3.3), the factor is α
    itself: with α = 1 the same update as peft's at ``lora_alpha = r``. Own code and not peft: its
    wrapper renames every parameter, which stages, checkpoints and logs know by the model's names.
    """

    name: Literal["lora"] = "lora"
    rank: int = Field(default=2, gt=0)
    """r, the rank of each update."""
    alpha: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    """The factor of the update, not divided by the rank."""

    def prepare(self, model: nn.Module, trainable: list[str], *, seed: int = 0) -> None:
        """Put the update on every linear map whose weight may change; the rest is frozen."""
        from mergekit_audio.transfers._lora import LoraLinear
        from mergekit_audio.transfers._modules import freeze_encoder, swap_linears

        freeze_encoder(model, trainable)
        swap_linears(
            model,
            trainable,
            lambda linear, generator: LoraLinear(linear, self.rank, self.alpha, generator),
            seed,
        )

    def trained_sizes(self, shapes: Shapes, trainable: Sequence[str]) -> dict[str, int]:
        """Return ``r · (in + out)`` for each map."""
        updates = {
            f"{name.removesuffix('.weight')}.lora": self.rank * sum(shapes[name])
            for name in trainable
            if is_layer_linear(name, "weight")
        }
        return updates | heads_only(shapes, trainable)
