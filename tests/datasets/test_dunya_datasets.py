"""Turkish makam, Hindustani and Carnatic music of Dunya, in the files of ccml and pycompmusic."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from raw_corpora import (
    indian_recording,
    makam_recording,
    mbid,
    write_audio,
    write_ids,
    write_makam,
    write_metadata,
)

from mergekit_audio.audio.corpus import load_tracks
from mergekit_audio.datasets._importing import plan, report
from mergekit_audio.datasets.carnatic import Carnatic
from mergekit_audio.datasets.hindustani import Hindustani
from mergekit_audio.datasets.makam import Makam
from mergekit_audio.errors import InputError

ALL = (Makam, Hindustani, Carnatic)


def findings(dataset: type, raw: Path) -> dict[str, list[str]]:
    value = report(plan(dataset(), raw)).as_dict()["findings"]
    return {kind: [entry["id"] for entry in found] for kind, found in value.items()}


def test_the_pinned_tags_are_those_of_the_published_scores() -> None:
    assert [len(dataset().labels()) for dataset in ALL] == [30, 20, 20]
    assert [sum(dataset.test_positives.values()) for dataset in ALL] == [4011, 849, 2450]
    assert {label.partition("--")[0] for label in Makam().labels()} == {
        "makam",
        "usul",
        "instrument",
    }
    for dataset in (Hindustani, Carnatic):
        categories = {label.partition("--")[0] for label in dataset().labels()}
        assert categories == {"raga", "tala", "form", "instrument"}
    assert "instrument--Bansuri" in Hindustani().labels()
    assert "instrument--Sarod" not in Hindustani().labels()
    assert "instrument--Classical kemençe" in Makam().labels()
    for dataset in ALL:
        assert list(dataset().labels()) == sorted(set(dataset().labels()))


def test_the_facts_of_the_protocol() -> None:
    assert [dataset.max_duration_s for dataset in ALL] == [150.0, 780.0, 330.0]
    assert [sum(dataset.splits.values()) for dataset in ALL] == [5_297, 1_204, 2_612]
    assert [dataset.western for dataset in ALL] == [False] * 3
    assert [dataset.top_tags for dataset in ALL] == [30, 20, 20]


def test_makam_tags_are_made_of_dunya_s_lists(tmp_path: Path) -> None:
    write_makam(tmp_path / "raw")
    manifest = Makam().import_from(tmp_path / "raw", tmp_path / "corpus")
    tracks = load_tracks(manifest)
    assert [track.split for track in tracks] == ["train"] * 5 + ["valid"] + ["test"] * 2
    assert tracks[0].tags == ("instrument--Ney", "makam--Hicaz", "usul--Aksak")
    assert tracks[1].tags == ("instrument--Oud", "makam--Rast", "usul--Düyek")
    assert {track.artist for track in tracks} == {"Tanburi Cemil"}
    assert tracks[0].id == mbid(0)


def test_hindustani_tags_come_from_common_names(tmp_path: Path) -> None:
    write_ids(tmp_path, {"train": [mbid(1)], "valid": [mbid(2)], "test": [mbid(3)]})
    recordings = {
        mbid(number): indian_recording(
            mbid(number),
            ["Bhairabi"],
            ["Teentaal"],
            ["Tabla", "Voice"],
            ["Khayal"],
            keys=("raags", "taals", "forms"),
        )
        for number in (1, 2, 3)
    }
    write_metadata(tmp_path, recordings)
    write_audio(tmp_path, *(f"audios/{mbid(number)}.mp3" for number in (1, 2, 3)))
    planned = plan(Hindustani(), tmp_path)
    item = planned.found[0][0]
    assert item.labels == (
        "form--Khayal",
        "instrument--Tabla",
        "instrument--Voice",
        "raga--Bhairabi",
        "tala--Teentaal",
    )
    assert item.artist == "Player 1"


def test_carnatic_forms_come_from_names(tmp_path: Path) -> None:
    write_ids(tmp_path, {"train": [mbid(1)], "valid": [], "test": []})
    recording = indian_recording(
        mbid(1), ["kalyani"], ["adi"], ["Violin"], ["Kriti"], keys=("raaga", "taala", "form")
    )
    recording["album_artists"] = [{"mbid": "x", "name": "Singer"}]
    write_metadata(tmp_path, {mbid(1): recording})
    write_audio(tmp_path, f"audios/{mbid(1)}.mp3")
    item = plan(Carnatic(), tmp_path).found[0][0]
    expected = ("form--Kriti", "instrument--Violin", "raga--kalyani", "tala--adi")
    assert (item.labels, item.artist) == (expected, "Singer")


def test_failed_calls_and_odd_recordings_are_listed_and_left_out(tmp_path: Path) -> None:
    write_makam(tmp_path)
    metadata = json.loads((tmp_path / "metadata.json").read_text(encoding="utf-8"))
    metadata[mbid(0)] = None
    del metadata[mbid(1)]
    del metadata[mbid(2)]["usullist"]
    metadata[mbid(3)]["performers"] = [{"mbid": "p", "name": "P"}]
    metadata[mbid(4)]["makamlist"] = [{"uuid": "u", "name": 3}]
    metadata[mbid(5)]["makamlist"] = [{"uuid": "u", "name": None}]
    metadata[mbid(6)] = "Hicaz"
    metadata[mbid(99)] = makam_recording(mbid(99), ["Rast"])
    write_metadata(tmp_path, metadata)
    planned = plan(Makam(), tmp_path)
    found = {item.id: item.labels for item, _ in planned.found}
    assert found[mbid(5)] == ("instrument--Ney", "usul--Düyek")  # a nameless makam is no tag
    value = report(planned).as_dict()["findings"]
    assert [entry["id"] for entry in value["missing_metadata"]] == [mbid(0), mbid(1)]
    reasons = {entry["id"]: entry["reason"] for entry in value["broken_metadata"]}
    assert reasons == {
        mbid(2): "usullist: expected a list, found nothing",
        mbid(3): "performers: an entry has no instrument.name",
        mbid(4): "makamlist: name is int '3', expected a text",
        mbid(6): "expected a recording, found str 'Hicaz'",
    }
    assert [entry["id"] for entry in value["without_split"]] == [mbid(99)]


def test_the_listing_of_the_api_and_lists_of_tags_are_read_too(tmp_path: Path) -> None:
    write_makam(tmp_path)
    expected = [item for item, _ in plan(Makam(), tmp_path).found]
    metadata = json.loads((tmp_path / "metadata.json").read_text(encoding="utf-8"))
    write_metadata(tmp_path, list(metadata.values()))
    assert [item for item, _ in plan(Makam(), tmp_path).found] == expected
    write_metadata(tmp_path, {item.id: list(item.labels) for item in expected})
    assert [item.labels for item, _ in plan(Makam(), tmp_path).found] == [
        item.labels for item in expected
    ]


def test_a_drifted_crawl_is_compared_with_the_pinned_tags(tmp_path: Path) -> None:
    write_makam(tmp_path)
    found = findings(Makam, tmp_path)
    # of the 30 pinned tags the made-up recordings have 6: Hicaz, Rast, Aksak, Düyek, Ney, Oud
    assert len(found["differing_labels"]) == 24
    assert "makam--Hicaz" not in found["differing_labels"]
    assert found["differing_count"] == ["test", "train", "valid"]
    assert found["differing_file"] == ["split/test.npy", "split/train.npy", "split/valid.npy"]
    assert "makam--Hicaz" in found["differing_positives"]


class TestBrokenFiles:
    """All faults of the metadata files are one error."""

    def test_pickled_ids_are_refused_and_not_run(self, tmp_path: Path) -> None:
        write_makam(tmp_path)
        path = tmp_path / "split/train.npy"
        np.save(path, np.array([mbid(0), mbid(1)], dtype=object), allow_pickle=True)
        with pytest.raises(InputError, match="holds pickled Python objects"):
            plan(Makam(), tmp_path)
        path.write_bytes(pickle.dumps(["x"]))
        with pytest.raises(InputError, match="is not a whole NPY file"):
            plan(Makam(), tmp_path)

    def test_several_faults_at_once(self, tmp_path: Path) -> None:
        write_makam(tmp_path)
        (tmp_path / "split/valid.npy").unlink()
        np.save(tmp_path / "split/test.npy", np.arange(3))
        (tmp_path / "metadata.json").write_text('{"a": 1,}')
        with pytest.raises(InputError) as caught:
            plan(Makam(), tmp_path)
        lines = caught.value.message.splitlines()
        assert len(lines) == 3
        assert "valid.npy: no such file" in lines[0]
        assert "test.npy: expected one dimension of texts, found shape [3] of int64" in lines[1]
        assert "metadata.json:1: is not JSON" in lines[2]
        assert "cmerge data info" in caught.value.hint

    def test_the_pickle_of_ccml_s_script_is_named_and_not_opened(self, tmp_path: Path) -> None:
        write_makam(tmp_path)
        (tmp_path / "metadata.json").unlink()
        np.save(tmp_path / "split/metadata.npy", {mbid(0): ["makam--Rast"]}, allow_pickle=True)
        with pytest.raises(InputError) as caught:
            plan(Makam(), tmp_path)
        first, second = caught.value.message.splitlines()
        assert "metadata.json: no such file (nor split/metadata.json)" in first
        assert "split/metadata.npy: is a pickle" in second

    def test_a_cut_split_file(self, tmp_path: Path) -> None:
        write_makam(tmp_path)
        path = tmp_path / "split/train.npy"
        for size in (200, 90, 5, 0):
            path.write_bytes(path.read_bytes()[:size])
            with pytest.raises(InputError, match=r"train.npy: is not a whole NPY file"):
                plan(Makam(), tmp_path)

    def test_a_header_that_asks_for_more_than_there_is(self, tmp_path: Path) -> None:
        write_makam(tmp_path)
        path = tmp_path / "split/train.npy"
        data = path.read_bytes().replace(
            b"'shape': (5,), }            ", b"'shape': (5000000000,), }   "
        )
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"train.npy: is not a whole NPY file"):
            plan(Makam(), tmp_path)

    def test_an_id_in_two_splits(self, tmp_path: Path) -> None:
        write_makam(tmp_path)
        write_ids(tmp_path, {"valid": [mbid(0), mbid(5)]})
        with pytest.raises(InputError, match=r"valid.npy: '0{8}.*' is in train already"):
            plan(Makam(), tmp_path)

    def test_metadata_of_another_shape(self, tmp_path: Path) -> None:
        write_makam(tmp_path)
        for value in (3, "x", [1, 2], [{"title": "no id"}]):
            write_metadata(tmp_path, value)
            with pytest.raises(InputError, match="expected an object of recordings by id"):
                plan(Makam(), tmp_path)
        (tmp_path / "metadata.json").write_bytes(b'{"\xff": null}')
        with pytest.raises(InputError, match="is not UTF-8"):
            plan(Makam(), tmp_path)
