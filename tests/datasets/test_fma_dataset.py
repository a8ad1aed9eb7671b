"""FMA-medium: ccml's split files and the tables of ``fma_metadata.zip``."""

from __future__ import annotations

from pathlib import Path

import pytest
from raw_corpora import fma_row, write_audio, write_fma, write_ids

from mergekit_audio.audio.corpus import load_tracks
from mergekit_audio.datasets._importing import plan, report
from mergekit_audio.datasets.fma_medium import FmaMedium
from mergekit_audio.errors import InputError

SPLITS = {"train": ["000002", "000005"], "valid": ["000010"], "test": ["133297"]}
ROWS = [
    fma_row(2, "small", "[12, 25]"),
    fma_row(3, "large", "[12]"),
    fma_row(5, "medium", "[15]", "Somebody"),
    fma_row(10, "medium", "[1]"),
    fma_row(20, "medium", "[]"),
    fma_row(133297, "medium", "[12]"),
]
PLACES = ("000/000002", "000/000005", "000/000010", "133/133297")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    write_fma(folder, SPLITS, ROWS)
    write_audio(folder, *(f"fma_medium/{place}.mp3" for place in PLACES))
    return folder


def test_the_pinned_genres() -> None:
    labels = FmaMedium().labels()
    assert len(labels) == 20
    assert "genre--Hardcore" in labels
    assert "genre--Trip-Hop" not in labels
    assert FmaMedium.test_positives["genre--Rock"] == 1396
    assert sum(FmaMedium.test_positives.values()) == 7233
    assert sum(FmaMedium.splits.values()) == 24_980


def test_tracks_get_their_genres_with_the_parents(raw: Path, tmp_path: Path) -> None:
    tracks = load_tracks(FmaMedium().import_from(raw, tmp_path / "corpus"))
    assert [(track.id, track.split, track.tags) for track in tracks] == [
        ("000002", "train", ("genre--Punk", "genre--Rock")),
        ("000005", "train", ("genre--Electronic",)),
        ("000010", "valid", ()),
        ("133297", "test", ("genre--Rock",)),
    ]
    assert tracks[1].artist == "Somebody"
    assert tracks[3].path.name == "133297.mp3"


def test_medium_tracks_without_a_split_and_without_a_genre_are_listed(raw: Path) -> None:
    value = report(plan(FmaMedium(), raw)).as_dict()["findings"]
    assert [entry["id"] for entry in value["without_split"]] == ["000020"]
    assert [entry["id"] for entry in value["unlabelled"]] == ["000010"]
    counted = [e["id"] for e in value["differing_labels"] if e["reason"] == "only counted"]
    assert counted == []


def test_odd_metadata_of_single_tracks_is_listed(raw: Path) -> None:
    rows = [
        fma_row(2, "small", "[12, 999]"),
        fma_row(5, "medium", "Rock"),
        fma_row(10, "medium", "[[1]]"),
    ]
    write_fma(raw, SPLITS, rows)
    value = report(plan(FmaMedium(), raw)).as_dict
    with pytest.raises(InputError, match="no recording of FMA-medium can be used"):
        FmaMedium().import_from(raw, raw.parent / "corpus")
    findings = value()["findings"]
    assert {entry["id"]: entry["reason"] for entry in findings["broken_metadata"]} == {
        "000002": "genres_all: genres [999] are not in genres.csv",
        "000005": "genres_all: expected a list of numbers, found 'Rock'",
        "000010": "genres_all: expected a list of numbers, found '[[1]]'",
    }
    assert [entry["id"] for entry in findings["missing_metadata"]] == ["133297"]


def test_all_faults_of_the_tables_are_one_error(raw: Path) -> None:
    tracks = raw / "fma_metadata/tracks.csv"
    tracks.write_text(tracks.read_text().replace("genres_all", "genres"))
    genres = raw / "fma_metadata/genres.csv"
    genres.write_text(genres.read_text() + "x,1,0,Odd,0\n")
    write_ids(raw, {"valid": ["000002", "000010"]}, width=6)
    with pytest.raises(InputError) as caught:
        plan(FmaMedium(), raw)
    assert [line.rpartition("/")[2] for line in caught.value.message.splitlines()] == [
        "valid.npy: '000002' is in train already",
        "genres.csv:6: genre_id: expected a number, found 'x'",
        "tracks.csv:1: has no column track.genres_all",
    ]
    assert "fma_metadata.zip" in caught.value.hint


def test_a_row_s_fault_names_its_line_after_cells_with_line_breaks(raw: Path) -> None:
    tracks = raw / "fma_metadata/tracks.csv"
    tracks.write_text(tracks.read_text() + "77,0\n")
    # three lines of header, six rows of two lines each
    with pytest.raises(InputError, match=r"tracks.csv:16: expected a track id and 10 cells"):
        plan(FmaMedium(), raw)
    tracks.write_text("id,genre\n1,Rock\n")
    with pytest.raises(InputError, match="expected a header of three lines"):
        plan(FmaMedium(), raw)


def test_a_biography_may_be_longer_than_the_reader_s_own_limit(raw: Path) -> None:
    tracks = raw / "fma_metadata/tracks.csv"
    tracks.write_text(tracks.read_text().replace("of two", "x" * 200_000, 1))
    assert len(plan(FmaMedium(), raw).found) == 4
