"""The pre-training heads of a model: the distribution over codes that its Fisher is taken of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mergekit_audio.errors import InputError
from mergekit_audio.lock import LOCK_NAME
from mergekit_audio.weights.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch
    from torch import nn

HEADS_NAME = "heads.safetensors"
_CODES = "label_embs"
_NO_HEADS_HINT = (
    "set fisher.distribution: gaussian, which needs no heads, for all models of the merge alike; "
    "or measure a model that cmerge trained, which keeps its heads beside its weights"
)


@dataclass(frozen=True)
class CodeHeads:
    """Heads that predict codes.

    Parameters
    ----------
    states
        The tensors of each teacher's head by name.
    temperatures
        τ of each teacher's softmax over cosines.
    files
        The files that this was read from.
    """

    states: Mapping[str, Mapping[str, torch.Tensor]]
    temperatures: Mapping[str, float]
    files: tuple[Path, ...]

    def build(self, device: str) -> list[tuple[nn.Module, float]]:
        """Return each head, its parameters fixed, with its temperature; sorted by teacher."""
        from mergekit_audio.teachers._nce import CodebookHead

        built: list[tuple[nn.Module, float]] = []
        for name, state in sorted(self.states.items()):
            codebooks, rows, final_size = state[_CODES].shape
            hidden_size = state["final_proj.weight"].shape[1]
            head = CodebookHead(hidden_size, codebooks, rows, final_size)
            head.load_state_dict(dict(state), strict=True)
            built.append((head.to(device).requires_grad_(False), self.temperatures[name]))
        return built


def read_heads(checkpoint: Checkpoint, temperature: float | None) -> CodeHeads:
    """Return the heads over codebooks beside a model's weights; other heads (CQT) are left out.

    Parameters
    ----------
    temperature
        τ of all heads; None reads it from the lock of the model's training.

    Raises
    ------
    InputError
        There are no heads over codebooks, they are not what a training wrote, or their temperature
        is not known.
    """
    path = checkpoint.folder / HEADS_NAME
    if not path.is_file():
        raise InputError(f"{checkpoint.folder}: no {HEADS_NAME}, so no labels", _NO_HEADS_HINT)
    stored = Checkpoint.open(str(path.resolve())).state_dict()
    states: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in stored.items():
        teacher, _, parameter = name.partition(".")
        states.setdefault(teacher, {})[parameter] = tensor
    codes = {teacher: state for teacher, state in sorted(states.items()) if _CODES in state}
    if not codes:
        raise InputError(
            f"{path}: none of its heads ({', '.join(sorted(states))}) predicts codes",
            _NO_HEADS_HINT,
        )
    for teacher, state in codes.items():
        _require_shapes(path, teacher, state)
    if temperature is not None:
        return CodeHeads(codes, dict.fromkeys(codes, temperature), (path,))
    lock = checkpoint.folder / LOCK_NAME
    return CodeHeads(codes, _trained_temperatures(lock, list(codes)), (path, lock))


def _require_shapes(path: Path, teacher: str, state: Mapping[str, torch.Tensor]) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wide = shapes.get("final_proj.weight", ())
    codes = shapes[_CODES]
    expected = {"final_proj.weight", "final_proj.bias", _CODES}
    fits = set(shapes) == expected and len(codes) == 3 and len(wide) == 2
    if not fits or wide[0] != codes[0] * codes[2] or shapes["final_proj.bias"] != wide[:1]:
        found = ", ".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items()))
        raise InputError(
            f"{path}: the head of {teacher} is not one over codebooks; expected final_proj.weight "
            f"[K·F, D], final_proj.bias [K·F] and label_embs [K, C, F], found {found}",
            _NO_HEADS_HINT,
        )


def _trained_temperatures(lock: Path, teachers: list[str]) -> dict[str, float]:
    """Return τ of each teacher as the lock of the training tells it."""
    hint = "give it: --set fisher.temperature=0.1 (fairseq's and this package's default)"
    try:
        settings = json.loads(lock.read_text(encoding="utf-8"))["recipe"]["teachers"]
        told = {each["name"]: each.get("logit_temperature") for each in settings}
    except FileNotFoundError:
        raise InputError(f"{lock}: not there, so the heads' temperature is unknown", hint) from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{lock}: does not tell of the training's teachers", hint) from None
    found: dict[str, float] = {}
    for teacher in teachers:
        value = told.get(teacher)
        if not isinstance(value, int | float) or not value > 0:
            raise InputError(f"{lock}: tells no temperature of the teacher {teacher!r}", hint)
        found[teacher] = float(value)
    return found
