"""Pre-training heads: taken from the base where it has them, or drawn and warmed up first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import nn

from mergekit_audio.errors import InputError
from mergekit_audio.pretrain.sampling import HEAD, seed_of
from mergekit_audio.recipe.train import HEADS_WARMUP, Stage, TrainRecipe
from mergekit_audio.teachers.base import OpenTeacher
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.fairseq import SPECIAL_ROWS, FairseqShard, fairseq_file_of, special_rows

HEADS_NAME = "heads.safetensors"
FITTED_FOLDER = "teachers"

_WARMUP_STEPS, _WARMUP_LR, _WARMUP_RATIO = 1000, 1e-3, 0.1
_TABLE, _SPECIAL = "label_embs", "special_rows"
_Shapes = Mapping[str, Mapping[str, tuple[int, ...]] | None]


def make_heads(
    recipe: TrainRecipe,
    base: Checkpoint | None,
    teachers: Mapping[str, OpenTeacher],
    hidden_size: int,
) -> dict[str, nn.Module]:
    """Return each teacher's head: the base's own where it has one, else random by the seed.

    Raises
    ------
    InputError
        A stored head does not fit its teacher, which had to be fitted before this was known.
    """
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
            shapes = {key: tuple(each.shape) for key, each in head.state_dict().items()}
            _require_same(recipe, base, stored, {name: shapes})
            head.load_state_dict(own, strict=True)
        heads[name] = head.float()
    return heads


def require_fitting_heads(
    recipe: TrainRecipe,
    base: Checkpoint | None,
    heads: _Shapes,
) -> list[str]:
    """Return the teachers whose heads the base has, after checking that these fit.

    Parameters
    ----------
    heads
        Shapes of each teacher's head; None where they are not known yet.

    Raises
    ------
    InputError
        A stored head has other tensors or shapes than its teacher asks for (all are listed), or
        the recipe says ``heads: import`` and the base lacks a teacher's head.
    """
    stored = stored_heads(recipe, base)
    imported = [
        teacher for teacher in heads if any(name.startswith(f"{teacher}.") for name in stored)
    ]
    _require_same(recipe, base, stored, {teacher: heads[teacher] for teacher in imported})
    absent = [teacher for teacher in heads if teacher not in imported]
    if absent and recipe.heads == "import":
        place = None if base is None else heads_file(base)
        where = f"{recipe.base} has no {HEADS_NAME}" if place is None else f"{place} has no such"
        raise InputError(
            f"heads: import asks for the head of {', '.join(absent)}, and {where}",
            "take the model's fairseq file as the base, as in MERT-v1-95M_fairseq.pt, or put it "
            "into the base's folder; or set heads: warmup",
        )
    return imported


def with_warmup(recipe: TrainRecipe) -> TrainRecipe:
    """Return the recipe with the stage that ``heads: warmup`` asks for before the others.

    It hears what the first stage hears, trains all heads and nothing else.
    """
    if recipe.heads != "warmup":
        return recipe
    first = recipe.stages[0]
    stage = Stage(
        name=HEADS_WARMUP,
        train=["heads.*"],
        steps=recipe.heads_warmup_steps or _WARMUP_STEPS,
        peak_lr=recipe.heads_warmup_lr or _WARMUP_LR,
        warmup_ratio=_WARMUP_RATIO,
        mixture=first.mixture,
        balance=first.balance,
        replay_share=first.replay_share,
        frozen_mode="eval",
    )
    return recipe.model_copy(update={"stages": [stage, *recipe.stages]})


def with_special_rows(
    recipe: TrainRecipe, base: Checkpoint | None, heads: _Shapes
) -> tuple[TrainRecipe, dict[str, Mapping[str, tuple[int, ...]] | None]]:
    """Set a teacher's ``special_rows`` by the rows of the base's own head, unless the recipe does.

    A codebook of fairseq has 4 rows before that of code 0 (1,028 rows for 1,024 codes).

    Parameters
    ----------
    heads
        Shapes of each teacher's head under the recipe's settings; None where they are not known.

    Returns
    -------
    tuple
        The recipe, and the shapes under its settings.
    """
    stored, shapes, teachers = stored_heads(recipe, base), dict(heads), []
    for teacher in recipe.teachers:
        table = stored.get(f"{teacher.name}.{_TABLE}")
        own = dict(shapes.get(teacher.name) or {})
        open_choice = hasattr(teacher, _SPECIAL) and _SPECIAL not in teacher.model_fields_set
        if table is not None and open_choice and _TABLE in own:
            codebooks, codes, final_size = own[_TABLE]
            before = special_rows(int(table.shape[1]), codes)
            if before:
                teacher = teacher.model_copy(update={_SPECIAL: before})
                shapes[teacher.name] = own | {_TABLE: (codebooks, codes + before, final_size)}
        teachers.append(teacher)
    return recipe.model_copy(update={"teachers": teachers}), shapes


def row_notes(written: TrainRecipe, recipe: TrainRecipe) -> Iterator[str]:
    """Tell of the ``special_rows`` that the base's heads decided."""
    for before, after in zip(written.teachers, recipe.teachers, strict=True):
        if before != after:
            yield (
                f"{after.name}: the base's heads have rows before code 0: {_SPECIAL} is "
                f"{getattr(after, _SPECIAL)}"
            )


