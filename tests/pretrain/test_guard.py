import errno
import json

import pytest
from pretraining import make_project, make_recipe

from mergekit_audio import pretrain
from mergekit_audio.errors import InputError
from mergekit_audio.pretrain import saving, trainer
from mergekit_audio.pretrain.guard import DivergenceError, Guard
from mergekit_audio.pretrain.work import StageFolder
from mergekit_audio.recipe.train import Stage
from mergekit_audio.recipe.train_arguments import TrainArguments

STAGE = Stage(name="adapt", train=["*"], steps=100, peak_lr=1e-3)
RULE = {"factor": 2.0, "steps": 3, "window": 5}


class Lines:
    """A log that keeps events."""

    def __init__(self):
        self.events = []

    def event(self, step, name, value):
        self.events.append((step, name, value))


def make_guard(tmp_path, **arguments):
    values = {"divergence": RULE} | arguments
    log = Lines()
    guard = Guard(STAGE, TrainArguments(**values), StageFolder(tmp_path / "1-adapt"), log)
    return guard, log


def log_lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_spike_is_logged_and_a_divergence_raises(tmp_path):
    guard, log = make_guard(tmp_path)
    (tmp_path / "1-adapt" / "checkpoint-4").mkdir(parents=True)
    for step, loss in enumerate([10, 11, 12, 30, 12, 11], 1):
        guard.end_step(step, loss, ["makam/a", "makam/b"])
    spike = {"loss": 30, "median": 11, "tracks": ["makam/a", "makam/b"]}
    assert log.events == [(4, "spike", spike)]
    guard.end_step(7, 23, [])  # the median of 10, 11, 12, 12, 11 is 11: 23 is above 22
    assert not guard.is_in_order
    guard.end_step(8, 24, [])
    with pytest.raises(DivergenceError) as caught:
        guard.end_step(9, 25, ["west/z", "makam/b", "makam/b"])
    message = caught.value.message
    assert "stage 'adapt', step 9 of 100: the loss is 25, for 3 steps above 2 times" in message
    assert "running median 11; clips of this step: makam/b, west/z" in message
    assert message.endswith("1-adapt/checkpoint-4")
    assert "on_divergence=rollback" in caught.value.hint


def test_high_steps_that_are_not_in_a_row_are_no_divergence(tmp_path):
    guard, _ = make_guard(tmp_path)
    for step, loss in enumerate([1, 1, 1] + [9, 9, 1] * 10, 1):
        guard.end_step(step, loss, [])
    assert guard.is_in_order


def test_without_a_rule_only_what_is_not_finite_ends_it(tmp_path):
    guard, log = make_guard(tmp_path, divergence=None)
    for step, loss in enumerate([1.0] * 10 + [1e9] * 30, 1):
        guard.end_step(step, loss, [])
    assert log.events == []
    with pytest.raises(
        DivergenceError, match=r"step 41 of 100: the loss is nan; .* no checkpoint yet"
    ):
        guard.end_step(41, float("nan"), ["makam/a"])
    with pytest.raises(DivergenceError, match="the norm of the gradient is inf"):
        guard.require_finite(42, "norm of the gradient", float("inf"), [])


def test_a_restored_guard_judges_as_the_saved_one(tmp_path):
    guard, _ = make_guard(tmp_path)
    for step, loss in enumerate([3.0, 4.0, 5.0, 50.0], 1):
        guard.end_step(step, loss, [])
    state = json.loads(json.dumps({"guard": guard.state()}))
    other, log = make_guard(tmp_path)
    other.restore(state)
    assert not other.is_in_order
    other.end_step(5, 60.0, [])
    assert log.events[0][2]["median"] == 4.0
    other.restore(None)
    assert other.is_in_order


def poisoned(monkeypatch, at_step, *, times, loss=float("nan")):
    """Make the loss of a step of stage adapt something else, so many times."""
    left = [times]
    whole = trainer.StageTrainer._clip_grad_norm

    def clip(self, model):
        if self.job.stage.name == "adapt" and self.state.global_step + 1 == at_step and left[0]:
            left[0] -= 1
            self._loss = loss
            self._require_finite_loss()
        return whole(self, model)

    monkeypatch.setattr(trainer.StageTrainer, "_clip_grad_norm", clip)


def test_the_message_of_a_run_names_clips_and_the_last_good_checkpoint(tmp_path, monkeypatch):
    root = make_project(tmp_path)
    poisoned(monkeypatch, 4, times=1)
    with pytest.raises(
        DivergenceError, match="stage 'adapt', step 4 of 5: the loss is nan"
    ) as caught:
        pretrain.run(pretrain.plan(make_recipe(), root))
    assert "clips of this step: makam/track" in caught.value.message
    assert str(root / "out.work" / "2-adapt" / "checkpoint-2") in caught.value.message
    assert not (root / "out").exists()
    recipe = make_recipe(arguments={"on_divergence": "rollback"})
    pretrain.run(pretrain.plan(recipe, root))  # as the hint says: the same work goes on
    assert (root / "out" / "model.safetensors").is_file()


