"""GiantSteps tempo: folds, and a file with one number for each recording."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from importing import faults, findings, imported, write_lines
from raw_corpora import write_audio

from mergekit_audio.datasets.giantsteps_tempo import GiantstepsTempo


class TestGiantstepsTempo:
    """Folds, and a file with one number each."""

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Path:
        raw = tmp_path / "raw"
        root = raw / "giantsteps-tempo-dataset"
        for number in range(1, 11):
            write_lines(root / f"splits/fold{number:02d}.txt", f"{number}.LOFI.mp3")
            write_lines(root / f"annotations_v2/tempo/{number}.LOFI.bpm", f"{100 + number}.0")
            write_lines(root / f"annotations/tempo/{number}.LOFI.bpm", f"{200 + number}")
            write_audio(raw, f"giantsteps-tempo-dataset/audio/{number}.LOFI.mp3")
        return raw

    def test_both_versions(self, raw: Path) -> None:
        for version, expected in (("v2", 101.0), ("v1", 201.0)):
            dataset = GiantstepsTempo(annotations=version)
            items = {item.id: item for item in dataset.read(raw).items}
            assert items["1"].values == (("tempo_bpm", expected),)
        splits = [items[str(number)].split for number in range(1, 11)]
        assert splits == [*["train"] * 7, "valid", "test", "test"]
        assert len(imported(GiantstepsTempo(), raw)) == 10
        value = json.loads((raw.parent / "corpus/report.json").read_text(encoding="utf-8"))
        assert value["settings"] == {"annotations": "v2"}

    def test_recordings_without_a_tempo_are_listed(self, raw: Path) -> None:
        root = raw / "giantsteps-tempo-dataset/annotations_v2/tempo"
        write_lines(root / "3.LOFI.bpm", "0.0")
        (root / "4.LOFI.bpm").unlink()
        found = findings(GiantstepsTempo(), raw)
        assert [name for name, _ in found["without_values"]] == ["3"]
        assert [name for name, _ in found["missing_metadata"]] == ["4"]

    def test_every_fault_is_listed(self, raw: Path) -> None:
        root = raw / "giantsteps-tempo-dataset/splits"
        write_lines(root / "fold02.txt", "1.LOFI.mp3", "song.mp3")
        (root / "fold10.txt").unlink()
        assert [line.rpartition("dataset/")[2] for line in faults(GiantstepsTempo(), raw)] == [
            "splits/fold02.txt:1: '1' is in another fold already",
            "splits/fold02.txt:2: expected <id>.LOFI.mp3, found 'song.mp3'",
            "splits/fold10.txt: no such file (nor splits/fold10.txt)",
        ]
