"""The reproducibility check of .github/workflows/reproduce.yml, run as a user's CI would run it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_models import family

ROOT = Path(__file__).parent.parent
RECIPE = """\
kind: merge
base: base
models: [{model: makam}, {model: lyra, weight: -0.5}]
method: {name: task_arithmetic}
scale: 0.2
output: runs/merged
"""


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """A user's repository with a merged model, and `cmerge` on the PATH."""
    root = tmp_path_factory.mktemp("repository")
    family(root, ("makam", "lyra"))
    (root / "merged.yaml").write_text(RECIPE)
    commands = root / "bin"
    commands.mkdir()
    (commands / "cmerge").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mergekit_audio "$@"\n')
    (commands / "cmerge").chmod(0o755)
    assert run_in(root, "cmerge merge merged.yaml").returncode == 0
    return root


@pytest.fixture
def repository(merged, tmp_path):
    """Return a copy of it, which may be changed."""
    return shutil.copytree(merged, tmp_path / "repository")


def run_in(repository, script):
    environment = {
        **os.environ,
        "PATH": f"{repository / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OUTPUT_FOLDERS": "runs/merged",
    }
    return subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def rebuild_step():
    workflow = yaml.safe_load((ROOT / ".github/workflows/reproduce.yml").read_text())
    steps = workflow["jobs"]["reproduce"]["steps"]
    return next(step["run"] for step in steps if step.get("name") == "Rebuild and compare")


def test_the_check_passes_on_an_untouched_folder(repository):
    done = run_in(repository, rebuild_step())
    assert done.returncode == 0, done.stderr


def test_the_check_fails_with_the_name_of_what_differs(repository):
    weights = repository / "runs/merged/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    done = run_in(repository, rebuild_step())
    assert done.returncode == 5
    assert "model.safetensors" in done.stderr


def test_the_check_fails_when_an_input_has_changed(repository):
    config = repository / "makam/config.json"
    config.write_text(config.read_text().replace("8", "9"))
    done = run_in(repository, rebuild_step())
    assert done.returncode == 5
    assert "makam" in done.stderr
    assert "config.json" in done.stderr
