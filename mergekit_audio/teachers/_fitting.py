"""What teachers fitted on recordings share: frames drawn evenly by a seed, and their file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mergekit_audio.errors import InputError
from mergekit_audio.files import canonical_json, staged_file
from mergekit_audio.progress import Progress, ProgressEvent
from mergekit_audio.teachers._frames import frame_count

FloatArray = npt.NDArray[np.float64]


class FrameFeatures(Protocol):
    """Features of frames: of all of a clip, or of some."""

    def at(self, wave: torch.Tensor, frames: torch.Tensor | None) -> torch.Tensor:
        """Return features ``[N, M]`` of frames ``[N]`` of a waveform ``[S]``; None means all."""
        ...


def sample_frames(
    clips: Iterable[torch.Tensor],
    features: FrameFeatures,
    max_frames: int,
    *,
    seed: int,
    teacher: str,
    progress: Progress,
) -> FloatArray:
    """Return at most ``max_frames`` frames ``[N, M]`` drawn evenly from all clips, in their order.

    Each frame of each clip gets a random key, and the smallest keys win. Features are computed only
    of frames that can still win, so that of H hours about max_frames · (1 + ln(all / max_frames))
    frames are analysed and the others only counted.

    Parameters
    ----------
    clips
        Waveforms at 24 kHz, ``[S]`` each.
    features
        What a frame becomes.
    seed
        Seed of the keys.
    teacher
        Its name, for messages and progress.
    progress
        Told of every clip.

    Raises
    ------
    InputError
        There are no clips.
    """
    generator = np.random.default_rng([seed, 1])
    kept: list[FloatArray] = []
    keys: list[FloatArray] = []
    held, worst = 0, np.inf
    for done, clip in enumerate(clips):
        drawn = generator.random(frame_count(clip.shape[-1]))
        chosen = np.flatnonzero(drawn <= worst)
        if len(chosen):
            every = len(chosen) == len(drawn)
            places = None if every else torch.from_numpy(chosen)
            kept.append(features.at(clip, places).cpu().numpy())
            keys.append(drawn[chosen])
            held += len(chosen)
        if held > 2 * max_frames:
            kept, keys = _keep_smallest(kept, keys, max_frames)
            held, worst = max_frames, float(keys[0].max())
        progress(ProgressEvent(f"fit {teacher}: listen", done + 1))
    if not kept:
        raise InputError(f"no recordings to fit {teacher} on", "check the corpus")
    if held > max_frames:
        kept, _ = _keep_smallest(kept, keys, max_frames)
    return np.concatenate(kept)


def write_fitted(
    target: Path, tensors: Mapping[str, torch.Tensor], settings: Mapping[str, Any]
) -> None:
    """Write what a teacher fitted, with the settings that it holds for, as safetensors."""
    with staged_file(target) as staging:
        save_file(dict(tensors), staging, metadata={"features": canonical_json(dict(settings))})


def read_fitted(
    path: Path, settings: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]
) -> dict[str, torch.Tensor]:
    """Return the float32 tensors of a fitted teacher.

    Parameters
    ----------
    path
        The file that :func:`write_fitted` wrote.
    settings
        What they must have been fitted with.
    shapes
        Names and shapes that the recipe asks for.

    Raises
    ------
    InputError
        The file is missing, damaged, or was fitted with other settings.
    """
    hint = "delete it to fit the teacher anew, or use the settings it was fitted with"
    try:
        with safe_open(path, framework="pt") as file:
            if sorted(file.keys()) != sorted(shapes):
                raise InputError(
                    f"{path}: holds {sorted(file.keys())}, expected {sorted(shapes)}", hint
                )
            tensors = {name: file.get_tensor(name) for name in sorted(shapes)}
            found = json.loads((file.metadata() or {}).get("features", "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path}: can't read the fitted teacher: {error}", hint) from error
    for name, tensor in tensors.items():
        expected = list(shapes[name])
        same = list(tensor.shape) == expected and tensor.dtype == torch.float32
        if found != dict(settings) or not same:
            raise InputError(
                f"{path}: {name}: fitted {tensor.dtype} {list(tensor.shape)} with {found}, "
                f"the recipe asks for torch.float32 {expected} with {dict(settings)}",
                hint,
            )
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{path}: {name}: holds NaN or infinity", hint)
    return tensors


def _keep_smallest(
    kept: list[FloatArray], keys: list[FloatArray], count: int
) -> tuple[list[FloatArray], list[FloatArray]]:
    frames, order = np.concatenate(kept), np.concatenate(keys)
    chosen = np.sort(np.argsort(order, kind="stable")[:count])
    return [frames[chosen]], [order[chosen]]
