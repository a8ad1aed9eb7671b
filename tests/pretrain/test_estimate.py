import json

import pytest
import torch
from pretraining import TEACHERS, make_project, make_recipe

from mergekit_audio import pretrain
from mergekit_audio.pretrain import estimate as module
from mergekit_audio.pretrain.estimate import estimate


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("estimate"))


def test_every_stage_is_measured_and_nothing_is_written(root):
    before = sorted(root.rglob("*"))
    state = torch.random.get_rng_state()
    value = estimate(pretrain.plan(make_recipe(), root))
    assert sorted(root.rglob("*")) == before
    assert torch.random.get_rng_state().equal(state)
    json.dumps(value, allow_nan=False)
    assert [stage["name"] for stage in value["stages"]] == ["stabilise", "adapt"]
    for stage, steps in zip(value["stages"], (4, 5), strict=True):
        assert stage["measured_clips"] == 2
        assert stage["hours"] == pytest.approx(stage["seconds_per_step"] * steps / 3600, abs=1e-4)
        speed = 2 * 2 * 0.5 / stage["seconds_per_step"]
        assert stage["audio_seconds_per_second"] == pytest.approx(speed, rel=0.05)
        assert stage["memory_gb"] > 0.05
    assert value["precision"] == "fp32"
    assert any("residual_kmeans is fitted first" in note for note in value["notes"])


def test_disk_by_hand(root):
    plan = pretrain.plan(make_recipe(), root)
    disk = module._disk(plan)
    seconds = 8 * 1.6
    assert disk["samples"] == pytest.approx(seconds * 24_000 * 2)
    assert disk["codes"] == pytest.approx(seconds * 75 * 2 * 2)
    stages = plan.as_dict()["stages"]
    weights = plan.as_dict()["parameters"] * 4
    most = max(stage["trainable_parameters"] for stage in stages) * 4
    assert disk["checkpoints"] == 3 * (weights + 2 * most)
    assert disk["output"] == weights


def test_without_budget_one_clip_is_scaled_and_other_stages_take_its_figures(root):
    plan = pretrain.plan(make_recipe(teachers=[TEACHERS[1]], stages=STAGES), root)
    value = estimate(plan, budget_s=0.0)
    first, second = value["stages"]
    assert (first["measured_clips"], second["measured_clips"]) == (1, 0)
    assert second["seconds_per_step"] == first["seconds_per_step"]
    assert value["notes"] == [
        "stage 'a' was measured with one clip, and scaled",
        "stage 'b' was not measured: the figures of the dearest one before",
    ]


STAGES = [
    {"name": "a", "train": ["front"], "steps": 2, "peak_lr": 1e-3},
    {"name": "b", "train": ["*"], "steps": 2, "peak_lr": 1e-3},
]


def test_a_disk_that_is_too_small_is_a_warning(root, monkeypatch):
    plan = pretrain.plan(make_recipe(teachers=[TEACHERS[1]], stages=STAGES), root)
    monkeypatch.setattr(module, "_GB", 1.0)  # figures in bytes are large, and the disk is full
    full = type("Usage", (), {"free": 10})()
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: full)
    notes = estimate(plan, budget_s=0.0)["notes"]
    assert any(note.startswith("warning: needs up to ") for note in notes)
