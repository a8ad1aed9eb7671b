"""Prefix tuning: trained keys and values in every layer's attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mergekit_audio.transfers._names import heads_only, layer_prefixes, width
from mergekit_audio.transfers.base import Shapes, Transfer

if TYPE_CHECKING:
    from torch import nn


class Prefix(Transfer):
    """Train P keys and values before those of the frames, made by a small MLP in each layer.

    After arXiv 2101.00190, as the study of music foundation models has it (Ding and Lerch, section
    3.2). Its Table 1 says 32 tokens; its Table 3 counts MERT's with 64, which is the default here.
    """

    name: Literal["prefix"] = "prefix"
    tokens: int = Field(default=64, gt=0)
    """P, the keys and values before the frames'."""
    bottleneck: int = Field(default=512, gt=0)
    """Width of the MLP that makes them."""

    folds: ClassVar[bool] = False

    def prepare(self, model: nn.Module, trainable: list[str], *, seed: int = 0) -> None:
        """Give every layer its prefix; the encoder is frozen."""
        from mergekit_audio.transfers._modules import freeze_encoder, generator_of
        from mergekit_audio.transfers._prefix import prefix_layers

        freeze_encoder(model, trainable)
        names = layer_prefixes([name for name, _ in model.named_parameters()])
        generators = [generator_of(seed, name) for name in names]
        prefix_layers(model, self.tokens, self.bottleneck, generators)

    def trained_sizes(self, shapes: Shapes, trainable: Sequence[str]) -> dict[str, int]:
        """Return ``P · D + (D + 1) · m + (m + 1) · 2 D`` for each layer."""
        d, m = width(shapes), self.bottleneck
        size = self.tokens * d + (d + 1) * m + (m + 1) * 2 * d
        added = {f"{layer}.prefix": size for layer in layer_prefixes(list(shapes))}
        return added | heads_only(shapes, trainable)
