import errno
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from forking import Forked
from pretraining import make_corpus, make_project, make_recipe

from mergekit_audio import pretrain
from mergekit_audio.errors import InputError
from mergekit_audio.pretrain import saving
from mergekit_audio.pretrain.work import open_work

FILES = (
    "model.safetensors",
    "heads.safetensors",
    "log.jsonl",
    "teachers/residual_kmeans.safetensors",
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The outputs of an uninterrupted run, and what it was made from."""
    root = make_project(tmp_path_factory.mktemp("resume"))
    pretrain.run(pretrain.plan(make_recipe(), root))
    return root


def train(tell, root, die_at_file=0):
    """Train into ``killed`` and tell every event.

    With a number the process kills itself in the middle of writing that checkpoint file.
    """
    written = 0
    whole = saving._save

    def half(path, value):
        nonlocal written
        written += 1
        if written == die_at_file:
            path.write_bytes(b"half of it")
            os.kill(os.getpid(), signal.SIGKILL)
        whole(path, value)

    saving._save = half
    plan = pretrain.plan(make_recipe(output="killed"), root)
    pretrain.run(plan, progress=lambda event: tell(f"{event.task} {event.done}"))


def same(root, one="out", other="killed"):
    return [
        name
        for name in FILES
        if (root / one / name).read_bytes() != (root / other / name).read_bytes()
    ]


def test_killed_while_saving_and_at_three_random_moments(project):
    """SIGKILL in a save, and between, in and after steps; the same call ends with the same bits."""
    assert Forked(train, project, 1).wait() == -signal.SIGKILL
    chance = random.SystemRandom()
    moments = []
    for stage, last in (("stabilise", 3), ("adapt", 2), ("adapt", 3)):
        step, wait = chance.randint(0, last), chance.random() * 0.05

        def reached(line, stage=stage, step=step):
            # a resumed run may begin behind the wished step: then its first event will do
            name, _, done = line.rpartition(" ")
            return name == f"stage {stage}" and int(done) >= step

        process = Forked(train, project)
        process.wait_for(reached)
        time.sleep(wait)
        process.kill()
        moments.append((stage, step, wait, process.wait()))
        if process.wait() == 0:  # it was faster than the signal
            break
    assert moments[0][-1] == moments[1][-1] == -signal.SIGKILL, moments
    if moments[-1][-1] != 0:
        pretrain.run(pretrain.plan(make_recipe(output="killed"), project))
    assert same(project) == [], moments
    assert not (project / "killed.work").exists()
    assert not list(project.glob(".killed*"))


def test_killed_in_the_middle_of_the_first_save(project):
    """The half-written checkpoint is no checkpoint: the run starts over, the bits are the same."""
    recipe = make_recipe(output="half")

    def die(path, value):
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "_save", die)
        with pytest.raises(KeyboardInterrupt):
            pretrain.run(pretrain.plan(recipe, project))
    assert not (project / "half").exists()
    work = project / "half.work"
    assert not list(work.rglob("checkpoint-*"))
    pretrain.run(pretrain.plan(recipe, project))
    assert same(project, other="half") == []


@pytest.mark.parametrize("stage", ["stabilise", "adapt"])
def test_interrupted_between_checkpoints(project, stage, tmp_path):
    """Ctrl-C keeps the work folder, leaves no output, and costs no bit."""
    recipe = make_recipe()
    output = tmp_path / "stopped"

    def stop(event):
        if event.task == f"stage {stage}" and event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain.run(pretrain.plan(recipe, project), output=output, progress=stop)
    assert not output.exists()
    checkpoints = [path.name for path in (tmp_path / "stopped.work").rglob("checkpoint-*")]
    assert checkpoints == ["checkpoint-2"]
    events = []
    pretrain.run(pretrain.plan(recipe, project), output=output, progress=events.append)
    told = [event.done for event in events if event.task == f"stage {stage}"]
    assert told[:2] == [2, 3]  # it went on from the checkpoint
    for name in FILES:
        assert (output / name).read_bytes() == (project / "out" / name).read_bytes()


def test_two_checkpoints_are_kept(project, tmp_path):
    stage = {"name": "long", "train": ["*"], "steps": 12, "peak_lr": 1e-3}
    recipe = make_recipe(stages=[stage], arguments={"gradient_accumulation_steps": 1})

    def stop(event):
        if event.task == "stage long" and event.done == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain.run(pretrain.plan(recipe, project), output=tmp_path / "out", progress=stop)
    kept = sorted(path.name for path in (tmp_path / "out.work" / "1-long").glob("checkpoint-*"))
    assert kept == ["checkpoint-10", "checkpoint-8"]


def interrupted(root, recipe, **named):
    def stop(event):
        if event.task == "stage stabilise" and event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain.run(pretrain.plan(recipe, root), progress=stop, **named)


def test_another_recipe_does_not_take_up_the_work(tmp_path):
    root = make_project(tmp_path)
    interrupted(root, make_recipe())
    other = make_recipe(seed=6, culture="other")
    with pytest.raises(
        InputError, match=r"another training; different: recipe\.culture, recip"
    ) as e:
        pretrain.run(pretrain.plan(other, root))
    assert "--force to start anew" in e.value.hint
    assert (root / "out.work").exists()
    pretrain.run(pretrain.plan(other, root), force=True)
    assert "other" in (root / "out" / "README.md").read_text()


def test_changed_recordings_do_not_take_up_the_work(tmp_path):
    root = make_project(tmp_path)
    interrupted(root, make_recipe())
    make_corpus(root / "makam", seed=9)
    with pytest.raises(InputError, match=r"different: corpus\.makam content"):
        pretrain.run(pretrain.plan(make_recipe(), root))


def test_killed_between_naming_the_output_and_removing_the_work(tmp_path, monkeypatch):
    from mergekit_audio.pretrain.work import Work

    root = make_project(tmp_path)

    def die(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Work, "remove", die)
        with pytest.raises(KeyboardInterrupt):
            pretrain.run(pretrain.plan(make_recipe(), root))
    before = (root / "out" / "model.safetensors").stat().st_mtime_ns
    lock = pretrain.run(pretrain.plan(make_recipe(), root))
    assert (root / "out" / "model.safetensors").stat().st_mtime_ns == before
    assert "model.safetensors" in lock.outputs
    assert not (root / "out.work").exists()
    with pytest.raises(InputError, match="already exists"):
        pretrain.run(pretrain.plan(make_recipe(), root))
    assert not (root / "out.work").exists()


def test_two_processes_do_not_train_at_one_place(tmp_path):
    root = make_project(tmp_path)
    with (
        open_work(root / "out"),
        pytest.raises(InputError, match="another process is training here"),
    ):
        pretrain.run(pretrain.plan(make_recipe(), root))


def test_a_full_disk_while_saving(tmp_path, monkeypatch):
    root = make_project(tmp_path)

    def full(path, value):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(saving, "_save", full)
        with pytest.raises(InputError, match="no space left"):
            pretrain.run(pretrain.plan(make_recipe(), root))
    assert not (root / "out").exists()
    pretrain.run(pretrain.plan(make_recipe(), root))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("size", [1, 100_000])
def test_a_full_disk_under_torch_is_an_os_error(size):
    with pytest.raises(OSError, match="No space left"):
        saving._save(Path("/dev/full"), {"exp_avg": torch.zeros(size)})


def test_a_damaged_checkpoint_is_named(tmp_path):
    root = make_project(tmp_path)
    interrupted(root, make_recipe())
    checkpoint = root / "out.work" / "1-stabilise" / "checkpoint-2"
    (checkpoint / "log_state.json").write_text("{")
    with pytest.raises(InputError, match=r"checkpoint-2.*can't read the checkpoint") as caught:
        pretrain.run(pretrain.plan(make_recipe(), root))
    assert "delete" in caught.value.hint


def test_a_damaged_identity_can_be_forced_away(tmp_path):
    root = make_project(tmp_path)
    interrupted(root, make_recipe())
    (root / "out.work" / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"different: run\.json is damaged"):
        pretrain.run(pretrain.plan(make_recipe(), root))
    pretrain.run(pretrain.plan(make_recipe(), root), force=True)


def test_only_its_own_leftovers_are_removed(tmp_path):
    names = [".out.abcd1234.partial", ".out.other.abcd1234.partial", ".outer.abcd1234.partial"]
    for name in names:
        (tmp_path / name).mkdir()
    with open_work(tmp_path / "out"):
        assert sorted(path.name for path in tmp_path.glob(".*")) == names[1:]
