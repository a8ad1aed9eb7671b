"""VocalSet: folders of singers, exercises and techniques."""

from __future__ import annotations

from pathlib import Path

import pytest
from importing import imported
from raw_corpora import write_audio

from mergekit_audio.audio.corpus import load_tracks
from mergekit_audio.datasets.vocalset import Vocalset
from mergekit_audio.errors import InputError


class TestVocalset:
    """Folders of singers, exercises and techniques."""

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Path:
        raw = tmp_path / "raw"
        for folder, singer in (("female1", "f1"), ("female2", "f2"), ("male11", "m11")):
            for technique in ("belt", "vibrato", "pp"):
                names = [f"{singer}_scales_{technique}_{vowel}.wav" for vowel in "aeiou"]
                write_audio(raw, *(f"FULL/{folder}/scales/{technique}/{name}" for name in names))
        write_audio(raw, "FULL/female1/scales/vibrato/caro_vibrato.wav")
        write_audio(raw, "FULL/female1/scales/belt/row_belt.wav")
        write_audio(raw, "FULL/female1/scales/unknown/f1_x.wav")
        return raw

    def test_singers(self, raw: Path) -> None:
        rows = imported(Vocalset(), raw)
        assert len(rows) == 46
        assert {split for _, split, _ in rows} == {"train", "valid", "test"}
        assert {tags for _, _, tags in rows} == {
            ("singer--f1",),
            ("singer--f2",),
            ("singer--m11",),
        }
        assert len(Vocalset().labels()) == 20

    def test_techniques_are_tested_on_other_singers(self, raw: Path) -> None:
        dataset = Vocalset(label="technique")
        rows = imported(dataset, raw)
        assert len(rows) == 31
        tested = {name.split("/")[1] for name, split, _ in rows if split == "test"}
        assert tested == {"female2"}
        assert {split for name, split, _ in rows if "female2" not in name} == {"train", "valid"}
        assert len(dataset.labels()) == 10
        assert {track.artist for track in load_tracks(raw.parent / "corpus")} == {"f1", "f2", "m11"}

    def test_version_1_2_lies_elsewhere(self, raw: Path) -> None:
        before = [(item.id.partition("/")[2], item.split) for item in Vocalset().read(raw).items]
        (raw / "VocalSet1-2").mkdir()
        (raw / "FULL").rename(raw / "VocalSet1-2/data_by_singer")
        items = Vocalset().read(raw).items
        assert [(item.id.split("/", 2)[2], item.split) for item in items] == before

    def test_an_empty_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="holds no FULL"):
            Vocalset().read(tmp_path)
