"""MTG-Jamendo's four subsets: three TSV files whose rows have as many cells as tags."""

from __future__ import annotations

from pathlib import Path

import pytest
from importing import faults, findings, imported
from raw_corpora import write_audio

from mergekit_audio.audio.corpus import load_tracks
from mergekit_audio.datasets.base import PublicDataset
from mergekit_audio.datasets.mtg_genre import MtgGenre
from mergekit_audio.datasets.mtg_instrument import MtgInstrument
from mergekit_audio.datasets.mtg_moodtheme import MtgMoodtheme
from mergekit_audio.datasets.mtg_top50 import MtgTop50


class TestMtgJamendo:
    """Three TSV files whose rows have as many cells as tags."""

    HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Path:
        raw = tmp_path / "raw"
        for number, split in enumerate(("train", "validation", "test"), start=14):
            self.write(raw, split, self.row(number, "genre---rock", "genre---pop"))
        write_audio(raw, "audio-low/14/14.low.mp3", "audio/15/15.mp3", "audio-low/16/16.low.mp3")
        return raw

    def row(self, number: int, *tags: str) -> str:
        cells = (f"track_{number:07d}", f"artist_{number:06d}", "album_000001")
        return "\t".join([*cells, f"{number % 100:02d}/{number}.mp3", "215.7", *tags])

    def write(self, raw: Path, split: str, *rows: str) -> None:
        path = raw / f"data/splits/split-0/autotagging_genre-{split}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes("".join(row + "\r\n" for row in (self.HEADER, *rows)).encode())

    def test_tracks_with_their_tags_and_artists(self, raw: Path) -> None:
        both = ("genre--pop", "genre--rock")
        assert imported(MtgGenre(), raw) == [
            ("track_0000014", "train", both),
            ("track_0000015", "valid", both),
            ("track_0000016", "test", both),
        ]
        tracks = load_tracks(raw.parent / "corpus")
        assert tracks[0].path.name == "14.low.mp3"
        assert tracks[0].artist == "artist_000014"

    def test_missing_audio_and_unlabelled_tracks_are_listed(self, raw: Path) -> None:
        self.write(raw, "test", self.row(17, "genre---rock"), self.row(16, "genre---unknown"))
        found = findings(MtgGenre(), raw)
        assert found["missing_audio"] == [("track_0000017", "no audio-low/17/17.low.mp3")]
        assert found["unlabelled"] == [("track_0000016", "test")]

    def test_every_fault_is_listed(self, raw: Path) -> None:
        self.write(
            raw,
            "test",
            self.row(14, "genre---rock"),
            self.row(18, "genre-rock"),
            self.row(19, "genre---pop").replace("19/19.mp3", "../19.mp3"),
            "track_0000020\tartist",
        )
        place = "data/splits/split-0/autotagging_genre"
        (raw / f"{place}-train.tsv").write_text("TRACK_ID\tPATH\n")
        (raw / f"{place}-validation.tsv").unlink()
        lines = faults(MtgGenre(), raw)
        assert lines[0].startswith(f"{place}-train.tsv:1: expected the columns TRACK_ID, ARTIST_ID")
        assert lines[1].startswith(f"{place}-validation.tsv: no such file")
        assert lines[2:] == [
            f"{place}-test.tsv:3: TAGS: expected category---value, found 'genre-rock'",
            f"{place}-test.tsv:4: PATH: expected <folder>/<number>.mp3, found '../19.mp3'",
            f"{place}-test.tsv:5: has 2 cells, expected at least 6",
        ]

    def test_a_track_in_two_splits_is_a_fault(self, raw: Path) -> None:
        self.write(raw, "test", self.row(14, "genre---rock"))
        assert [line.rpartition(": ")[2] for line in faults(MtgGenre(), raw)] == [
            "'track_0000014' is in train already"
        ]

    @pytest.mark.parametrize(
        ("dataset", "labels", "tracks"),
        [
            (MtgTop50(), 50, 54_380),
            (MtgGenre(), 87, 55_094),
            (MtgInstrument(), 40, 24_976),
            (MtgMoodtheme(), 56, 17_982),
        ],
    )
    def test_published_facts(self, dataset: PublicDataset, labels: int, tracks: int) -> None:
        assert len(set(dataset.labels())) == labels == dataset.top_tags
        assert list(dataset.labels()) == sorted(dataset.labels())
        assert sum(dataset.splits.values()) == tracks
        assert len(dataset.checksums) == 3
