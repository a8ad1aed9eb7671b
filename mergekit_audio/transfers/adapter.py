"""Adapters: small bottlenecks after attention and feed-forward part of every layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mergekit_audio.transfers._names import heads_only, is_layer_norm, layer_prefixes, width
from mergekit_audio.transfers.base import Shapes, Transfer

if TYPE_CHECKING:
    from torch import nn


class Adapter(Transfer):
    """Train ``x + U gelu(D x + d) + u`` after both residual sums, and both layer norms.

    After Houlsby and others (arXiv 1902.00751), as the study of music foundation models has it
    (Ding and Lerch, section 3.1). It adds layers, so that its result is no plain checkpoint.
    """

    name: Literal["adapter"] = "adapter"
    bottleneck: int = Field(default=16, gt=0)
    """b, the width of a bottleneck."""
    layer_norms: bool = True
    """Whether the two layer norms of each layer train too."""

    folds: ClassVar[bool] = False

    def prepare(self, model: nn.Module, trainable: list[str], *, seed: int = 0) -> None:
        """Put two bottlenecks into every layer; layer norms that may change train too."""
        from mergekit_audio.transfers._adapter import adapt_layers
        from mergekit_audio.transfers._modules import freeze_encoder, generator_of, train_named

        freeze_encoder(model, trainable)
        if self.layer_norms:
            train_named(model, filter(is_layer_norm, trainable))
        names = layer_prefixes([name for name, _ in model.named_parameters()])
        adapt_layers(model, self.bottleneck, [generator_of(seed, name) for name in names])

    def trained_sizes(self, shapes: Shapes, trainable: Sequence[str]) -> dict[str, int]:
        """Return ``2 · (2 · b · D + b + D)`` for each layer, and the layer norms' sizes."""
        size = 2 * (2 * self.bottleneck * width(shapes) + self.bottleneck + width(shapes))
        added = {f"{layer}.adapters": size for layer in layer_prefixes(list(shapes))}
        norms = {
            name: math.prod(shapes[name])
            for name in trainable
            if self.layer_norms and is_layer_norm(name)
        }
        return added | norms | heads_only(shapes, trainable)