def heads_file(base: Checkpoint) -> Path | None:
    """Return where a base's heads are: in its fairseq file, or beside its weights; or None."""
    if base.fairseq is not None:
        return base.fairseq.path
    own = base.folder / HEADS_NAME
    return own if own.is_file() else fairseq_file_of(base.folder)


def stored_heads(recipe: TrainRecipe, base: Checkpoint | None) -> dict[str, torch.Tensor]:
    """Return the head tensors ``<teacher>.<parameter>`` of the base; none when it has no heads."""
    path = None if base is None or recipe.heads == "random" else heads_file(base)
    if base is None or path is None:
        return {}
    if path.name == HEADS_NAME:
        return Checkpoint.open(str(path.resolve())).state_dict()
    shard = FairseqShard(path) if base.fairseq is None else base.fairseq
    return {name: torch.from_numpy(value) for name, value in shard.heads().items()}


def _require_same(
    recipe: TrainRecipe, base: Checkpoint | None, stored: Mapping[str, torch.Tensor], heads: _Shapes
) -> None:
    """Refuse stored heads with other tensors or shapes than their teachers ask for, where known."""
    faults = []
    for teacher, shapes in heads.items():
        own = {
            name.removeprefix(f"{teacher}."): tuple(value.shape)
            for name, value in stored.items()
            if name.startswith(f"{teacher}.")
        }
        for name in sorted({*own, *(shapes or own)}):
            found, expected = own.get(name), (shapes or own).get(name)
            if found != expected:
                faults.append(f"{teacher}.{name}: found {_text(found)}, expected {_text(expected)}")
    if faults:
        place = recipe.base if base is None else heads_file(base)
        raise InputError(
            f"{place}: the heads do not fit the recipe's teachers:\n"
            + "\n".join(f"  {fault}" for fault in faults),
            _hint(recipe, stored, heads),
        )


def _hint(recipe: TrainRecipe, stored: Mapping[str, torch.Tensor], heads: _Shapes) -> str:
    """Say which setting the rows tell of, where they do."""
    for teacher in recipe.teachers:
        found = stored.get(f"{teacher.name}.{_TABLE}")
        asked = (heads.get(teacher.name) or {}).get(_TABLE)
        if found is None or asked is None or found.ndim != 3 or not hasattr(teacher, _SPECIAL):
            continue
        if abs(int(found.shape[1]) - asked[1]) == SPECIAL_ROWS:
            return (
                f"leave {_SPECIAL} out of the teacher {teacher.name}: its rows differ by the "
                f"{SPECIAL_ROWS} of fairseq's dictionaries, and the base's heads decide it"
            )
    return "give the teachers the settings that the base was trained with, or set heads: random"


def _text(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else str(list(shape))
