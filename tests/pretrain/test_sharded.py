"""Two processes that hold a model in shards, warm heads up, check their start and roll back."""

import os

import numpy as np
import pytest
import torch
from launching import kill_at, log_lines, told_by_ranks
from pretraining import ARGUMENTS, make_project, make_recipe
from safetensors.torch import load_file

from mergekit_audio import pretrain
from mergekit_audio.errors import InputError
from mergekit_audio.pretrain.saving import read_state
from mergekit_audio.pretrain.trainer import StageTrainer

FILES = ("model.safetensors", "heads.safetensors", "log.jsonl")
ONE_STAGE = [{"name": "adapt", "train": ["*"], "steps": 3, "peak_lr": 1e-3}]
RECIPES = {
    "sharded": {
        "arguments": {"logging_steps": 1, "parallel": "fsdp"},
        "forgetting": {"every_steps": 2, "clips": 3},
    },
    "warmed": {
        "heads": "warmup",
        "heads_warmup_steps": 2,
        "stages": ONE_STAGE,
        "arguments": {"logging_steps": 1, "parallel": "fsdp", "gradient_checkpointing": True},
    },
    "imported": {
        "base": "sharded",
        "heads": "import",
        "stages": ONE_STAGE,
        "arguments": {"logging_steps": 1},
    },
    "back": {"arguments": {"logging_steps": 1, "on_divergence": "rollback"}},
    "back_sharded": {
        "arguments": {"logging_steps": 1, "on_divergence": "rollback", "parallel": "fsdp"}
    },
    "stopped": {"arguments": {"logging_steps": 1}},
}


def train(tell, root, *words):
    """Train recipes one after the other and tell steps, notes and errors.

    A word is ``recipe``, ``recipe:output`` or ``recipe:output:step``: the loss of that step of the
    last stage is no number, the first time and in one process.
    """
    rank, step = os.environ["RANK"], None
    whole = StageTrainer.training_step

    def spoil(self, *arguments):
        nonlocal step
        loss = whole(self, *arguments)
        at = self.state.global_step + 1
        if step and rank == "1" and self.job.index == 1 and at == step:
            self._loss, step = float("nan"), None
        return loss

    def tell_event(event):
        tell(f"{event.task} {event.note if event.note.startswith('step') else event.done}")
        if event.task == "heads":
            tell(event.note)

    StageTrainer.training_step = spoil
    # Groups of one launch find each other by the same names: one has to do for all trainings.
    torch.distributed.destroy_process_group = lambda: None
    for word in words:
        name, output, at = f"{word}::".split(":")[:3]
        step = int(at) if at else None
        plan = pretrain.plan(make_recipe(**RECIPES[name]), root)
        try:
            pretrain.run(plan, progress=tell_event, output=root / (output or name))
        except (InputError, SystemExit) as error:
            (root / f"{name}-{rank}").write_text(f"{type(error).__name__}: {error}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """All recipes' outputs; ``sharded`` also as ``killed``, killed in stage 2; and what was told.

    The kill comes first, so that one launch does the rest.
    """
    root = make_project(tmp_path_factory.mktemp("sharded"))
    kill_at(root, "adapt", 3, train, "sharded:killed")
    kept = [path.name for path in (root / "killed.work").rglob("checkpoint-*")]
    assert kept == ["checkpoint-2"]
    spoiled = [f"{name}::4" for name in ("back", "back_sharded", "stopped")]
    words = ["sharded:killed", "sharded", "warmed", "imported", *spoiled]
    told = told_by_ranks(train, root, *words)
    return root, told


def alone(root, name):
    """Train a recipe in this process, with twice the accumulation, and return its output."""
    recipe = dict(RECIPES[name])
    accumulation = 2 * ARGUMENTS["gradient_accumulation_steps"]
    changes = {"gradient_accumulation_steps": accumulation, "parallel": "ddp"}
    recipe["arguments"] = recipe["arguments"] | changes
    output = root / f"{name}-alone"
    pretrain.run(pretrain.plan(make_recipe(**recipe), root), output=output)
    return output


def numbers(value, prefix=""):
    for name, each in value.items():
        if isinstance(each, dict):
            yield from numbers(each, f"{prefix}{name}/")
        else:
            yield prefix + name, each


@pytest.mark.parametrize("name", ["sharded", "warmed", "imported"])
def test_two_processes_train_as_one(trained, name):
    """Layer drop, frozen parts, clipping, probes: one process has the same curve and weights."""
    root, _ = trained
    one, two = alone(root, name), root / name
    first, second = log_lines(one), log_lines(two)
    assert len(first) == len(second)
    for mine, theirs in zip(first, second, strict=True):
        expected, found = dict(numbers(mine)), dict(numbers(theirs))
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            if isinstance(value, float):
                assert found[key] == pytest.approx(value, rel=1e-5, abs=1e-5), key
            else:
                assert found[key] == value, key
    for file in FILES[:2]:
        weights, others = load_file(one / file), load_file(two / file)
        assert weights.keys() == others.keys()
        for key, value in weights.items():
            np.testing.assert_allclose(others[key], value, rtol=1e-5, atol=1e-5, err_msg=key)


def test_killed_in_shards_and_run_again(trained):
    """SIGKILL of all; the same command ends with the bits of the uninterrupted run."""
    root, told = trained
    first = told[: told.index("stage adapt 5\n")]
    assert "stage stabilise 1\n" not in first
    assert "stage adapt 2\nstage adapt 3\n" in first
    for name in FILES:
        assert (root / "killed" / name).read_bytes() == (root / "sharded" / name).read_bytes(), name


def test_imported_heads_are_checked_once(trained):
    root, told = trained
    assert told.count("residual_kmeans: masked accuracy of the imported heads") == 1
    assert log_lines(root / "imported")[0]["step"] == 0
    assert log_lines(root / "warmed")[0]["stage"] == "heads_warmup"


@pytest.mark.parametrize("name", ["back", "back_sharded"])
def test_all_processes_roll_back_together(trained, name):
    """One process finds no number at step 4; both go back to step 2, with half the peak."""
    root, told = trained
    assert told.count("back to step 2, peak_lr 0.0005") == 2
    lines = [line for line in log_lines(root / name) if line["stage"] == "adapt"]
    assert [line["rollback"]["step"] for line in lines if "rollback" in line] == [4]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5]


def test_all_processes_stop_together(trained):
    root, _ = trained
    message = (root / "stopped-0").read_text()
    assert message.startswith("DivergenceError: stage 'adapt', step 4 of 5: the loss is nan")
    assert "checkpoint-2" in message
    assert (root / "stopped-1").read_text() == f"SystemExit: {InputError.exit_code}"
    assert not (root / "stopped").exists()


@pytest.mark.parametrize("name", ["optimizer", "scheduler"])
def test_a_damaged_state_is_named(tmp_path, name):
    (tmp_path / f"{name}.pt").write_bytes(b"half of it")
    with pytest.raises(InputError, match=rf"{name}\.pt: can't read the checkpoint"):
        read_state(tmp_path, name)
