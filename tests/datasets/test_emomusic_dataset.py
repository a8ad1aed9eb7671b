"""Emomusic: two CSV files with cells that begin or end with blanks."""

from __future__ import annotations

from pathlib import Path

import pytest
from importing import faults, findings, imported, write_lines
from raw_corpora import write_audio

from mergekit_audio.audio.corpus import load_tracks
from mergekit_audio.datasets.emomusic import Emomusic, split_of


class TestEmomusic:
    """Two CSV files with cells that begin with blanks or tabs."""

    INFO = (
        "song_id,file_name,Artist,Song title,start of the segment (min.sec),"
        "end of the segment (min.sec),Genre,Mediaeval 2013 set"
    )
    STATIC = "song_id,mean_arousal,std_arousal,mean_valence,std_valence"

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Path:
        raw = tmp_path / "raw"
        write_lines(
            raw / "annotations/songs_info.csv",
            self.INFO,
            "2,2.mp3,The New Mystikal Troubadours ,Tonight,0.48,1.33,Blues,development\t",
            '5,5.mp3,"My Bubba & Mi",Nothing Much,0.36,1.21,Blues,development',
            "7,7.mp3,Somebody,A song,0.10,0.55,Rock,evaluation",
        )
        rows = ("2,3.1,0.94,3,0.63", "5,4.4,2.1187,5.3,1.9465", "7,5,1,6,1")
        write_lines(raw / "annotations/static_annotations.csv", self.STATIC, *rows)
        write_audio(raw, *(f"clips_45seconds/{number}.mp3" for number in (2, 5, 7)))
        return raw

    def test_values_and_splits(self, raw: Path) -> None:
        imported(Emomusic(), raw)
        tracks = load_tracks(raw.parent / "corpus")
        assert [(track.id, track.split) for track in tracks] == [
            ("0002", split_of("The New Mystikal Troubadours")),
            ("0005", split_of("My Bubba & Mi")),
            ("0007", "test"),
        ]
        assert tracks[1].values == (("arousal", 4.4), ("valence", 5.3))
        assert tracks[0].artist == "The New Mystikal Troubadours"

    def test_the_artist_alone_decides(self) -> None:
        assert split_of("The  New Mystikal\tTroubadours!") == split_of(
            "the new mystikal troubadours"
        )
        names = [split_of(f"artist {chr(97 + n % 26) * (1 + n // 26)}") for n in range(200)]
        assert 100 < names.count("train") < 200

    def test_odd_songs_are_listed(self, raw: Path) -> None:
        write_lines(
            raw / "annotations/static_annotations.csv", self.STATIC, "2,,0,3,0", "7,5,1,6,1"
        )
        with open(raw / "annotations/songs_info.csv", "a", encoding="utf-8") as stream:
            stream.write("9,9.mp3,X,Y,0.1,0.2,Rock,training\n")
        assert findings(Emomusic(), raw) == {
            "broken_metadata": [
                ("0002", "mean_arousal: expected a number, found ''"),
                (
                    "0009",
                    "Mediaeval 2013 set: expected development or evaluation, found 'training'",
                ),
            ],
            "missing_metadata": [("0005", "is not in static_annotations.csv")],
        }

    def test_every_fault_is_listed(self, raw: Path) -> None:
        write_lines(raw / "annotations/songs_info.csv", self.INFO.replace("Artist", "Performer"))
        write_lines(
            raw / "annotations/static_annotations.csv", self.STATIC, *["2,1,0,3,0"] * 2, "x,1,1,1,1"
        )
        lines = faults(Emomusic(), raw)
        assert "has no column Artist" in lines[0]
        assert lines[1:] == [
            "annotations/static_annotations.csv:3: song_id: 2 is listed twice",
            "annotations/static_annotations.csv:4: song_id: expected a number, found 'x'",
        ]
