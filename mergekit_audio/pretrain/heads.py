"""Pre-training heads: taken from the base's folder where it has them, or drawn at random."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from mergekit_audio.errors import InputError
from mergekit_audio.pretrain.sampling import HEAD, seed_of
from mergekit_audio.recipe.train import TrainRecipe
from mergekit_audio.teachers.base import OpenTeacher
from mergekit_audio.weights.checkpoint import Checkpoint

HEADS_NAME = "heads.safetensors"
FITTED_FOLDER = "teachers"


def make_heads(
    recipe: TrainRecipe,
    base: Checkpoint | None,
    teachers: Mapping[str, OpenTeacher],
    hidden_size: int,
) -> dict[str, nn.Module]:
    """Return each teacher's head: the base's own where it has one, else random by the seed."""
    stored = stored_heads(recipe, base)
    heads: dict[str, nn.Module] = {}
    for place, (name, teacher) in enumerate(sorted(teachers.items())):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of(HEAD, recipe.seed, place))
            head = teacher.head(hidden_size)
        own = {
            key.removeprefix(f"{name}."): value
            for key, value in stored.items()
            if key.startswith(f"{name}.")
        }
        if own:
            head.load_state_dict(own, strict=True)
        heads[name] = head.float()
    return heads


def require_fitting_heads(
    recipe: TrainRecipe,
    base: Checkpoint | None,
    heads: Mapping[str, Mapping[str, tuple[int, ...]] | None],
) -> list[str]:
    """Return the teachers whose heads the base has, after checking that these fit.

    Parameters
    ----------
    heads
        Shapes of each teacher's head; None where they are not known yet.

    Raises
    ------
    InputError
        A stored head has other tensors or shapes than its teacher asks for; all are listed.
    """
    stored = stored_heads(recipe, base)
    imported, faults = [], []
    for teacher, shapes in heads.items():
        own = {
            name.removeprefix(f"{teacher}."): tuple(value.shape)
            for name, value in stored.items()
            if name.startswith(f"{teacher}.")
        }
        if not own:
            continue
        imported.append(teacher)
        for name in sorted({*own, *(shapes or own)}):
            found, expected = own.get(name), (shapes or own).get(name)
            if found != expected:
                faults.append(f"{teacher}.{name}: found {_text(found)}, expected {_text(expected)}")
    if faults and base is not None:
        raise InputError(
            f"{base.folder / HEADS_NAME}: the heads do not fit the recipe's teachers:\n"
            + "\n".join(f"  {fault}" for fault in faults),
            "give the teachers the settings that the base was trained with, or set heads: random",
        )
    return imported


def stored_heads(recipe: TrainRecipe, base: Checkpoint | None) -> dict[str, torch.Tensor]:
    """Return the head tensors ``<teacher>.<parameter>`` of the base; none when it has no heads."""
    if base is None or recipe.heads == "random" or not (base.folder / HEADS_NAME).is_file():
        return {}
    return Checkpoint.open(str((base.folder / HEADS_NAME).resolve())).state_dict()


def _text(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else str(list(shape))
