"""`hours` instead of steps, linear decay, and the micro-batch that follows from the memory."""

import json

import pytest
from pretraining import make_project, make_recipe
from pydantic import ValidationError

from mergekit_audio import pretrain
from mergekit_audio.errors import RecipeError
from mergekit_audio.files import sha256_of_file
from mergekit_audio.pretrain import batch, running
from mergekit_audio.pretrain.estimate import estimate
from mergekit_audio.recipe.train_arguments import TrainArguments

AUTO = {"gradient_accumulation_steps": "auto", "clips_per_step": 4, "batch_size": 4}
STAGE = {"name": "only", "train": ["*"], "steps": 5, "peak_lr": 1e-3}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("batch"))


def stages_of(root, **stage):
    changes = {"stages": [{**STAGE, **stage}]}
    return pretrain.plan(make_recipe(**changes), root).as_dict()["stages"]


def test_hours_are_steps_of_so_many_clips(root):
    # A step hears 2 x 2 clips of 0.5 s: 0.01 h are 36 s, 18 steps.
    recipe = make_recipe(stages=[{**STAGE, "steps": 0, "hours": 0.01}])
    plan = pretrain.plan(recipe, root)
    assert plan.as_dict()["stages"][0]["steps"] == 18
    assert plan.as_dict()["stages"][0]["hours_heard"] == pytest.approx(0.01)
    assert (plan.written.stages[0].steps, plan.written.stages[0].hours) == (18, None)


@pytest.mark.parametrize("stage", [{"steps": 3, "hours": 1.0}, {"steps": 0}, {"hours": -1.0}])
def test_a_stage_has_either_steps_or_hours(root, stage):
    with pytest.raises(ValidationError, match=r"either `steps` .* or `hours`|greater than"):
        stages_of(root, **stage)


def learning_rates(root, output, **stage):
    recipe = make_recipe(stages=[{**STAGE, **stage}], arguments={"logging_steps": 1}, output=output)
    pretrain.run(pretrain.plan(recipe, root))
    lines = (root / output / "log.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [line["learning_rate"] for line in found if "learning_rate" in line]


def test_linear_decay_by_hand(root):
    # 5 steps, one of warm-up (0), then peak + (min - peak) · (step - 1) / 4.
    rates = learning_rates(root, "linear", warmup_ratio=0.2, min_lr=2e-4, decay="linear")
    assert rates == pytest.approx([0.0, 1e-3, 8e-4, 6e-4, 4e-4])
    flat = learning_rates(root, "flat", min_lr=1e-3, decay="linear")
    assert flat == pytest.approx([1e-3] * 5)


def test_auto_takes_the_whole_step_where_nothing_limits_it():
    arguments = TrainArguments.model_validate({"gradient_accumulation_steps": "auto"})
    assert (arguments.batch_size, arguments.clips_per_step) == (32, 32)
    with pytest.raises(ValueError, match="not settled"):
        _ = arguments.accumulation
    with pytest.raises(ValidationError, match="clips_per_step belongs to"):
        TrainArguments(clips_per_step=8)


@pytest.mark.parametrize(
    ("clips", "most", "bytes_a_clip", "chosen"),
    [(12, 12, 1.0, 12), (12, 5, 1.0, 4), (12, 12, 3.0, 3), (12, 12, 99.0, 1), (7, 7, 2.0, 1)],
)
def test_the_largest_part_of_the_step_that_fits(
    root, monkeypatch, clips, most, bytes_a_clip, chosen
):
    """12.5 bytes of memory, of which 0.8 may be taken."""
    monkeypatch.setattr(batch, "device_memory", lambda device: 12.5 if bytes_a_clip > 1 else 1e9)
    monkeypatch.setattr(batch, "_needed", lambda plan, device: lambda b: b * bytes_a_clip)
    arguments = {**AUTO, "clips_per_step": clips, "batch_size": most}
    plan = pretrain.plan(make_recipe(arguments=arguments), root)
    assert batch.chosen_batch_size(plan) == chosen
    settled = batch.settled(plan, chosen)
    for recipe in (settled.recipe, settled.written):
        found = recipe.arguments
        assert (found.batch_size, found.accumulation) == (chosen, clips // chosen)
        assert found.clips_per_step is None


def test_memory_grows_with_the_clips_and_is_that_of_the_machine(root):
    plan = pretrain.plan(make_recipe(arguments=AUTO), root)
    needed = batch._needed(plan, "cpu")
    assert 0 < needed(1) <= needed(2) <= needed(64)
    assert needed(1) < batch.device_memory("cpu") < 1e15
    assert batch.chosen_batch_size(plan) == 4


def test_steps_that_processes_can_not_share(root, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    plan = pretrain.plan(make_recipe(arguments=AUTO), root)
    with pytest.raises(RecipeError, match="4 clips can't be dealt out evenly to 3 processes"):
        batch.chosen_batch_size(plan)


def test_auto_trains_as_the_numbers_that_it_chose(root, monkeypatch):
    """The weights are those of the recipe in the lock; a resumed training keeps the choice."""
    monkeypatch.setattr(running, "chosen_batch_size", lambda plan: 2)
    plan = pretrain.plan(make_recipe(arguments=AUTO, output="auto"), root)

    class KilledError(Exception):
        pass

    def kill(event):
        if event.task == "stage adapt" and event.done == 2:
            raise KilledError

    with pytest.raises(KilledError):
        pretrain.run(plan, progress=kill)
    monkeypatch.setattr(running, "chosen_batch_size", lambda plan: 4)
    lock = pretrain.run(plan)
    kept = lock.recipe["arguments"]
    assert (kept["batch_size"], kept["gradient_accumulation_steps"]) == (2, 2)
    pretrain.run(pretrain.plan(make_recipe(output="told"), root))
    weights = [sha256_of_file(root / name / "model.safetensors") for name in ("auto", "told")]
    assert weights[0] == weights[1]


def test_the_estimate_tells_the_chosen_batch(root):
    value = estimate(pretrain.plan(make_recipe(arguments=AUTO), root))
    assert (value["batch_size"], value["gradient_accumulation_steps"]) == (4, 1)
