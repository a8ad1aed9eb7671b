"""Frames at the backbone's rate: how many there are, and where windows centred on them lie."""

from __future__ import annotations

import torch

from mergekit_audio.errors import InputError

SAMPLE_RATE_HZ = 24_000
HOP_LENGTH = 320
RECEPTIVE_FIELD = 400


def frame_count(samples: int) -> int:
    """Return T = 1 + (S - 400) // 320, the frames of MERT's convolutional front.

    Raises
    ------
    InputError
        The clip is shorter than one frame.
    """
    if samples < RECEPTIVE_FIELD:
        raise InputError(
            f"a clip of {samples} samples is shorter than one frame ({RECEPTIVE_FIELD} samples)",
            "leave out clips that are too short",
        )
    return 1 + (samples - RECEPTIVE_FIELD) // HOP_LENGTH


def centred_windows(wave: torch.Tensor, window: int) -> torch.Tensor:
    """Return the samples around the middle of each frame's receptive field, zeros beyond the ends.

    Frame t of the backbone sees samples 320t … 320t + 399; its window is centred on 320t + 200.

    Parameters
    ----------
    wave
        Waveforms at 24 kHz, shape ``[B, S]``.
    window
        Samples of a window, even.

    Returns
    -------
    torch.Tensor
        A view of shape ``[B, T, window]``.
    """
    frames = frame_count(wave.shape[-1])
    before = window // 2 - RECEPTIVE_FIELD // 2
    after = (frames - 1) * HOP_LENGTH + window - before - wave.shape[-1]
    padded = torch.nn.functional.pad(wave, (max(before, 0), max(after, 0)))
    start = max(-before, 0)
    return padded[..., start:].unfold(-1, window, HOP_LENGTH)[..., :frames, :]
