"""A stage's checkpoints: weights, optimiser, schedule and the log's sums, whole or not at all."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from transformers import TrainerState

from mergekit_audio.errors import InputError
from mergekit_audio.files import staged_folder

WEIGHTS_NAME = "model.safetensors"
_PROGRESS_NAME = "log_state.json"


def write_checkpoint(
    target: Path,
    weights: Mapping[str, torch.Tensor],
    states: Mapping[str, Any],
    progress: Mapping[str, Any],
    trainer_state: TrainerState,
) -> None:
    """Write a checkpoint folder under a temporary name and rename it.

    Parameters
    ----------
    target
        ``checkpoint-<step>``.
    weights
        The model's state dict.
    states
        ``optimizer``, ``scheduler`` and, with fp16, ``scaler``: each a file ``<name>.pt``, as
        transformers' Trainer reads them.
    progress
        JSON values of log and guard, read back by ``read_progress``.
    trainer_state
        The Trainer's own counters.

    Raises
    ------
    InputError
        The disk is full or the folder can't be written.
    """
    with staged_folder(target, force=True) as staging:
        tensors = {name: each.contiguous() for name, each in weights.items()}
        _write(staging / WEIGHTS_NAME, safetensors.torch.save(tensors, {"format": "pt"}))
        for name, state in states.items():
            _save(staging / f"{name}.pt", state)
        _write(staging / _PROGRESS_NAME, json.dumps(progress, allow_nan=False).encode())
        trainer_state.save_to_json(str(staging / "trainer_state.json"))


def read_progress(checkpoint: Path) -> Mapping[str, Any]:
    """Return the JSON values of log and guard of a checkpoint.

    Raises
    ------
    InputError
        The file is missing or damaged.
    """
    path = checkpoint / _PROGRESS_NAME
    with explain_damage(path):
        value: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def read_state(checkpoint: Path, name: str) -> dict[str, Any]:
    """Return one of a checkpoint's ``states``, on the CPU.

    Raises
    ------
    InputError
        The file is missing or damaged.
    """
    path = checkpoint / f"{name}.pt"
    with explain_damage(path):
        value: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return value


@contextlib.contextmanager
def explain_damage(path: Path) -> Iterator[None]:
    """Turn what reading a damaged file of a checkpoint raises into an ``InputError``."""
    try:
        yield
    except Exception as error:  # damaged pickles raise whatever their bytes lead to
        raise InputError(
            f"{path}: can't read the checkpoint: {error}", f"delete {path.parent} and run again"
        ) from error


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(content)


def _save(path: Path, value: Any) -> None:
    try:
        with open(path, "wb") as stream:
            torch.save(value, stream)
    except RuntimeError as error:  # torch's own, raised over what the disk said
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
