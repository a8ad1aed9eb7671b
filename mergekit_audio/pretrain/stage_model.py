"""The model of a stage: built from the base or the stage before, and what of it trains."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from mergekit_audio.pretrain.groups import group_of
from mergekit_audio.pretrain.heads import make_heads
from mergekit_audio.pretrain.objective import (
    PretrainModel,
    device_name,
    prepare_layers,
    public_names,
)
from mergekit_audio.pretrain.parameters import require_matches, trainable_names
from mergekit_audio.pretrain.planner import TrainPlan
from mergekit_audio.pretrain.sampling import TRANSFER, seed_of
from mergekit_audio.pretrain.work import Work
from mergekit_audio.recipe.train import PresetBase, Stage
from mergekit_audio.teachers.base import OpenTeacher
from mergekit_audio.weights.checkpoint import Checkpoint


def build_model(
    plan: TrainPlan, index: int, work: Work, teachers: Mapping[str, OpenTeacher]
) -> PretrainModel:
    """Return the model as it enters a stage, on the device that trains."""
    recipe, device = plan.recipe, device_name()
    heads = make_heads(recipe, plan.base, teachers, int(plan.config["hidden_size"]))
    state: Mapping[str, torch.Tensor] | None = None
    if index > 0:
        before = work.stage(index - 1, recipe.stages[index - 1].name).finished
        state = Checkpoint.open(str((before / "model.safetensors").resolve())).state_dict()
        stored = Checkpoint.open(str((before / "heads.safetensors").resolve())).state_dict()
        nn.ModuleDict(heads).load_state_dict(stored, strict=True)
    elif plan.base is not None:
        state = plan.base.state_dict()
    else:
        assert isinstance(recipe.base, PresetBase)
    backbone = recipe.backbone.build(
        plan.config, state, training=True, device=device, seed=recipe.seed
    )
    model = PretrainModel(
        backbone,
        heads,
        teachers,
        feature_grad_mult=recipe.arguments.feature_grad_mult,
        eval_when_frozen=recipe.stages[index].frozen_mode == "eval",
    )
    prepare_layers(
        model,
        checkpointing=recipe.arguments.gradient_checkpointing,
        compiling=recipe.arguments.torch_compile,
    )
    return model.to(device)


def choose_parameters(
    plan: TrainPlan, index: int, stage: Stage, model: PretrainModel
) -> dict[str, str]:
    """Set what trains, and return the group of each of these parameters by the model's names."""
    names = public_names(model)
    require_matches(plan.recipe, names.values())
    chosen = set(trainable_names(plan.recipe, stage, names.values()))
    trainable = [own for own, public in names.items() if public in chosen]
    seed = seed_of(TRANSFER, plan.recipe.seed, index)
    plan.recipe.transfer.prepare(model, trainable, seed=seed)
    trained = {own for own, each in model.named_parameters() if each.requires_grad}
    names = public_names(model)  # a transfer may have added some
    return {own: group_of(plan.recipe, name) for own, name in names.items() if own in trained}
