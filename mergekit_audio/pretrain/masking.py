"""Span masks over frames, as fairseq draws them for HuBERT and MERT."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mergekit_audio.recipe.train_arguments import Masking

BoolArray = npt.NDArray[np.bool_]


def span_masks(
    rows: int, frames: int, settings: Masking, generator: np.random.Generator
) -> BoolArray:
    """Return masks ``[B, T]``, true where the encoder's input is replaced by the mask vector.

    A row gets ``max(min_masks, ⌊mask_prob · T / mask_length + u⌋)`` spans, u uniform in [0, 1),
    with starts drawn without replacement from [0, T - mask_length); spans may overlap. With
    ``same_count`` every row is then trimmed to the least count of the batch by random deletion.

    Parameters
    ----------
    rows
        B, clips of the batch.
    frames
        T, frames of a clip; more than ``mask_length``.
    settings
        The recipe's ``masking``.
    generator
        The only source of randomness.

    References
    ----------
    fairseq ``compute_mask_indices`` (static length, overlaps allowed, ``require_same_masks``).
    """
    if frames <= settings.mask_length:
        raise ValueError(f"{frames} frames can't hold a masked span of {settings.mask_length}")
    masked = [_row(frames, settings, generator) for _ in range(rows)]
    if settings.same_count:
        least = min(len(indices) for indices in masked)
        masked = [
            indices
            if len(indices) == least
            else generator.choice(indices, size=least, replace=False)
            for indices in masked
        ]
    mask = np.zeros((rows, frames), dtype=np.bool_)
    for row, indices in enumerate(masked):
        mask[row, indices] = True
    return mask


def _row(frames: int, settings: Masking, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    length = settings.mask_length
    spans = int(settings.mask_prob * frames / length + generator.random())
    spans = max(settings.min_masks, spans)
    room = frames - length
    if room <= spans:  # as fairseq: let starts run closer to the end when spans are many
        room = min(spans + 1, frames)
        spans = min(spans, room)
    starts = generator.choice(room, size=spans, replace=False)
    indices = np.unique(starts[:, None] + np.arange(length)[None, :])
    return indices[indices < frames]
