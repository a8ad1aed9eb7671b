"""The shipped trainings: the paper's hours and steps, a file for each GPU, ours marked as ours."""

import pytest

from mergekit_audio.recipe.load import load
from mergekit_audio.recipe.shipped import shipped_recipe

HOURS = {
    "makam": (60, 200),
    "hindustani": (60, 200),
    "carnatic": (60, 200),
    "lyra": (20, 50),
    "multi": (100, 650),
}
STEPS = {60: 1350, 200: 4500, 20: 450, 50: 1125, 100: 2250, 650: 14625}
DEVICES = {"12gb": ("fp16", 4, 8), "24gb": ("bf16", 16, 2), "80gb": ("bf16", 32, 1)}
# Printed nowhere that we could read: each line must say that the value is ours.
UNKNOWN = ("peak_lr:", "min_lr:", "adam_beta1:", "noise:", "frozen_mode:")


def path_of(culture, device):
    return shipped_recipe(f"train/{culture}_{device}")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("culture", HOURS)
def test_steps_are_the_papers_and_160_s_each_make_the_hours(culture, device):
    recipe = load(path_of(culture, device)).recipe
    arguments = recipe.arguments
    clips = arguments.batch_size * arguments.gradient_accumulation_steps
    assert (clips, clips * arguments.crop_s) == (32, 160.0)
    for stage, hours in zip(recipe.stages, HOURS[culture], strict=True):
        assert stage.steps == STEPS[hours]
        assert stage.steps * clips * arguments.crop_s / 3600 == hours


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("culture", HOURS)
def test_stage_1_replays_a_fifth_and_its_hours_are_the_papers(culture, device):
    first, last = load(path_of(culture, device)).recipe.stages
    assert (first.replay_share, last.replay_share) == (0.2, 0.0)
    assert (first.warmup_ratio, last.warmup_ratio) == (0.1, 0.01)
    own = sum(entry.hours for entry in first.mixture)
    assert own / (1 - first.replay_share) == pytest.approx(HOURS[culture][0])
    assert first.train == ["front", "heads.encodec.*", "heads.cqt.*"]
    assert last.train == ["*"]
    assert last.mixture == []


@pytest.mark.parametrize("culture", HOURS)
def test_the_files_of_a_culture_differ_in_what_a_gpu_decides(culture):
    recipes = {name: load(path_of(culture, name)).recipe for name in DEVICES}
    for name, (precision, batch_size, accumulation) in DEVICES.items():
        arguments = recipes[name].arguments
        assert arguments.precision == precision
        assert arguments.batch_size == batch_size
        assert arguments.gradient_accumulation_steps == accumulation
    decided = {"precision", "batch_size", "gradient_accumulation_steps"}
    for recipe in recipes.values():
        same = recipe.model_dump(exclude={"arguments": decided})
        assert same == recipes["12gb"].model_dump(exclude={"arguments": decided})


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("culture", HOURS)
def test_what_the_paper_does_not_say_is_marked_as_ours(culture, device):
    lines = path_of(culture, device).read_text(encoding="utf-8").splitlines()
    for key in UNKNOWN:
        found = [line for line in lines if line.strip().startswith(key)]
        assert found
        assert all("[ours]" in line for line in found)


def test_the_recipes_from_random_weights_have_merts_settings():
    base = load(shipped_recipe("train/scratch_95m")).recipe
    large = load(shipped_recipe("train/scratch_330m")).recipe
    for recipe, samples, size in ((base, 120_000, 64), (large, 122_880, 128)):
        arguments = recipe.arguments
        assert arguments.crop_s * 24_000 == pytest.approx(samples)
        assert recipe.teachers[0].final_size == size
        (stage,) = recipe.stages
        assert (stage.steps, stage.warmup_steps) == (400_000, 32_000)
    assert (base.stages[0].peak_lr, large.stages[0].peak_lr) == (5e-4, 1.5e-3)
    assert (base.arguments.max_grad_norm, large.arguments.max_grad_norm) == (10.0, 1.0)
    assert (base.arguments.feature_grad_mult, large.arguments.feature_grad_mult) == (0.1, 1.0)
    assert large.arguments.noise.max_length_s == 1.5


def test_the_shipped_ablation_derives_from_the_shipped_training():
    recipe = load(shipped_recipe("ablation/culturemert")).recipe
    trained = load(shipped_recipe(f"train/{recipe.train.removesuffix('.yaml')}"), recipe.changes)
    assert len(trained.recipe.stages) == 2
    assert trained.recipe.forgetting.every_steps == 100
