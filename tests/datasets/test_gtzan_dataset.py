"""GTZAN: genres and tempi on the fault-filtered lists."""

from __future__ import annotations

from pathlib import Path

import pytest
from importing import faults, findings, imported, write_lines
from raw_corpora import write_audio

from mergekit_audio.audio.corpus import load_tracks
from mergekit_audio.datasets.gtzan import Gtzan
from mergekit_audio.datasets.gtzan_tempo import GtzanTempo


class TestGtzan:
    """Lists of ``genre/genre.number.wav``."""

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Path:
        raw = tmp_path / "raw"
        write_lines(
            raw / "GTZAN_split/train_filtered.txt", "blues/blues.00029.wav", "rock/rock.00001.wav"
        )
        write_lines(raw / "GTZAN_split/valid_filtered.txt", "blues/blues.00000.wav")
        write_lines(raw / "GTZAN_split/test_filtered.txt", "rock/rock.00002.wav", "")
        names = ("blues/blues.00029", "rock/rock.00001", "blues/blues.00000", "rock/rock.00002")
        write_audio(raw, *(f"genres/{name}.wav" for name in names))
        return raw

    def test_genres(self, raw: Path) -> None:
        assert imported(Gtzan(), raw) == [
            ("blues.00000", "valid", ("genre--blues",)),
            ("blues.00029", "train", ("genre--blues",)),
            ("rock.00001", "train", ("genre--rock",)),
            ("rock.00002", "test", ("genre--rock",)),
        ]
        assert len(findings(Gtzan(), raw)["known_broken"]) == 996

    def test_every_fault_is_listed(self, raw: Path) -> None:
        write_lines(
            raw / "GTZAN_split/valid_filtered.txt", "blues/rock.00001.wav", "rock/rock.00002.wav"
        )
        (raw / "GTZAN_split/train_filtered.txt").unlink()
        assert faults(Gtzan(), raw) == [
            "GTZAN_split/train_filtered.txt: no such file (nor split/train_filtered.txt, "
            "train_filtered.txt)",
            "GTZAN_split/valid_filtered.txt:1: expected <genre>/<genre>.<number>.wav, found "
            "'blues/rock.00001.wav'",
            "GTZAN_split/test_filtered.txt:1: 'rock.00002' is in valid already",
        ]

    def test_tempi(self, raw: Path) -> None:
        folder = raw / "gtzan_tempo_beat-main/tempo"
        write_lines(folder / "gtzan_blues_00029.bpm", "8.553000000000000114e+01")
        write_lines(folder / "gtzan_blues_00000.bpm", "fast")
        write_lines(folder / "gtzan_rock_00001.bpm", "-1")
        found = findings(GtzanTempo(), raw)
        assert [name for name, _ in found["broken_metadata"]] == ["blues.00000", "rock.00001"]
        assert found["missing_metadata"] == [
            ("rock.00002", "no gtzan_tempo_beat/tempo/gtzan_rock_00002.bpm")
        ]
        imported(GtzanTempo(), raw)
        (track,) = load_tracks(raw.parent / "corpus")
        assert track.values == (("tempo_bpm", 85.53),)
        assert track.tags == ()
