"""Lyra: its two TSV files, its validation split, ``place--None``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from raw_corpora import lyra_row, write_audio, write_lyra

from mergekit_audio.audio.corpus import load_tracks
from mergekit_audio.datasets._importing import plan, report
from mergekit_audio.datasets.lyra import Lyra, _valid_places
from mergekit_audio.errors import InputError


def write_small(raw: Path) -> None:
    training = [
        lyra_row(f"t{number:02d}", "Voice|Laouto", "Traditional|Aegean", "Aegean-sea|Lesbos")
        for number in range(20)
    ]
    test = [lyra_row("x", "Violin", "Laiko", "None"), lyra_row("y", "Gaida", "Rizitiko", "Crete")]
    write_lyra(raw, training, test)
    write_audio(raw, *(f"audios/t{number:02d}.wav" for number in range(20)), "audios/x.wav")
    write_audio(raw, "audios/y.mp3")


def test_the_pinned_tags_hold_the_place_that_is_none() -> None:
    labels = Lyra().labels()
    assert len(labels) == 30
    assert "place--None" in labels
    assert Lyra.test_positives["place--None"] == 61
    assert sum(Lyra.test_positives.values()) == 1996
    assert Lyra.splits == {"train": 1_116, "valid": 124, "test": 330}


def test_a_tenth_of_the_training_pieces_validates() -> None:
    for count in (0, 1, 9, 10, 20, 1_240):
        places = np.arange(count)
        np.random.RandomState(10).shuffle(places)
        assert _valid_places(count) == frozenset(places[: count // 10].tolist())
    assert len(_valid_places(1_240)) == 124
    assert sorted(_valid_places(20)) == [7, 10]


def test_pieces_get_their_tags_and_splits(tmp_path: Path) -> None:
    write_small(tmp_path / "raw")
    tracks = {
        track.id: track
        for track in load_tracks(Lyra().import_from(tmp_path / "raw", tmp_path / "corpus"))
    }
    assert [name for name, track in tracks.items() if track.split == "valid"] == ["t07", "t10"]
    assert tracks["x"].split == "test"
    assert tracks["x"].tags == ("genres--Laiko", "instruments--Violin", "place--None")
    assert tracks["t00"].tags == (
        "genres--Aegean",
        "genres--Traditional",
        "instruments--Laouto",
        "instruments--Voice",
        "place--Aegean-sea",
    )
    assert tracks["y"].tags == ()


def test_the_rule_counts_all_of_the_training_file(tmp_path: Path) -> None:
    write_small(tmp_path)
    value = report(plan(Lyra(), tmp_path)).as_dict()["findings"]
    counted = [e["id"] for e in value["differing_labels"] if e["reason"] == "only counted"]
    assert counted == ["place--Lesbos"]
    assert [entry["id"] for entry in value["unlabelled"]] == ["y"]


def test_a_clone_s_folder_and_ccml_s_are_both_read(tmp_path: Path) -> None:
    write_small(tmp_path)
    first = plan(Lyra(), tmp_path).found
    (tmp_path / "data/split").rename(tmp_path / "split")
    assert plan(Lyra(), tmp_path).found == first


def test_all_faults_of_both_files_are_one_error(tmp_path: Path) -> None:
    write_small(tmp_path)
    folder = tmp_path / "data/split"
    text = (folder / "training.tsv").read_text(encoding="utf-8").splitlines()
    text[3] = text[3].replace("\t10\t200", "")
    text[7] += "\tmore"
    (folder / "training.tsv").write_text("\n".join(text), encoding="utf-8")
    (folder / "test.tsv").write_text("id,instruments\nx,Voice\n")
    with pytest.raises(InputError) as caught:
        plan(Lyra(), tmp_path)
    lines = caught.value.message.splitlines()
    assert [line.partition(": ")[2] for line in lines] == [
        "has 7 cells, the header has 9",
        "has 10 cells, the header has 9",
        "has no column id, instruments, genres, place; found id,instruments",
    ]
    assert lines[0].startswith(f"{folder / 'training.tsv'}:4:")


def test_no_files_are_said_with_where_they_belong(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        plan(Lyra(), tmp_path)
    assert caught.value.message.count("no such file") == 2
    assert "data/split" in caught.value.hint


def test_an_empty_table(tmp_path: Path) -> None:
    write_small(tmp_path)
    (tmp_path / "data/split/test.tsv").write_text("")
    with pytest.raises(InputError, match="is empty; expected a header"):
        plan(Lyra(), tmp_path)
