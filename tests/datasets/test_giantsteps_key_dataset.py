"""GiantSteps key: tables of MTG-Keys, a file for each test recording."""

from __future__ import annotations

from pathlib import Path

import pytest
from importing import faults, findings, imported, write_lines
from raw_corpora import write_audio

from mergekit_audio.datasets.giantsteps_key import GiantstepsKey, artist_splits


class TestGiantstepsKey:
    """Tables of MTG-Keys, files of GiantSteps key."""

    TRAIN, TEST = "giantsteps-mtg-key-dataset", "giantsteps-key-dataset"

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Path:
        raw = tmp_path / "raw"
        write_lines(
            raw / f"{self.TRAIN}/annotations/annotations.txt",
            "ID\tMANUAL KEY\tC",
            "1\tD# minor\t2",
            "2\tC major / A minor\t2",
            "3\tA major\t1",
            "4\tB major \t2",
            "5\tH major\t2",
            "6\tC major\t2",
        )
        rows = ("1\tAn Artist, B", "2\tX", "3\tX", "4\tB", "5\tX")
        header = "ID\tARTIST\tSONG TITLE"
        lines = [header, *(row + "\tA title" for row in rows)]
        write_lines(raw / f"{self.TRAIN}/annotations/beatport_metadata.txt", *lines)
        write_lines(raw / f"{self.TEST}/annotations/key/9.LOFI.key", "Gb major")
        write_audio(raw, *(f"{self.TRAIN}/audio/{n}.LOFI.mp3" for n in (1, 2, 3, 4)))
        write_audio(raw, f"{self.TEST}/audio/9.LOFI.mp3")
        return raw

    def test_keys_with_sharps_and_what_is_left_out(self, raw: Path) -> None:
        rows = imported(GiantstepsKey(), raw)
        assert [(name, tags) for name, _, tags in rows] == [
            ("1", ("key--D# minor",)),
            ("4", ("key--B major",)),
            ("9", ("key--F# major",)),
        ]
        assert rows[0][1] == rows[1][1] != "test"
        assert rows[2][1] == "test"
        found = findings(GiantstepsKey(), raw)
        assert [name for name, _ in found["not_one_label"]] == ["2", "3"]
        assert found["broken_metadata"] == [("5", "no key: 'H major'")]
        assert found["missing_metadata"] == [("6", "no beatport_metadata.txt row")]

    def test_those_who_play_with_a_validating_artist_validate(self) -> None:
        names = [f"artist {number}" for number in range(60)]
        splits = artist_splits({name: (name,) for name in names})
        valid = [name for name in names if splits[name] == "valid"]
        train = [name for name in names if splits[name] == "train"]
        assert 0 < len(valid) < 25
        joined = artist_splits(
            {"1": (train[0], train[1]), "2": (train[0], valid[0]), "3": (train[2],)}
        )
        assert [joined[name] for name in (*train[:3], valid[0])] == [
            "valid",
            "valid",
            "train",
            "valid",
        ]

    def test_every_fault_is_listed(self, raw: Path) -> None:
        write_lines(
            raw / f"{self.TRAIN}/annotations/annotations.txt",
            "ID\tMANUAL KEY\tC",
            "one\tC major\t2",
            "1\tC major\t2",
            "1\tC major\t2",
        )
        (raw / f"{self.TRAIN}/annotations/beatport_metadata.txt").write_text("ID\tNAME\n")
        (raw / f"{self.TEST}/annotations/key/9.LOFI.key").unlink()
        assert [line.rpartition("/")[2] for line in faults(GiantstepsKey(), raw)] == [
            "annotations.txt:2: ID: expected a number, found 'one'",
            "annotations.txt:4: '1' is listed twice",
            "beatport_metadata.txt:1: has no column ARTIST; found ID, NAME",
            "key: holds no <id>.LOFI.key",
        ]

    def test_the_24_keys(self) -> None:
        assert len(set(GiantstepsKey().labels())) == 24
        assert sum(GiantstepsKey.splits.values()) == 1_763
