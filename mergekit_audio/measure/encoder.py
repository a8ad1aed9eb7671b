"""The encoder that is measured: built once, run on clips, its frames masked as in pre-training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mergekit_audio.backbones.base import Backbone
from mergekit_audio.errors import InputError
from mergekit_audio.recipe.train_arguments import Masking
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.keys import canonical_name

_MASK_VECTOR = "masked_spec_embed"


def build_encoder(backbone: Backbone, checkpoint: Checkpoint, device: str) -> nn.Module:
    """Return the model of a checkpoint in evaluation mode: no dropout, all layers."""
    config = checkpoint.config
    assert config is not None
    model = backbone.build(config, checkpoint.state_dict(), training=False, device=device)
    return model.requires_grad_(False)


def parameters_by_name(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return a model's parameters by canonical tensor name, sorted."""
    named = {canonical_name(name): each for name, each in model.named_parameters()}
    return dict(sorted(named.items()))


def linears_by_weight(module: nn.Module, prefix: str = "") -> dict[str, nn.Linear]:
    """Return the linear layers inside a module by the name of their weight, in its own order.

    Parameters
    ----------
    prefix
        The module's own name in the model, with a dot behind it.
    """
    return {
        f"{prefix}{name}.weight": each
        for name, each in module.named_modules()
        if isinstance(each, nn.Linear)
    }


def device_name() -> str:
    """Return where models are measured: the first CUDA GPU, or the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let torch use so many CPU threads; None leaves it as it is."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def encode(model: Any, wave: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Return the encoder's frames ``[B, T, D]``, the mask vector standing at masked frames.

    Parameters
    ----------
    model
        A ``transformers.HubertModel`` or one with the same parts.
    wave
        Waveforms ``[B, S]``.
    mask
        Masked frames ``[B, T]``; None masks none.
    """
    features = model.feature_extractor(wave)
    hidden = model.feature_projection(features.transpose(1, 2))
    if mask is not None:
        vector = model.masked_spec_embed.to(hidden.dtype)
        hidden = torch.where(mask.unsqueeze(-1), vector, hidden)
    frames: torch.Tensor = model.encoder(hidden)[0]
    return frames


def require_mask_vector(model: nn.Module, source: str) -> None:
    """Raise ``InputError`` when the model has no mask vector."""
    if _MASK_VECTOR not in parameters_by_name(model):
        raise InputError(
            f"{source}: has no mask vector ({_MASK_VECTOR}), so its heads predict no masked frames",
            "set fisher.distribution: gaussian, which masks nothing",
        )


def span_mask(
    frames: int, settings: Masking, generator: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Return the mask ``[T]`` of one clip: spans as in its pre-training, which may overlap.

    max(min_masks, ⌊mask_prob · T / mask_length + u⌋) spans, u uniform in [0, 1), with starts drawn
    without replacement from [0, T − mask_length), as fairseq draws them for HuBERT and MERT.

    Parameters
    ----------
    frames
        T, more than ``mask_length``.
    settings
        The recipe's ``fisher.masking``.
    generator
        The only source of randomness.
    """
    length = settings.mask_length
    spans = int(settings.mask_prob * frames / length + generator.random())
    room = frames - length
    spans = min(max(settings.min_masks, spans), room)
    starts = generator.choice(room, size=spans, replace=False)
    mask = np.zeros(frames, dtype=np.bool_)
    mask[(starts[:, None] + np.arange(length)[None, :]).reshape(-1)] = True
    return mask
