"""Fit residual k-means on recordings, and give recordings their codes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mergekit_audio.errors import InputError
from mergekit_audio.files import canonical_json, staged_file
from mergekit_audio.progress import Progress, ProgressEvent
from mergekit_audio.teachers._digest import teacher_digest
from mergekit_audio.teachers._kmeans import residual_kmeans
from mergekit_audio.teachers._logmel import LogMel
from mergekit_audio.teachers._nce import OpenCodebookTeacher

_TASK = "fit residual_kmeans"


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
    points = _sample_frames(clips, LogMel(**features), max_frames, seed, progress)
    if len(points) < size:
        raise InputError(
            f"the recordings hold {len(points)} frames (75 a second), "
            f"fewer than the {size} codes of a codebook",
            "give more audio, or a smaller codebook_size",
        )

    def after_codebook(done: int) -> None:
        progress(ProgressEvent(f"{_TASK}: cluster", done, codebooks))

    books = residual_kmeans(
        points, codebooks, size, iterations=iterations, seed=seed, after_codebook=after_codebook
    )
    with staged_file(target) as staging:
        # One entry only: safetensors writes several in no fixed order.
        save_file(
            {"codebooks": torch.from_numpy(books.astype(np.float32))},
            staging,
            metadata={"features": canonical_json(dict(features))},
        )


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
        self.books = _read(path, features, shape).to(device).double()
        self.log_mel = LogMel(**features, device=device)
        self.digest = teacher_digest(
            {"teacher": "residual_kmeans", "features": dict(features)}, {"codebooks": self.books}
        )

    @torch.no_grad()
    def targets(self, wave: torch.Tensor) -> torch.Tensor:
        """Return the codes ``[B, T, K]`` of waveforms ``[B, S]``."""
        residual = self.log_mel(wave)
        codes = []
        for book in self.books:
            distances = book.square().sum(dim=1) - 2.0 * (residual @ book.T)
            chosen = distances.argmin(dim=-1)
            residual = residual - book[chosen]
            codes.append(chosen)
        return torch.stack(codes, dim=-1)


def _sample_frames(
    clips: Iterable[torch.Tensor], log_mel: LogMel, max_frames: int, seed: int, progress: Progress
) -> npt.NDArray[np.float64]:
    """Return ``max_frames`` frames drawn evenly from all clips, in the clips' order."""
    generator = np.random.default_rng([seed, 1])
    kept: list[npt.NDArray[np.float64]] = []
    keys: list[npt.NDArray[np.float64]] = []
    held = 0
    for done, clip in enumerate(clips):
        frames = log_mel(clip.unsqueeze(0))[0].cpu().numpy()
        kept.append(frames)
        keys.append(generator.random(len(frames)))
        held += len(frames)
        if held > 2 * max_frames:
            kept, keys = _keep_smallest(kept, keys, max_frames)
            held = max_frames
        progress(ProgressEvent(f"{_TASK}: listen", done + 1))
    if not kept:
        raise InputError("no recordings to fit residual_kmeans on", "check the corpus")
    if held > max_frames:
        kept, _ = _keep_smallest(kept, keys, max_frames)
    return np.concatenate(kept)


def _keep_smallest(
    kept: list[npt.NDArray[np.float64]], keys: list[npt.NDArray[np.float64]], count: int
) -> tuple[list[npt.NDArray[np.float64]], list[npt.NDArray[np.float64]]]:
    frames, order = np.concatenate(kept), np.concatenate(keys)
    chosen = np.sort(np.argsort(order, kind="stable")[:count])
    return [frames[chosen]], [order[chosen]]


def _read(path: Path, features: Mapping[str, Any], shape: tuple[int, int]) -> torch.Tensor:
    hint = "delete it to fit the teacher anew, or use the settings it was fitted with"
    try:
        with safe_open(path, framework="pt") as file:
            if list(file.keys()) != ["codebooks"]:
                raise InputError(f"{path}: holds {list(file.keys())}, expected ['codebooks']", hint)
            books: torch.Tensor = file.get_tensor("codebooks")
            found = json.loads((file.metadata() or {}).get("features", "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path}: can't read the fitted teacher: {error}", hint) from error
    expected = [*shape, features["mel_bins"]]
    if found != dict(features) or list(books.shape) != expected or books.dtype != torch.float32:
        raise InputError(
            f"{path}: fitted codebooks are {books.dtype} {list(books.shape)} of {found}, "
            f"the recipe asks for torch.float32 {expected} of {dict(features)}",
            hint,
        )
    if not bool(torch.isfinite(books).all()):
        raise InputError(f"{path}: the fitted codebooks hold NaN or infinity", hint)
    return books
