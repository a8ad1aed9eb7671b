"""Fit residual k-means on recordings, and give recordings their codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mergekit_audio.errors import InputError
from mergekit_audio.progress import Progress, ProgressEvent
from mergekit_audio.teachers._digest import teacher_digest
from mergekit_audio.teachers._fitting import read_fitted, sample_frames, write_fitted
from mergekit_audio.teachers._kmeans import nearest, residual_kmeans
from mergekit_audio.teachers._logmel import LogMel
from mergekit_audio.teachers._nce import OpenCodebookTeacher

_TEACHER = "residual_kmeans"


def fit(
    clips: Iterable[torch.Tensor],
    target: Path,
    features: Mapping[str, Any],
    *,
    codebooks: int,
    size: int,
    iterations: int,
    max_frames: int,
    seed: int,
    progress: Progress,
) -> None:
    """Write the codebooks ``[K, C, M]`` of the clips' log-mel frames to ``target``.

    Parameters
    ----------
    clips
        Waveforms at 24 kHz, ``[S]`` each.
    target
        The safetensors file to write; its metadata holds ``features``.
    features
        The settings of :class:`LogMel`.
    codebooks, size, iterations, seed
        As in :func:`residual_kmeans`.
    max_frames
        At most so many frames are clustered, drawn evenly from all clips by the seed.
    progress
        Told of every clip and codebook.

    Raises
    ------
    InputError
        The clips hold fewer different frames than there are codes.
    """
    points = sample_frames(
        clips, LogMel(**features), max_frames, seed=seed, teacher=_TEACHER, progress=progress
    )
    if len(points) < size:
        raise InputError(
            f"the recordings hold {len(points)} frames (75 a second), "
            f"fewer than the {size} codes of a codebook",
            "give more audio, or a smaller codebook_size",
        )

    def after_codebook(done: int) -> None:
        progress(ProgressEvent(f"fit {_TEACHER}: cluster", done, codebooks))

    books = residual_kmeans(
        points, codebooks, size, iterations=iterations, seed=seed, after_codebook=after_codebook
    )
    write_fitted(target, {"codebooks": torch.from_numpy(books.astype(np.float32))}, features)


class OpenResidualKmeans(OpenCodebookTeacher):
    """Residual k-means ready to work.

    Parameters
    ----------
    path
        The file that :func:`fit` wrote.
    features
        The settings of :class:`LogMel`.
    shape
        K and C that the recipe asks for.
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
        shape: tuple[int, int],
        *,
        final_size: int,
        temperature: float,
        device: str,
    ) -> None:
        super().__init__(*shape, final_size, temperature)
        shapes = {"codebooks": [*shape, features["mel_bins"]]}
        self.books = read_fitted(path, features, shapes)["codebooks"].to(device).double()
        self.log_mel = LogMel(**features, device=device)
        self.digest = teacher_digest(
            {"teacher": _TEACHER, "features": dict(features)}, {"codebooks": self.books}
        )

    @torch.no_grad()
    def targets(self, wave: torch.Tensor) -> torch.Tensor:
        """Return the codes ``[B, T, K]`` of waveforms ``[B, S]``."""
        residual = self.log_mel(wave)
        codes = []
        for book in self.books:
            chosen = nearest(residual, book)
            residual = residual - book[chosen]
            codes.append(chosen)
        return torch.stack(codes, dim=-1)
