"""A model with pre-training heads, and its task vectors by the names of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from mergekit_audio.errors import InputError
from mergekit_audio.pretrain.heads import HEADS_NAME, heads_file
from mergekit_audio.pretrain.objective import PretrainModel, public_names
from mergekit_audio.recipe.train import TrainRecipe
from mergekit_audio.teachers.base import OpenTeacher
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.keys import canonical_name

HEADS = "heads."


def compose(
    recipe: TrainRecipe,
    models: Mapping[str, Checkpoint],
    cultures: Mapping[str, tuple[Checkpoint, float]],
    teachers: Mapping[str, OpenTeacher],
    device: str,
) -> tuple[PretrainModel, dict[str, dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Return the model, and weighted task vectors and base values by its parameters' names.

    Raises
    ------
    InputError
        Neither the base nor all cultures have a head in one shape.
    """
    base = models["base"]
    config = base.config
    assert config is not None
    state = base.state_dict()
    backbone = recipe.backbone.build(config, state, training=False, device=device)
    heads = {
        name: teacher.head(int(config["hidden_size"])).float() for name, teacher in teachers.items()
    }
    model = PretrainModel(backbone, heads, teachers, feature_grad_mult=1.0).to(device).eval()
    names = public_names(model)
    values = {name: _named_values(each) for name, each in models.items()}
    base_values, vectors = {}, {name: dict[str, torch.Tensor]() for name in cultures}
    for own, public in names.items():
        start = _start(public, values, cultures)
        base_values[own] = start
        for name, (_, weight) in cultures.items():
            tuned = values[name].get(public)
            if public in values["base"] and tuned is not None and tuned.shape == start.shape:
                vectors[name][own] = weight * (tuned.float() - start)
    return model, vectors, base_values


def _start(
    public: str,
    values: Mapping[str, Mapping[str, torch.Tensor]],
    cultures: Mapping[str, Any],
) -> torch.Tensor:
    """Return a parameter of the base, or the mean of the cultures' where it has none (heads)."""
    if public in values["base"]:
        return values["base"][public].float()
    held = [values[name][public].float() for name in cultures if public in values[name]]
    if not held or any(each.shape != held[0].shape for each in held):
        raise InputError(
            f"{public}: neither the base nor all cultures have it in one shape",
            "label_free needs pre-training heads of the same teachers in all models",
        )
    return torch.stack(held).mean(dim=0)


def _named_values(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Return backbone tensors, and heads as ``heads.<teacher>.<parameter>``."""
    found = {canonical_name(name): each for name, each in checkpoint.state_dict().items()}
    path = heads_file(checkpoint)
    if path is not None and path.name == HEADS_NAME:
        heads = Checkpoint.open(str(path.resolve())).state_dict()
        found |= {f"{HEADS}{name}": each for name, each in heads.items()}
    return found