def test_a_rollback_halves_the_peak_and_is_logged(tmp_path, monkeypatch):
    root = make_project(tmp_path)
    recipe = make_recipe(arguments={"on_divergence": "rollback", "logging_steps": 1})
    events = []
    with monkeypatch.context() as patch:
        poisoned(patch, 4, times=2)
        pretrain.run(pretrain.plan(recipe, root), progress=events.append)
    assert any("back to step 2, peak_lr 0.0005" in event.note for event in events)
    lines = [line for line in log_lines(root / "out") if line["stage"] == "adapt"]
    done = [(line["step"], line["rollback"]) for line in lines if "rollback" in line]
    assert [(step, each["step"], each["peak_lr"]) for step, each in done] == [
        (2, 4, 5e-4),
        (2, 4, 2.5e-4),
    ]
    assert done[0][1]["reason"] == "the loss is nan"
    rates = {line["step"]: line["learning_rate"] for line in lines if "loss" in line}
    assert sorted(rates) == [1, 2, 3, 4, 5]
    # step i is done at min + (peak - min) (1 + cos(pi (i - 1) / 5)) / 2
    from math import cos, pi

    expected = {i: 1e-4 + 9e-4 * (1 + cos(pi * (i - 1) / 5)) / 2 for i in (1, 2)}
    expected |= {i: 1e-4 + 1.5e-4 * (1 + cos(pi * (i - 1) / 5)) / 2 for i in (3, 4, 5)}
    assert rates == pytest.approx(expected)
    assert "first logged loss" in (root / "out" / "README.md").read_text()


def test_a_rolled_back_run_resumes_with_the_same_bits(tmp_path, monkeypatch):
    root = make_project(tmp_path)
    recipe = make_recipe(arguments={"on_divergence": "rollback"})

    def stop(event):
        if event.task == "stage adapt" and event.done == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        poisoned(patch, 4, times=1)
        pretrain.run(pretrain.plan(recipe, root))
    with monkeypatch.context() as patch:
        poisoned(patch, 4, times=1)
        with pytest.raises(KeyboardInterrupt):
            pretrain.run(pretrain.plan(recipe, root), output=root / "again", progress=stop)
        pretrain.run(pretrain.plan(recipe, root), output=root / "again")
    for name in ("model.safetensors", "heads.safetensors", "log.jsonl"):
        assert (root / "again" / name).read_bytes() == (root / "out" / name).read_bytes()


def test_rollbacks_end(tmp_path, monkeypatch):
    root = make_project(tmp_path)
    recipe = make_recipe(arguments={"on_divergence": "rollback", "max_rollbacks": 2})
    poisoned(monkeypatch, 4, times=9)
    with pytest.raises(DivergenceError, match="rolled back 2 times already"):
        pretrain.run(pretrain.plan(recipe, root))


def test_a_rising_loss_stops_a_run_by_the_rule(tmp_path):
    root = make_project(tmp_path)
    rule = {"factor": 1.0000001, "steps": 1, "window": 1}
    recipe = make_recipe(arguments={"divergence": rule})
    with pytest.raises(InputError, match="running median"):
        pretrain.run(pretrain.plan(recipe, root))


def test_a_full_disk_never_costs_the_last_good_checkpoint(tmp_path, monkeypatch):
    """ENOSPC in the middle of the second checkpoint: the first stays, and the bits are the same."""
    root = make_project(tmp_path)
    pretrain.run(pretrain.plan(make_recipe(), root), output=root / "whole")
    whole = saving._save

    def full(path, value):
        if "checkpoint-4" in str(path) and path.name == "scheduler.pt":
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "_save", full)
        with pytest.raises(InputError, match="no space left"):
            pretrain.run(pretrain.plan(make_recipe(), root))
    kept = sorted(path.name for path in (root / "out.work").rglob("*checkpoint-*"))
    assert kept == ["checkpoint-2"]
    pretrain.run(pretrain.plan(make_recipe(), root))
    for name in ("model.safetensors", "log.jsonl"):
        assert (root / "out" / name).read_bytes() == (root / "whole" / name).read_bytes()


def test_gradient_norms_by_group_add_up(tmp_path):
    root = make_project(tmp_path)
    recipe = make_recipe(arguments={"logging_steps": 1, "max_grad_norm": 0.01})
    pretrain.run(pretrain.plan(recipe, root))
    for line in log_lines(root / "out"):
        norms = {name: value for name, value in line.items() if name.startswith("gradient_norm/")}
        total = sum(value**2 for value in norms.values()) ** 0.5
        assert total == pytest.approx(line["gradient_norm"], rel=1e-4)
    assert {"gradient_norm/front", "gradient_norm/encoder", "gradient_norm/heads.cqt"} <= set(norms)
    speeds = (root / "out" / "logs" / "adapt" / "speed.jsonl").read_text().splitlines()
    assert json.loads(speeds[-1])["audio_seconds_per_second"] > 0
