"""Probing: the encoder stays as it is, only the head on top of it trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from mergekit_audio.transfers._names import heads_only
from mergekit_audio.transfers.base import Shapes, Transfer

if TYPE_CHECKING:
    from torch import nn


class Probing(Transfer):
    """Freeze the encoder; what trains is the head alone."""

    name: Literal["probing"] = "probing"

    changes_encoder: ClassVar[bool] = False

    def prepare(self, model: nn.Module, trainable: list[str], *, seed: int = 0) -> None:
        """Freeze the encoder; heads that may change train. Nothing is drawn from the seed."""
        from mergekit_audio.transfers._modules import freeze_encoder

        freeze_encoder(model, trainable)

    def trained_sizes(self, shapes: Shapes, trainable: Sequence[str]) -> dict[str, int]:
        """Return the sizes of the heads' parameters."""
        return heads_only(shapes, trainable)
