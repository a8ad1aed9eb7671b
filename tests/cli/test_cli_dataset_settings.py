"""Settings of datasets: ``cmerge data import NAME RAW --set key=value``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Done
from raw_corpora import write_audio

from mergekit_audio.audio.corpus import load_tracks


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_audio(tmp_path / "raw", *(f"{c}/{n}.wav" for c in ("ney", "oud") for n in range(5)))
    return tmp_path / "raw"


def test_a_setting_is_taken_and_every_wrong_one_is_told(
    raw: Path, cmerge: Callable[..., Done], tmp_path: Path
) -> None:
    done = cmerge("data", "import", "folder", "raw", "-o", "out", "--set", "label_category=genre")
    assert done.code == 0
    assert load_tracks(tmp_path / "out")[0].tags == ("genre--ney",)
    assert "label_category: " in cmerge("data", "info", "folder").out
    done = cmerge(
        "data", "import", "folder", "raw", "-o", "x", "--set", "split_sed=1", "--set", "y=2"
    )
    assert done.code == 2
    assert "--set split_sed: no such setting; did you mean 'split_seed'?" in done.err
    assert "--set y: no such setting" in done.err
    done = cmerge("data", "import", "nsynth", "raw", "-o", "x", "--set", "label=colour")
    assert done.code == 2
    assert "--set label: Input should be 'instrument' or 'pitch'" in done.err
    done = cmerge("data", "import", "gtzan", "raw", "-o", "x", "--set", "label=x")
    assert "gtzan has no settings" in done.err
