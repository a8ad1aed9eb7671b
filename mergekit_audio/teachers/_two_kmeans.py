"""Fit k-means of log-mel and of chroma frames on recordings, and give recordings their codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mergekit_audio.errors import InputError
from mergekit_audio.progress import Progress, ProgressEvent
from mergekit_audio.teachers._chroma import Chroma
from mergekit_audio.teachers._digest import teacher_digest
from mergekit_audio.teachers._fitting import read_fitted, sample_frames, write_fitted
from mergekit_audio.teachers._kmeans import nearest, residual_kmeans
from mergekit_audio.teachers._logmel import LogMel
from mergekit_audio.teachers._nce import CodebookHead, OpenCodebookTeacher

_TEACHER = "kmeans"


def fit(
    clips: Iterable[torch.Tensor],
    target: Path,
    features: Mapping[str, int],
    *,
    codes: tuple[int, int],
    iterations: int,
    max_frames: int,
    seed: int,
    progress: Progress,
) -> None:
    """Write the means ``mel [C1, M1]`` and ``chroma [C2, M2]`` of the clips' frames to ``target``.

    Parameters
    ----------
    clips
        Waveforms at 24 kHz, ``[S]`` each.
    target
        The safetensors file to write; its metadata holds ``features``.
    features
        ``mel_bins``, ``mel_window``, ``chroma_bins``, ``chroma_window``.
    codes
        C1 and C2.
    iterations, seed
        As in :func:`residual_kmeans`.
    max_frames
        At most so many frames are clustered, drawn evenly from all clips by the seed.
    progress
        Told of every clip and of each k-means.

    Raises
    ------
    InputError
        The clips hold fewer different frames than there are codes.
    """
    points = sample_frames(
        clips, _Both(features), max_frames, seed=seed, teacher=_TEACHER, progress=progress
    )
    if len(points) < max(codes):
        raise InputError(
            f"the recordings hold {len(points)} frames (75 a second), "
            f"fewer than the {max(codes)} codes of kmeans",
            "give more audio, or fewer mel_codes and chroma_codes",
        )
    means: dict[str, torch.Tensor] = {}
    split = np.split(points, [features["mel_bins"]], axis=1)
    for name, size, part in zip(("mel", "chroma"), codes, split, strict=True):
        fitted = residual_kmeans(
            np.ascontiguousarray(part),
            1,
            size,
            iterations=iterations,
            seed=seed,
            after_codebook=lambda _: None,
        )
        means[name] = torch.from_numpy(fitted[0].astype(np.float32))
        progress(ProgressEvent(f"fit {_TEACHER}: cluster", len(means), 2))
    write_fitted(target, means, features)


class OpenKmeans(OpenCodebookTeacher):
    """The two k-means ready to work.

    Parameters
    ----------
    path
        The file that :func:`fit` wrote.
    features
        ``mel_bins``, ``mel_window``, ``chroma_bins``, ``chroma_window``.
    codes
        C1 and C2 that the recipe asks for.
    pairs
        One code a frame, mel · C2 + chroma, instead of the two.
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
        features: Mapping[str, int],
        codes: tuple[int, int],
        *,
        pairs: bool,
        final_size: int,
        temperature: float,
        device: str,
    ) -> None:
        rows = codes[0] * codes[1] if pairs else max(codes)
        super().__init__(1 if pairs else 2, rows, final_size, temperature)
        shapes = {
            "chroma": [codes[1], features["chroma_bins"]],
            "mel": [codes[0], features["mel_bins"]],
        }
        means = read_fitted(path, features, shapes)
        self.codes = codes
        self.pairs = pairs
        self.mel_means = means["mel"].to(device).double()
        self.chroma_means = means["chroma"].to(device).double()
        self.features = _Both(features, device)
        self.digest = teacher_digest(
            {"teacher": _TEACHER, "features": dict(features), "pairs": pairs}, means
        )

    @torch.no_grad()
    def targets(self, wave: torch.Tensor) -> torch.Tensor:
        """Return the codes of waveforms ``[B, S]``: ``[B, T, 2]``, or ``[B, T, 1]`` of pairs."""
        mel = nearest(self.features.log_mel(wave), self.mel_means)
        chroma = nearest(self.features.chroma(wave), self.chroma_means)
        if self.pairs:
            return (mel * self.codes[1] + chroma).unsqueeze(-1)
        return torch.stack([mel, chroma], dim=-1)

    def head(self, hidden_size: int) -> nn.Module:
        """Return a new head with ``final_proj.weight``, ``final_proj.bias``, ``label_embs``.

        Codebooks of different sizes share ``label_embs [2, C, F]``; C is the larger size, and the
        rows that the smaller one lacks never count.
        """
        if self.pairs or self.codes[0] == self.codes[1]:
            return super().head(hidden_size)
        return _UnequalHead(hidden_size, self.codes, self.final_size)


class _UnequalHead(CodebookHead):
    """A head of codebooks of different sizes: cosines with rows beyond a size are -∞."""

    def __init__(self, hidden_size: int, sizes: tuple[int, ...], final_size: int) -> None:
        super().__init__(hidden_size, len(sizes), max(sizes), final_size)
        absent = torch.arange(max(sizes)) >= torch.tensor(sizes)[:, None]
        self.register_buffer("absent", absent[:, None], persistent=False)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the cosines ``[K, N, C]`` of frames ``[N, D]`` with every code, in float32."""
        absent: torch.Tensor = self.get_buffer("absent")
        return super().forward(frames).masked_fill(absent, -torch.inf)


class _Both:
    """Log-mel and chroma frames side by side, ``[N, M1 + M2]``."""

    def __init__(self, features: Mapping[str, int], device: str = "cpu") -> None:
        self.log_mel = LogMel(features["mel_bins"], features["mel_window"], device)
        self.chroma = Chroma(features["chroma_bins"], features["chroma_window"], device)

    def at(self, wave: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        """Return the features of frames ``[N]`` of a waveform ``[S]``; None means all."""
        return torch.cat([self.log_mel.at(wave, frames), self.chroma.at(wave, frames)], dim=-1)
