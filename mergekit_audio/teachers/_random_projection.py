"""Fit the random-projection quantiser on recordings, and give recordings its codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from mergekit_audio.errors import InputError
from mergekit_audio.progress import Progress
from mergekit_audio.teachers._digest import teacher_digest
from mergekit_audio.teachers._fitting import read_fitted, sample_frames, write_fitted
from mergekit_audio.teachers._frames import HOP_LENGTH
from mergekit_audio.teachers._logmel import LogMel
from mergekit_audio.teachers._nce import OpenCodebookTeacher

_TEACHER = "random_projection"
_FRAMES_AT_ONCE = 512
_LEAST_DEVIATION = 1e-6


def fit(
    clips: Iterable[torch.Tensor],
    target: Path,
    features: Mapping[str, Any],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    max_frames: int,
    seed: int,
    progress: Progress,
) -> None:
    """Write ``mean``, ``deviation``, ``projection [K, s M, d]`` and ``codes [K, C, d]``.

    Projections and codes are standard normal and codes of length 1; the projection's scale (Xavier
    in the paper) can't change a code.

    Parameters
    ----------
    clips
        Waveforms at 24 kHz, ``[S]`` each.
    target
        The safetensors file to write; its metadata holds ``features``.
    features
        ``mel_bins``, ``window``, ``stack`` and ``normalisation``.
    shapes
        Of the four tensors.
    max_frames
        Mean and deviation are those of at most so many frames, drawn evenly from all clips.
    seed
        Seed of the frames, the projections and the codes.
    progress
        Told of every clip.

    Raises
    ------
    InputError
        There are no clips, or all their frames are the same.
    """
    frames = sample_frames(
        clips, _log_mel(features), max_frames, seed=seed, teacher=_TEACHER, progress=progress
    )
    axis = 0 if features["normalisation"] == "band" else None
    mean, deviation = np.atleast_1d(frames.mean(axis=axis)), np.atleast_1d(frames.std(axis=axis))
    varies = deviation > _LEAST_DEVIATION
    if not varies.any():
        raise InputError(
            "the recordings' log-mel frames do not vary: random_projection can't normalise them",
            "give recordings that are not silent",
        )
    generator = np.random.default_rng([seed, 2])
    drawn = {name: generator.standard_normal(shapes[name]) for name in ("projection", "codes")}
    drawn["codes"] /= np.linalg.norm(drawn["codes"], axis=-1, keepdims=True)
    # A band that never changes, as above the cut of lossy formats, is 0 after normalisation.
    arrays = {"mean": mean, "deviation": np.where(varies, deviation, 1.0), **drawn}
    tensors = {name: torch.from_numpy(each.astype(np.float32)) for name, each in arrays.items()}
    write_fitted(target, tensors, features)


class OpenRandomProjection(OpenCodebookTeacher):
    """The random-projection quantiser ready to work.

    Parameters
    ----------
    path
        The file that :func:`fit` wrote.
    features
        ``mel_bins``, ``window``, ``stack`` and ``normalisation``.
    shapes
        Of the file's tensors.
    final_size, temperature
        The head's width and the NCE loss's τ.
    device
        Where it computes.

    Raises
    ------
    InputError
        The file is missing, damaged, or was fitted with other settings.
    """

    def __init__(
        self,
        path: Path,
        features: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
        *,
        final_size: int,
        temperature: float,
        device: str,
    ) -> None:
        codebooks, size, _ = shapes["codes"]
        super().__init__(codebooks, size, final_size, temperature)
        tensors = read_fitted(path, features, shapes)
        self.stack = int(features["stack"])
        self.log_mel = _log_mel(features, device)
        placed = {name: tensor.to(device).double() for name, tensor in tensors.items()}
        self.mean, self.deviation = placed["mean"], placed["deviation"]
        self.projection, self.codes = placed["projection"], placed["codes"]
        self.digest = teacher_digest({"teacher": _TEACHER, "features": dict(features)}, tensors)

    @torch.no_grad()
    def targets(self, wave: torch.Tensor) -> torch.Tensor:
        """Return z_tk = argmax_c codes_kc · P_kᵀ x_t, the nearest by cosine, ``[B, T, K]``.

        x_t are the normalised log-mel frames t - (s - 1) // 2 … t + s // 2, one after the other;
        beyond the ends of the waveforms ``[B, S]`` there is silence.
        """
        before, after = (self.stack - 1) // 2, self.stack // 2
        padded = functional.pad(wave, (before * HOP_LENGTH, after * HOP_LENGTH))
        frames = (self.log_mel(padded) - self.mean) / self.deviation
        stacked = frames.unfold(1, self.stack, 1).transpose(-1, -2).flatten(2)
        blocks = [self._nearest(block) for block in torch.split(stacked, _FRAMES_AT_ONCE, dim=1)]
        return torch.cat(blocks, dim=1)

    def _nearest(self, frames: torch.Tensor) -> torch.Tensor:
        pairs = zip(self.projection, self.codes, strict=True)
        chosen = [((frames @ projection) @ codes.T).argmax(dim=-1) for projection, codes in pairs]
        return torch.stack(chosen, dim=-1)


def _log_mel(features: Mapping[str, Any], device: str = "cpu") -> LogMel:
    return LogMel(int(features["mel_bins"]), int(features["window"]), device)
