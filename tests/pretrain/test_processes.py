"""Trainings of two processes, started by torchrun as a user would, or as forks to be killed."""

import json
import os

import numpy as np
import pytest
import torch
import yaml
from launching import kill_at, log_lines, told_by_ranks, torchrun
from pretraining import ARGUMENTS, make_project, make_recipe
from safetensors.torch import load_file

from mergekit_audio import pretrain
from mergekit_audio.cli import main as cli
from mergekit_audio.cli.main import main
from mergekit_audio.errors import DependencyError, InputError, RecipeError, UsageError
from mergekit_audio.lock import read_lock
from mergekit_audio.pretrain import processes
from mergekit_audio.pretrain.objective import Objective
from mergekit_audio.pretrain.processes import Processes, clips_per_step, joined
from mergekit_audio.pretrain.stage_log import StageLog
from mergekit_audio.rebuild import rebuild

FILES = (
    "model.safetensors",
    "heads.safetensors",
    "log.jsonl",
    "teachers/residual_kmeans.safetensors",
)
LOG_EACH_STEP = {"logging_steps": 1}


def train(tell, root):
    """Tell its steps; first run into an output that exists, which ends no process group."""
    plan = pretrain.plan(make_recipe(output="killed", arguments=LOG_EACH_STEP), root)
    try:
        pretrain.run(plan, output=root / "two")
    except (InputError, SystemExit) as error:
        refusal = root / f"refusal-{os.environ['RANK']}"
        refusal.write_text(f"{type(error).__name__}: {error}")
    pretrain.run(plan, progress=lambda event: tell(f"{event.task} {event.done}"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The output of two processes that the command line started, and what it said."""
    root = make_project(tmp_path_factory.mktemp("processes"))
    recipe = make_recipe(output="two", arguments=LOG_EACH_STEP)
    (root / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    words = ["-m", "mergekit_audio", "train-culture", str(root / "recipe.yaml"), "--json"]
    done = torchrun(*words)
    out, errors = done.communicate()
    assert done.returncode == 0, errors
    return root, out, errors


def test_two_processes_train_as_one_with_twice_the_accumulation(project):
    root, _, _ = project
    accumulation = 2 * ARGUMENTS["gradient_accumulation_steps"]
    arguments = LOG_EACH_STEP | {"gradient_accumulation_steps": accumulation}
    pretrain.run(pretrain.plan(make_recipe(output="one", arguments=arguments), root))
    one, two = log_lines(root / "one"), log_lines(root / "two")
    assert [(line["stage"], line["step"]) for line in two] == [
        *(("stabilise", step) for step in (1, 2, 3, 4)),
        *(("adapt", step) for step in (1, 2, 3, 4, 5)),
    ]
    for first, second in zip(one, two, strict=True):
        assert first.keys() == second.keys()
        assert first["masked_frames"] == second["masked_frames"]
        for name in sorted(first.keys() - {"stage", "step"}):
            assert second[name] == pytest.approx(first[name], rel=1e-5, abs=1e-5), name
    for name in ("model.safetensors", "heads.safetensors"):
        expected, found = load_file(root / "one" / name), load_file(root / "two" / name)
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5, err_msg=key)


def test_one_process_speaks_and_writes(project):
    root, out, errors = project
    assert json.loads(out)["output"] == str(root / "two")
    assert errors.count("trained makam for 9 steps") == 1
    assert "Traceback" not in errors
    assert "Warning" not in errors
    assert len(list((root / "two" / "logs" / "adapt").glob("events.*"))) == 1
    assert not (root / "two.work").exists()
    assert read_lock(root / "two").environment["processes"] == "2"
    with pytest.raises(InputError, match="two: trained by 2 processes together"):
        rebuild(root / "two")


def test_killed_in_both_stages_and_run_again(project):
    """SIGKILL of all, twice; the same command ends with the bits of the uninterrupted run."""
    root, _, _ = project
    kill_at(root, "stabilise", 3, train)
    refusal = (root / "refusal-0").read_text()
    assert refusal.startswith("InputError")
    assert "already exists" in refusal
    assert (root / "refusal-1").read_text() == f"SystemExit: {InputError.exit_code}"
    assert [path.name for path in (root / "killed.work").rglob("checkpoint-*")] == ["checkpoint-2"]
    kill_at(root, "adapt", 3, train)
    out = told_by_ranks(train, root)
    assert "stage adapt 2\nstage adapt 3\n" in out  # it went on from the checkpoint
    for name in FILES:
        assert (root / "killed" / name).read_bytes() == (root / "two" / name).read_bytes(), name


def test_another_number_of_processes_does_not_resume(tmp_path):
    root = make_project(tmp_path)

    def stop(event):
        if event.task == "stage stabilise" and event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain.run(pretrain.plan(make_recipe(), root), progress=stop)
    identity = json.loads((root / "out.work/run.json").read_text())
    assert identity["processes"] == 1
    (root / "out.work/run.json").write_text(json.dumps(identity | {"processes": 2}))
    with pytest.raises(InputError, match="another training; different: processes"):
        pretrain.run(pretrain.plan(make_recipe(), root))


def test_hours_count_all_processes(tmp_path, monkeypatch):
    plan = pretrain.plan(make_recipe(), make_project(tmp_path))
    alone = plan.as_dict()["stages"][0]["clips"]
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert clips_per_step(plan.recipe.arguments) == 3 * 2 * 2
    assert plan.as_dict()["stages"][0]["clips"] == 3 * alone


def test_more_processes_than_gpus(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with (
        pytest.raises(DependencyError, match="4 processes were started on a machine with 2 GPUs"),
        joined("cuda"),
    ):
        pass


def test_one_process_needs_no_group():
    with joined("cpu") as alone:
        assert alone == Processes(0, 1)
        assert alone.is_main
        assert alone.on_main(lambda: 3) == 3
        error = InputError("found nothing")
        assert alone.agreed(error) is error
    assert not torch.distributed.is_initialized()


def test_others_leave_what_all_found_to_the_main_process():
    left = Processes(1, 2).agreed(InputError("found nothing"))
    assert isinstance(left, SystemExit)
    assert left.code == InputError.exit_code


def test_only_trainings_run_in_many_processes(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as left:
        main(["sweep-lambda", "recipe.yaml"])
    assert left.value.code == UsageError.exit_code
    assert "started as 2 processes, and only trainings run in more" in capsys.readouterr().err


def test_a_lost_process_is_told_from_a_bug():
    assert processes._is_lost_peer(RuntimeError("gloo: Connection closed by peer [127.0.0.1]:1"))
    assert not processes._is_lost_peer(RuntimeError("shapes do not match"))


def test_sums_of_all_processes_are_one_line(tmp_path):
    log = StageLog(
        tmp_path / "log.jsonl", stage="s", every=2, steps=2, weights={}, feature_penalty=1.0
    )
    objective = Objective({}, torch.tensor(0.5), 4)
    log.add(objective)
    log.gather(lambda own: own + torch.tensor([2.0, 5.0], dtype=torch.float64), keeps=True)
    log.end_step(1, 0.1, None)
    log.add(objective)
    log.gather(lambda own: own, keeps=True)
    log.end_step(2, 0.1, None)
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert line["masked_frames"] == 4 + 2 + 4
    assert line["feature_penalty"] == pytest.approx((2 + 5 + 2) / 10)
    log.add(objective)
    log.gather(lambda own: own, keeps=False)
    log.end_step(4, 0.1, None)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(("rank", "said"), [("0", 1), ("1", 0)])
def test_an_error_that_all_find_is_said_by_the_first(rank, said, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(cli, "_WAIT_S", 0.0)
    (tmp_path / "recipe.yaml").write_text("kind: train\nstops: []\n")
    with pytest.raises(SystemExit) as left:
        main(["train-culture", str(tmp_path / "recipe.yaml")])
    assert left.value.code == RecipeError.exit_code
    assert capsys.readouterr().err.count("recipe.yaml:2:1: stops") == said


def test_two_processes_say_a_fault_once(tmp_path):
    (tmp_path / "recipe.yaml").write_text("kind: train\nstops: []\n")
    # torchrun looks so seldom that both have ended by themselves: it ends whoever is left
    words = ("-m", "mergekit_audio", "train-culture", str(tmp_path / "recipe.yaml"))
    with torchrun("--monitor-interval=25", *words) as both:
        _, errors = both.communicate()
    assert both.returncode != 0
    assert errors.count("recipe.yaml:2:1: stops") == 1
    codes = [line.split()[2] for line in errors.splitlines() if line.startswith("  exitcode  :")]
    assert set(codes) == {str(RecipeError.exit_code)}


def test_one_process_has_no_shards(tmp_path):
    recipe = make_recipe(arguments={"parallel": "fsdp"})
    plan = pretrain.plan(recipe, make_project(tmp_path))
    with pytest.raises(UsageError, match="parallel: fsdp cuts a model into shards for many"):
        pretrain.run(plan)
    assert not (tmp_path / "out.work").exists()
