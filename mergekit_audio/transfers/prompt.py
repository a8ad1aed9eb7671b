"""Prompt tuning: trained tokens in front of the frames, once at the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from mergekit_audio.transfers._names import heads_only, layer_prefixes, width
from mergekit_audio.transfers.base import Shapes, Transfer

if TYPE_CHECKING:
    from torch import nn


class Prompt(Transfer):
    """Train P tokens that stand before the frames as they enter the first layer (arXiv 2104.08691).

    The study of music foundation models (Ding and Lerch, section 3.2) says how many; it published
    no code. Here they come behind the position's convolution, which would mix them into the first
    frames, and what becomes of them is left out of the mean over time.
    """

    name: Literal["prompt"] = "prompt"
    tokens: int = Field(default=64, gt=0)
    """P."""
    init_std: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.02
    """Standard deviation of the initial tokens about 0 (the study does not say)."""

    folds: ClassVar[bool] = False

    def prepare(self, model: nn.Module, trainable: list[str], *, seed: int = 0) -> None:
        """Put the tokens before the frames; the encoder is frozen."""
        from mergekit_audio.transfers._modules import freeze_encoder, generator_of
        from mergekit_audio.transfers._prompt import prompt_encoder

        freeze_encoder(model, trainable)
        shapes = {name: tuple(each.shape) for name, each in model.named_parameters()}
        prompt_encoder(
            model, self.tokens, width(shapes), self.init_std, generator_of(seed, "prompt")
        )

    def trained_sizes(self, shapes: Shapes, trainable: Sequence[str]) -> dict[str, int]:
        """Return ``P · D``."""
        encoder = layer_prefixes(list(shapes))[0].rpartition(".layers.")[0]
        added = {f"{encoder}.prompt": self.tokens * width(shapes)}
        return added | heads_only(shapes, trainable)
