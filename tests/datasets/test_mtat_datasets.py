"""MagnaTagATune, clean and full: two names, two lists of clips, one list of tags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from raw_corpora import MTAT_TAGS, write_audio, write_ids, write_mtat_clean, write_mtat_full

from mergekit_audio.audio.corpus import load_tracks
from mergekit_audio.datasets._importing import plan, report
from mergekit_audio.datasets._mtat import BROKEN, TAGS
from mergekit_audio.datasets.mtat_clean import MtatClean
from mergekit_audio.datasets.mtat_full import MtatFull
from mergekit_audio.errors import InputError

CLEAN = {
    "train": [(0, "0/artist_a-album-01-song-0-29.mp3"), (1, "b/artist_b-album-02-song-29-58.mp3")],
    "valid": [(49, "c/artist_c-album-03-song-0-29.mp3")],
    "test": [(2, "d/artist_d-album-04-song-0-29.mp3")],
}
FULL = {
    "0/a-x-01-s-0-29.mp3": ("guitar", "zz rare"),
    "b/b-x-01-s-0-29.mp3": ("guitar", "no vocal"),
    "c/c-x-01-s-0-29.mp3": ("choral",),
    "d/d-x-01-s-0-29.mp3": (),
    "e/e-x-01-s-0-29.mp3": ("rock",),
    "f/f-x-01-s-0-29.mp3": ("zz rare",),
    next(iter(BROKEN)): ("guitar",),
}


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    raw = tmp_path / "raw"
    write_mtat_clean(raw, CLEAN)
    write_audio(raw, *(f"audios/{path}" for rows in CLEAN.values() for _, path in rows))
    return raw


@pytest.fixture
def full(tmp_path: Path) -> Path:
    raw = tmp_path / "raw"
    write_mtat_full(raw, FULL)
    write_audio(raw, *(f"audios/{path}" for path in FULL))
    return raw


def test_both_versions_have_the_same_tags_and_say_which_they_are() -> None:
    assert TAGS == MTAT_TAGS
    assert MtatClean().labels() == MtatFull().labels()
    assert len(MtatClean().labels()) == 50
    assert sum(MtatClean.splits.values()) == 21_108
    assert sum(MtatFull.splits.values()) == 25_860
    assert sum(MtatClean.test_positives.values()) == 14_149
    for dataset in (MtatClean, MtatFull):
        assert "two public versions" in dataset.notes
    assert len(BROKEN) == 3


def test_clean_clips_take_their_tags_from_their_row(clean: Path, tmp_path: Path) -> None:
    tracks = load_tracks(MtatClean().import_from(clean, tmp_path / "corpus"))
    assert [(track.id[0], track.split, track.tags) for track in tracks] == [
        ("0", "train", ("tag--classical", "tag--guitar")),
        ("b", "train", ("tag--classical", "tag--slow")),
        ("c", "valid", ("tag--choral", "tag--guitar")),
        ("d", "test", ("tag--slow", "tag--techno")),
    ]
    assert [track.artist for track in tracks] == ["artist_a", "artist_b", "artist_c", "artist_d"]


def test_faults_of_the_clean_split_are_listed_at_once(clean: Path) -> None:
    write_ids(clean, {"train": ["0 0/a.mp3", "x\t0/b.mp3"], "test": ["70\td/a.mp3"]}, width=40)
    np.save(clean / "split/tags.npy", np.array(["guitar", "banjo"]))
    with pytest.raises(InputError) as caught:
        plan(MtatClean(), clean)
    assert [line.rpartition("split/")[2] for line in caught.value.message.splitlines()] == [
        "tags.npy: is not the published list: banjo",
        "train.npy: entry 0: expected index<TAB>path, found '0 0/a.mp3'",
        "train.npy: entry 1: expected index<TAB>path, found 'x\\t0/b.mp3'",
        "test.npy: entry 0: binary.npy has no row 70",
    ]


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (np.zeros((50, 49)), r"found shape \[50, 49\] of float64"),
        (np.full((50, 50), 2), "expected only 0 and 1"),
        (np.full((50, 50), np.nan), "expected only 0 and 1"),
        (np.full((50, 50), "1"), "expected numbers of shape"),
        (np.full((50, 50), 1, dtype=object), "holds pickled Python objects"),
    ],
)
def test_labels_of_another_form(clean: Path, array: np.ndarray, problem: str) -> None:
    np.save(clean / "split/binary.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=problem):
        plan(MtatClean(), clean)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.float32])
def test_labels_may_be_of_any_number_type(clean: Path, kind: type) -> None:
    expected = plan(MtatClean(), clean).found
    path = clean / "split/binary.npy"
    np.save(path, np.load(path).astype(kind))
    assert plan(MtatClean(), clean).found == expected


def test_full_clips_are_split_by_the_first_character(full: Path, tmp_path: Path) -> None:
    tracks = load_tracks(MtatFull().import_from(full, tmp_path / "corpus"))
    assert [(track.id[0], track.split, track.tags) for track in tracks] == [
        ("0", "train", ("tag--guitar",)),
        ("b", "train", ("tag--guitar", "tag--no vocal")),
        ("c", "valid", ("tag--choral",)),
        ("d", "test", ()),
        ("e", "test", ("tag--rock",)),
        ("f", "test", ()),
    ]


def test_broken_clips_are_listed_and_not_counted(full: Path) -> None:
    found = report(plan(MtatFull(), full)).as_dict()
    assert [entry["id"] for entry in found["findings"]["known_broken"]] == [
        next(iter(BROKEN)).removesuffix(".mp3")
    ]
    assert found["splits"]["train"]["listed"] == 2
    assert [entry["id"][0] for entry in found["findings"]["unlabelled"]] == ["d", "f"]


def test_faults_of_the_annotations_are_listed_at_once(full: Path) -> None:
    path = full / "annotations_final.csv"
    lines = path.read_text().splitlines()
    lines[2] = lines[2].replace('"1"', '"yes"')
    lines[4] = lines[4].rpartition("\t")[0]
    path.write_text("\n".join(lines))
    with pytest.raises(InputError) as caught:
        plan(MtatFull(), full)
    assert [line.rpartition("csv:")[2] for line in caught.value.message.splitlines()] == [
        "5: has 52 cells, the header has 53",
        "3: guitar: expected 0 or 1, found 'yes'",
    ]


def test_a_clip_in_a_strange_folder_has_no_split(full: Path) -> None:
    write_mtat_full(full, {**FULL, "x/z-1.mp3": ("rock",)})
    found = report(plan(MtatFull(), full)).as_dict()["findings"]
    assert [entry["id"] for entry in found["without_split"]] == ["x/z-1"]
