"""SIGKILL at any moment of a merge leaves the old output or the new one, and the rerun succeeds."""

import random
from pathlib import Path

import pytest
import torch
from forking import Forked
from small_models import folder_bytes, recipe, write_model

from mergekit_audio import merge
from mergekit_audio.errors import InputError
from mergekit_audio.lock import verify

ROUNDS = 20


def merge_here(tell, root, scale):
    """Tell ``ready``, every event of a merge over what is there, then ``done`` or the error."""
    plan = merge.plan(recipe(["makam", "lyra"], scale=scale), Path(root))
    tell("ready")
    try:
        merge.run(plan, force=True, progress=lambda event: tell("event"))
    except InputError as error:
        tell(str(error))
    else:
        tell("done")


@pytest.fixture
def models(tmp_path):
    """Write checkpoints whose merge takes long enough to be killed in the middle."""
    generator = torch.Generator().manual_seed(0)
    base = {f"layers.{i}.w": torch.randn(100, 1000, generator=generator) for i in range(40)}
    write_model(tmp_path / "base", base)
    for name in ("makam", "lyra"):
        noise = {
            key: value + 0.01 * torch.randn(value.shape, generator=generator)
            for key, value in base.items()
        }
        write_model(tmp_path / name, noise)
    return tmp_path


def start(root, scale):
    process = Forked(merge_here, str(root), scale)
    assert process.line() == "ready"
    return process


def lines_until_the_end(process):
    return list(iter(process.line, ""))


def test_twenty_kills_leave_a_whole_output_each_time(models):
    expected = {}
    for scale in (0.2, 0.7):
        merge.run(merge.plan(recipe(["makam", "lyra"], scale=scale), models), force=True)
        expected[scale] = folder_bytes(models / "merged")
    process = start(models, 0.2)
    lines = lines_until_the_end(process)
    assert lines[-1] == "done"
    assert process.wait() == 0
    assert folder_bytes(models / "merged") == expected[0.2]
    moments = random.Random(0)
    there, killed = 0.2, 0
    for _ in range(ROUNDS):
        wanted = 0.7 if there == 0.2 else 0.2
        process = start(models, wanted)
        for _ in range(moments.randrange(len(lines))):
            process.line()
        process.kill()
        killed += "done" not in lines_until_the_end(process)
        found = folder_bytes(models / "merged")
        assert found in (expected[there], expected[wanted])
        assert verify(models / "merged") == []
        there = there if found == expected[there] else wanted
    assert killed >= ROUNDS // 4
    merge.run(merge.plan(recipe(["makam", "lyra"], scale=0.2), models), force=True)
    assert folder_bytes(models / "merged") == expected[0.2]
    assert sorted(path.name for path in models.iterdir()) == ["base", "lyra", "makam", "merged"]


def test_a_killed_first_merge_leaves_no_output_and_the_rerun_succeeds(models):
    for events in (0, 5, 30):
        process = start(models, 0.2)
        for _ in range(events):
            process.line()
        process.kill()
        if (models / "merged").exists():
            assert verify(models / "merged") == []
    merge.run(merge.plan(recipe(["makam", "lyra"]), models), force=True)
    assert verify(models / "merged") == []
    assert sorted(path.name for path in models.iterdir()) == ["base", "lyra", "makam", "merged"]


def test_of_two_merges_into_one_folder_one_wins_and_the_other_says_so(models):
    processes = [start(models, scale) for scale in (0.2, 0.7)]
    ends = [lines_until_the_end(process)[-1] for process in processes]
    assert [process.wait() for process in processes] == [0, 0]
    assert "done" in ends
    for end in ends:
        assert end == "done" or "merged: another process is writing this output" in end
    assert verify(models / "merged") == []
