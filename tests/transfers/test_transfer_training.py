"""Transfers as the ``transfer`` of continual pre-training: stages, resume, a merge."""

import pytest
import torch
from pretraining import make_project, make_recipe
from pydantic import ValidationError

from mergekit_audio import merge, pretrain
from mergekit_audio.errors import RecipeError
from mergekit_audio.pretrain.estimate import estimate
from mergekit_audio.recipe.merge import MergeRecipe
from mergekit_audio.weights.checkpoint import Checkpoint

ENCODER_STAGES = [
    {"name": "one", "train": ["encoder", "heads.*"], "steps": 3, "peak_lr": 1e-2},
    {"name": "two", "train": ["*"], "steps": 3, "peak_lr": 1e-2},
]
SIX = ("_proj.weight", "intermediate_dense.weight", "output_dense.weight")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("transfers"))


def state(folder):
    return Checkpoint.open(str(folder)).state_dict()


class KilledError(Exception):
    pass


def killed_at(step):
    def tell(event):
        if event.task == "stage two" and event.done == step:
            raise KilledError

    return tell


@pytest.mark.parametrize(
    ("name", "changed_kinds"),
    [("lora", ("weight",)), ("ssf", ("weight", "bias")), ("bitfit", ("bias",))],
)
def test_two_stages_change_only_what_the_transfer_trains(project, name, changed_kinds):
    recipe = make_recipe(stages=ENCODER_STAGES, transfer={"name": name}, output=f"runs/{name}")
    pretrain.run(pretrain.plan(recipe, project))
    base, tuned = state(project / "base"), state(project / "runs" / name)
    assert {n: v.shape for n, v in base.items()} == {n: v.shape for n, v in tuned.items()}
    changed = {n for n in base if not torch.equal(base[n], tuned[n])}
    assert changed
    assert all(n.startswith("encoder.layers.") for n in changed)
    assert {n.rpartition(".")[2] for n in changed} == set(changed_kinds)
    if name == "lora":
        assert all(n.endswith(SIX) for n in changed)
        card = (project / "runs" / name / "README.md").read_text(encoding="utf-8")
        assert "the transfer `lora` (rank 2, alpha 1.0)" in card


def test_a_killed_training_goes_on_bit_for_bit(project):
    whole = make_recipe(stages=ENCODER_STAGES, transfer={"name": "lora"}, output="whole")
    pretrain.run(pretrain.plan(whole, project))
    killed = make_recipe(stages=ENCODER_STAGES, transfer={"name": "lora"}, output="killed")
    with pytest.raises(KilledError):
        pretrain.run(pretrain.plan(killed, project), progress=killed_at(2))
    assert (project / "killed.work").is_dir()
    pretrain.run(pretrain.plan(killed, project))
    for file in ("model.safetensors", "heads.safetensors"):
        assert (project / "whole" / file).read_bytes() == (project / "killed" / file).read_bytes()


def test_results_are_task_vectors_that_merge_takes(project):
    for name in ("lora", "ssf"):
        if not (project / "runs" / name).is_dir():
            recipe = make_recipe(
                stages=ENCODER_STAGES[:1], transfer={"name": name}, output=f"runs/{name}"
            )
            pretrain.run(pretrain.plan(recipe, project))
    recipe = MergeRecipe.model_validate(
        {
            "kind": "merge",
            "base": "base",
            "models": [{"model": "runs/lora"}, {"model": "runs/ssf"}],
            "method": {"name": "task_arithmetic"},
            "scale": 0.5,
            "output": "merged",
        }
    )
    merge.run(merge.plan(recipe, project))
    base, merged = state(project / "base"), state(project / "merged")
    lora, ssf = state(project / "runs/lora"), state(project / "runs/ssf")
    for name in base:
        expected = base[name] + 0.5 * ((lora[name] - base[name]) + (ssf[name] - base[name]))
        torch.testing.assert_close(merged[name], expected, rtol=0, atol=1e-6)


def test_the_plan_counts_what_trains(project):
    recipe = make_recipe(stages=ENCODER_STAGES, transfer={"name": "lora", "rank": 3})
    first, second = pretrain.plan(recipe, project).as_dict()["stages"]
    each_layer = 3 * (4 * (16 + 16) + 2 * (16 + 24))
    assert first["trainable_by_group"]["encoder"] == 2 * each_layer
    assert set(second["trainable_by_group"]) <= {"encoder", "heads.cqt", "heads.residual_kmeans"}


def test_what_a_transfer_costs_can_be_estimated(project):
    recipe = make_recipe(stages=ENCODER_STAGES, transfer={"name": "lora"})
    found = estimate(pretrain.plan(recipe, project), budget_s=0.1)
    assert all(stage["seconds_per_step"] > 0 for stage in found["stages"])


def test_the_plan_tells_of_what_stays_frozen(project):
    stages = [{"train": ["feature_extractor.*", "encoder"], "steps": 2, "peak_lr": 1e-3}]
    planned = pretrain.plan(make_recipe(stages=stages, transfer={"name": "bitfit"}), project)
    assert "stage 'stage1': transfer 'bitfit' freezes feature_extractor.*" in planned.notes


def test_a_stage_without_anything_to_train_is_refused(project):
    stages = [{"train": ["encoder.layer_norm.*"], "steps": 2, "peak_lr": 1e-3}]
    with pytest.raises(RecipeError, match=r"stages\[0\].train: transfer 'lora' freezes all of"):
        pretrain.plan(make_recipe(stages=stages, transfer={"name": "lora"}), project)


@pytest.mark.parametrize("name", ["adapter", "prompt", "prefix", "probing"])
def test_transfers_without_task_vectors_are_refused(name):
    with pytest.raises(ValidationError, match=f"transfer\n.*'{name}' (adds parts|leaves the)"):
        make_recipe(transfer={"name": name})
