"""Sweeps on Ray: a machine dies and nothing is lost, tokens are asked for, only own things end."""

import importlib.util
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from commands import REPOSITORY
from small_models import folder_bytes
from sweeping import DENSE, lines_of, recipe_of, without_figures, write_world

from mergekit_audio.errors import DependencyError, UsageError
from mergekit_audio.sweep import sweep
from mergekit_audio.sweep.executors.cluster_connection import MODE, TOKEN, TOKEN_PATH, require_ray

has_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")


@has_ray
def test_a_dead_machine_loses_nothing(tmp_path):
    root = write_world(tmp_path)
    with without_figures():
        sweep(recipe_of(root, DENSE, "serial"), root, output=root / "serial")
    paths = [str(REPOSITORY), str(REPOSITORY / "tests"), str(Path(__file__).parent)]
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        variables = {
            "PYTHONPATH": os.pathsep.join(paths),
            "RAY_TMPDIR": folder,
            "RAY_USAGE_STATS_ENABLED": "0",
            MODE: "token",
            TOKEN: secrets.token_hex(32),
        }
        words = [sys.executable, str(Path(__file__).with_name("ray_sweep.py"))]
        done = subprocess.run(
            [*words, str(root), str(root / "ray")],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=240,
        )
    assert done.returncode == 0, done.stderr
    lines = lines_of(root / "ray")
    assert len({(line["model"], line["task"], line["seed"]) for line in lines}) == len(lines)
    mine, theirs = (folder_bytes(root / name) for name in ("ray", "serial"))
    named = {"cmerge.lock.json", "suggested_mixture.yaml"}
    assert sorted(mine) == sorted(theirs)
    assert [name for name in mine if mine[name] != theirs[name] and name not in named] == []


def test_a_missing_ray_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DependencyError) as caught:
        require_ray(None)
    assert "mergekit_audio[distributed]" in caught.value.hint


@has_ray
def test_a_cluster_s_token_is_asked_for(monkeypatch, tmp_path):
    for name in (MODE, TOKEN, TOKEN_PATH):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DependencyError, match=r"no token for the Ray cluster at 10\.0\.0\.1:6379"):
        require_ray("10.0.0.1:6379")
    (tmp_path / "token").write_text("secret")
    monkeypatch.setenv(TOKEN_PATH, str(tmp_path / "token"))
    require_ray("10.0.0.1:6379")
    require_ray("auto")


@has_ray
@pytest.mark.parametrize("address", ["10.0.0.1", "ray://10.0.0.1:10001", ":6379", "host:port"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(UsageError, match="no address of a Ray cluster"):
        require_ray(address)
