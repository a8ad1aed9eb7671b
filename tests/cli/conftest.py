"""Fixtures of the command line: `cmerge` in this process, and models to merge."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import PLAIN, Done

os.environ.update(PLAIN)


@pytest.fixture
def cmerge(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., Done]]:
    """Return a function that runs `cmerge` in this process, in the folder ``tmp_path``."""
    from mergekit_audio.cli.main import main

    monkeypatch.chdir(tmp_path)
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "TRANSFORMERS_VERBOSITY"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    monkeypatch.delenv("CMERGE_DEBUG", raising=False)
    handler = signal.getsignal(signal.SIGTERM)

    def run(*words: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, captured.out, captured.err)

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the tiny checkpoints ``base``, ``a`` and ``b``; not to be changed."""
    from checkpoints import make_mert_checkpoint

    folder = tmp_path_factory.mktemp("models")
    base = make_mert_checkpoint(folder / "base")
    for seed, name in ((1, "a"), (2, "b")):
        make_mert_checkpoint(folder / name, perturb_of=base, seed=seed)
    return folder


@pytest.fixture
def merge_recipe(models: Path, tmp_path: Path) -> Path:
    """Return a merge recipe of ``a`` and ``b`` that writes ``out`` beside itself."""
    path = tmp_path / "merge.yaml"
    path.write_text(
        f"kind: merge\nbase: {models}/base\n"
        f"models:\n  - {{model: {models}/a}}\n  - {{model: {models}/b, weight: 0.5}}\n"
        "method: {name: task_arithmetic}\nscale: 0.2\noutput: out\n"
    )
    return path
