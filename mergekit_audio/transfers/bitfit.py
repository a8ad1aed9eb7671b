"""BitFit: only the biases of the encoder's layers train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mergekit_audio.transfers._names import heads_only, is_layer_linear, is_layer_norm
from mergekit_audio.transfers.base import Shapes, Transfer

if TYPE_CHECKING:
    from torch import nn


class Bitfit(Transfer):
    """Train the biases of a layer's six linear maps and two layer norms (arXiv 2106.10199)."""

    name: Literal["bitfit"] = "bitfit"

    def prepare(self, model: nn.Module, trainable: list[str], *, seed: int = 0) -> None:
        """Let the layers' biases that may change train; the rest is frozen."""
        from mergekit_audio.transfers._modules import freeze_encoder, train_named

        freeze_encoder(model, trainable)
        train_named(model, filter(_is_trained, trainable))

    def trained_sizes(self, shapes: Shapes, trainable: Sequence[str]) -> dict[str, int]:
        """Return the length of each bias."""
        biases = {name: shapes[name][0] for name in trainable if _is_trained(name)}
        return biases | heads_only(shapes, trainable)


def _is_trained(name: str) -> bool:
    return is_layer_linear(name, "bias") or is_layer_norm(name, "bias")
