"""The diagonal of a model's Fisher information, from its own predictions on unlabelled clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from mergekit_audio.measure.encoder import encode, parameters_by_name, span_mask
from mergekit_audio.measure.sound import MASK, Sound, clip_stream
from mergekit_audio.progress import Progress, ProgressEvent
from mergekit_audio.recipe.measure import FisherSettings

Head = tuple[nn.Module, float]
_LABELS = 4  # what a clip's random stream is for, after those of the clips themselves


def diagonal_fisher(
    model: nn.Module,
    heads: Sequence[Head] | None,
    sound: Sound,
    settings: FisherSettings,
    *,
    frame_count: int,
    seed: int,
    progress: Progress,
) -> dict[str, npt.NDArray[np.float32]]:
    """Return F = E_x E_{y~p(y|x)} [(∂ log p(y|x) / ∂θ)²] of every parameter, by canonical name.

    With heads, y are the codes of all codebooks at the masked frames of a clip x and
    p(y|x) = Π_n Π_k softmax(cos(P_k h_n, E_k) / τ)[y_nk], the distribution that pre-training fits:
    labels are drawn from it, never read. Without heads p(y|x) is a unit Gaussian around the
    encoder's frames h(x), whose Fisher is E_x E_z [(∂ zᵀh(x) / ∂θ)²] with z standard normal: it
    tells how much the representation, all that a probe sees, moves with a parameter.

    Each clip's gradient is squared by itself (squares of a batch's gradient would not do) and
    added up in float64. Parameters that p does not depend on get 0.

    Parameters
    ----------
    model
        The encoder in evaluation mode.
    heads
        Heads with their temperatures; None means the Gaussian.
    sound
        The clips.
    settings
        The recipe's ``fisher``.
    frame_count
        T, frames of a clip.
    seed
        Seed of masks and labels, which are keyed by the clip's place.
    progress
        Told of every clip.

    References
    ----------
    arXiv 2111.09832, section 2; for Gaussian outputs Martens, arXiv 1412.1193.
    """
    parameters = parameters_by_name(model)
    tensors = list(parameters.values())
    device = tensors[0].device
    sums = [torch.zeros_like(each, dtype=torch.float64) for each in tensors]
    model.requires_grad_(True)
    try:
        for index, clip in enumerate(sound.clips):
            progress(ProgressEvent("fisher", index, len(sound.clips)))
            wave = torch.from_numpy(sound.waves([clip])).to(device)
            for gradients in _gradients(
                model, heads, wave, frame_count, settings, tensors, (seed, index)
            ):
                for total, gradient in zip(sums, gradients, strict=True):
                    if gradient is not None:
                        total += gradient.double().square()
    finally:
        model.requires_grad_(False)
    progress(ProgressEvent("fisher", len(sound.clips), len(sound.clips)))
    draws = len(sound.clips) * settings.samples
    return {
        name: (total / draws).float().cpu().numpy()
        for name, total in zip(parameters, sums, strict=True)
    }


def _gradients(
    model: nn.Module,
    heads: Sequence[Head] | None,
    wave: torch.Tensor,
    frame_count: int,
    settings: FisherSettings,
    tensors: Sequence[torch.Tensor],
    key: tuple[int, int],
) -> list[tuple[torch.Tensor | None, ...]]:
    """Return ∂ log p(y|x) / ∂θ of one clip ``[1, S]`` for each draw of y."""
    generator = clip_stream(_LABELS, *key)
    if heads is None:
        frames = encode(model, wave)
        scores = [(frames * _normal(frames, generator)).sum() for _ in range(settings.samples)]
    else:
        mask = span_mask(frame_count, settings.masking, clip_stream(MASK, *key))
        chosen = torch.from_numpy(mask).to(wave.device)
        frames = encode(model, wave, chosen.unsqueeze(0))[0][chosen]
        logs = [(head(frames) / temperature).log_softmax(dim=-1) for head, temperature in heads]
        scores = [
            torch.stack([_drawn(each, generator) for each in logs]).sum()
            for _ in range(settings.samples)
        ]
    last = len(scores) - 1
    return [
        torch.autograd.grad(score, tensors, retain_graph=i < last, allow_unused=True)
        for i, score in enumerate(scores)
    ]


def _drawn(logs: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Return Σ log p of codes drawn from log p ``[K, N, C]``, by their distribution function."""
    cumulative = logs.detach().double().exp().cumsum(dim=-1)
    levels = torch.from_numpy(generator.random(tuple(logs.shape[:-1]))).to(logs.device)
    levels = levels.unsqueeze(-1) * cumulative[..., -1:]
    codes = (cumulative <= levels).sum(dim=-1, keepdim=True).clamp(max=logs.shape[-1] - 1)
    return logs.gather(-1, codes).sum()


def _normal(frames: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    values = generator.standard_normal(tuple(frames.shape)).astype(np.float32)
    return torch.from_numpy(values).to(frames.device)
