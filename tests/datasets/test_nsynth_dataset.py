"""NSynth: an ``examples.json`` for each split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from importing import faults, findings, imported, write_lines
from raw_corpora import write_audio

from mergekit_audio.datasets.nsynth import Nsynth


class TestNsynth:
    """An ``examples.json`` for each split."""

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Path:
        raw = tmp_path / "raw"
        for pitch, split in enumerate(("train", "valid", "test"), start=60):
            name = f"guitar_acoustic_{pitch}-060-127"
            note = {"note": pitch, "instrument_family_str": "guitar", "pitch": pitch}
            write_lines(raw / f"nsynth-{split}/examples.json", json.dumps({name: note}))
            write_audio(raw, f"nsynth-{split}/audio/{name}.wav")
        return raw

    def test_families_and_pitches(self, raw: Path) -> None:
        assert {tags for _, _, tags in imported(Nsynth(), raw)} == {("instrument--guitar",)}
        assert [tags for _, _, tags in imported(Nsynth(label="pitch"), raw)] == [
            ("pitch--060",),
            ("pitch--061",),
            ("pitch--062",),
        ]
        assert (len(Nsynth().labels()), len(Nsynth(label="pitch").labels())) == (11, 128)
        assert "label" in json.loads((raw.parent / "corpus/report.json").read_text())["settings"]

    def test_odd_notes_are_listed(self, raw: Path) -> None:
        notes = {"a": {"instrument_family_str": "kazoo", "pitch": 200}, "b": None}
        write_lines(raw / "nsynth-train/examples.json", json.dumps(notes))
        assert findings(Nsynth(), raw)["broken_metadata"] == [
            ("a", "instrument_family_str: found 'kazoo'"),
            ("b", "instrument_family_str: found None"),
        ]
        found = findings(Nsynth(label="pitch"), raw)["broken_metadata"]
        assert found[0] == ("a", "pitch: expected 0 to 127, found 200")

    def test_every_fault_is_listed(self, raw: Path) -> None:
        (raw / "nsynth-test/examples.json").unlink()
        text = (raw / "nsynth-train/examples.json").read_text()
        (raw / "nsynth-valid/examples.json").write_text(text)
        (raw / "nsynth-train/examples.json").write_text(text)
        assert faults(Nsynth(), raw) == [
            "nsynth-valid/examples.json: 'guitar_acoustic_60-060-127' is in train already",
            "nsynth-test/examples.json: no such file",
        ]
        (raw / "nsynth-valid/examples.json").write_text("[]")
        (raw / "nsynth-test/examples.json").write_text("{")
        lines = faults(Nsynth(), raw)
        assert lines[0] == "nsynth-valid/examples.json: expected an object with a key for each note"
        assert "is not JSON" in lines[1]
