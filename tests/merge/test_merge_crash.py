"""SIGKILL at any moment of a merge leaves the old output or the new one, and the rerun succeeds."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_models import folder_bytes, recipe, write_model

from mergekit_audio import merge
from mergekit_audio.lock import verify

ROUNDS = 20
MERGE = """
import sys
from pathlib import Path
from mergekit_audio import merge
from small_models import recipe
plan = merge.plan(recipe(["makam", "lyra"], scale=float(sys.argv[2])), Path(sys.argv[1]))
print("ready", flush=True)
merge.run(plan, force=True)
print("done", flush=True)
"""


@pytest.fixture
def models(tmp_path):
    """Write checkpoints whose merge takes long enough to be killed in the middle."""
    generator = torch.Generator().manual_seed(0)
    base = {f"layers.{i}.w": torch.randn(400, 1000, generator=generator) for i in range(40)}
    write_model(tmp_path / "base", base)
    for name in ("makam", "lyra"):
        noise = {
            key: value + 0.01 * torch.randn(value.shape, generator=generator)
            for key, value in base.items()
        }
        write_model(tmp_path / name, noise)
    return tmp_path


def start(root, scale):
    repository = Path(__file__).parents[2]
    path = os.pathsep.join([str(repository), str(repository / "tests")])
    process = subprocess.Popen(
        [sys.executable, "-c", MERGE, str(root), str(scale)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    return process


def test_twenty_kills_leave_a_whole_output_each_time(models):
    expected = {}
    for scale in (0.2, 0.7):
        merge.run(merge.plan(recipe(["makam", "lyra"], scale=scale), models), force=True)
        expected[scale] = folder_bytes(models / "merged")
    process = start(models, 0.2)
    started = time.monotonic()
    assert process.stdout.readline() == "done\n"
    duration_s = time.monotonic() - started
    process.communicate()
    assert folder_bytes(models / "merged") == expected[0.2]
    moments = random.Random(0)
    there, killed = 0.2, 0
    for _ in range(ROUNDS):
        wanted = 0.7 if there == 0.2 else 0.2
        process = start(models, wanted)
        time.sleep(moments.uniform(0, duration_s))
        process.send_signal(signal.SIGKILL)
        out, _ = process.communicate()
        killed += "done" not in out
        found = folder_bytes(models / "merged")
        assert found in (expected[there], expected[wanted])
        assert verify(models / "merged") == []
        there = there if found == expected[there] else wanted
    assert killed >= ROUNDS // 4
    merge.run(merge.plan(recipe(["makam", "lyra"], scale=0.2), models), force=True)
    assert folder_bytes(models / "merged") == expected[0.2]
    assert sorted(path.name for path in models.iterdir()) == ["base", "lyra", "makam", "merged"]


def test_a_killed_first_merge_leaves_no_output_and_the_rerun_succeeds(models):
    for delay_s in (0.0, 0.02, 0.05):
        process = start(models, 0.2)
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if (models / "merged").exists():
            assert verify(models / "merged") == []
    merge.run(merge.plan(recipe(["makam", "lyra"]), models), force=True)
    assert verify(models / "merged") == []
    assert sorted(path.name for path in models.iterdir()) == ["base", "lyra", "makam", "merged"]


def test_of_two_merges_into_one_folder_one_wins_and_the_other_says_so(models):
    first = start(models, 0.2)
    second = start(models, 0.7)
    ends = [process.communicate() for process in (first, second)]
    codes = [process.returncode for process in (first, second)]
    assert 0 in codes
    for code, (_, err) in zip(codes, ends, strict=True):
        assert code == 0 or "merged: another process is writing this output" in err
    assert verify(models / "merged") == []
