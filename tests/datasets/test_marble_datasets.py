"""Importers of MARBLE's other corpora, on small files of the public formats, also broken ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from raw_corpora import write_audio

from mergekit_audio.audio.corpus import load_tracks
from mergekit_audio.datasets._importing import plan, report
from mergekit_audio.datasets.base import PublicDataset
from mergekit_audio.datasets.emomusic import Emomusic, split_of
from mergekit_audio.datasets.giantsteps_key import GiantstepsKey, artist_splits
from mergekit_audio.datasets.giantsteps_tempo import GiantstepsTempo
from mergekit_audio.datasets.gtzan import Gtzan
from mergekit_audio.datasets.gtzan_tempo import GtzanTempo
from mergekit_audio.datasets.mtg_genre import MtgGenre
from mergekit_audio.datasets.mtg_instrument import MtgInstrument
from mergekit_audio.datasets.mtg_moodtheme import MtgMoodtheme
from mergekit_audio.datasets.mtg_top50 import MtgTop50
from mergekit_audio.datasets.nsynth import Nsynth
from mergekit_audio.datasets.vocalset import Vocalset
from mergekit_audio.errors import InputError


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def findings(dataset: PublicDataset, raw: Path) -> dict[str, list[tuple[str, str]]]:
    found = report(plan(dataset, raw)).as_dict()["findings"]
    return {
        kind: [(entry["id"], entry["reason"]) for entry in entries]
        for kind, entries in found.items()
        if entries and kind not in ("differing_count", "differing_file", "without_positives")
    }


def faults(dataset: PublicDataset, raw: Path) -> list[str]:
    with pytest.raises(InputError) as caught:
        dataset.read(raw)
    assert caught.value.hint
    return [line.removeprefix(f"{raw}/") for line in caught.value.message.splitlines()]


def imported(dataset: PublicDataset, raw: Path) -> list[tuple[str, str | None, tuple[str, ...]]]:
    tracks = load_tracks(dataset.import_from(raw, raw.parent / "corpus"))
    return [(track.id, track.split, track.tags) for track in tracks]


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


class TestGtzan:
    """Lists of ``genre/genre.number.wav``."""

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Path:
        raw = tmp_path / "raw"
        write(
            raw / "GTZAN_split/train_filtered.txt", "blues/blues.00029.wav", "rock/rock.00001.wav"
        )
        write(raw / "GTZAN_split/valid_filtered.txt", "blues/blues.00000.wav")
        write(raw / "GTZAN_split/test_filtered.txt", "rock/rock.00002.wav", "")
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
        write(raw / "GTZAN_split/valid_filtered.txt", "blues/rock.00001.wav", "rock/rock.00002.wav")
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
        write(folder / "gtzan_blues_00029.bpm", "8.553000000000000114e+01")
        write(folder / "gtzan_blues_00000.bpm", "fast")
        write(folder / "gtzan_rock_00001.bpm", "-1")
        found = findings(GtzanTempo(), raw)
        assert [name for name, _ in found["broken_metadata"]] == ["blues.00000", "rock.00001"]
        assert found["missing_metadata"] == [
            ("rock.00002", "no gtzan_tempo_beat/tempo/gtzan_rock_00002.bpm")
        ]
        imported(GtzanTempo(), raw)
        (track,) = load_tracks(raw.parent / "corpus")
        assert track.values == (("tempo_bpm", 85.53),)
        assert track.tags == ()


class TestGiantstepsKey:
    """Tables of MTG-Keys, files of GiantSteps key."""

    TRAIN, TEST = "giantsteps-mtg-key-dataset", "giantsteps-key-dataset"

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Path:
        raw = tmp_path / "raw"
        write(
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
        write(raw / f"{self.TRAIN}/annotations/beatport_metadata.txt", *lines)
        write(raw / f"{self.TEST}/annotations/key/9.LOFI.key", "Gb major")
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
        write(
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


class TestGiantstepsTempo:
    """Folds, and a file with one number each."""

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Path:
        raw = tmp_path / "raw"
        root = raw / "giantsteps-tempo-dataset"
        for number in range(1, 11):
            write(root / f"splits/fold{number:02d}.txt", f"{number}.LOFI.mp3")
            write(root / f"annotations_v2/tempo/{number}.LOFI.bpm", f"{100 + number}.0")
            write(root / f"annotations/tempo/{number}.LOFI.bpm", f"{200 + number}")
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
        write(root / "3.LOFI.bpm", "0.0")
        (root / "4.LOFI.bpm").unlink()
        found = findings(GiantstepsTempo(), raw)
        assert [name for name, _ in found["without_values"]] == ["3"]
        assert [name for name, _ in found["missing_metadata"]] == ["4"]

    def test_every_fault_is_listed(self, raw: Path) -> None:
        root = raw / "giantsteps-tempo-dataset/splits"
        write(root / "fold02.txt", "1.LOFI.mp3", "song.mp3")
        (root / "fold10.txt").unlink()
        assert [line.rpartition("dataset/")[2] for line in faults(GiantstepsTempo(), raw)] == [
            "splits/fold02.txt:1: '1' is in another fold already",
            "splits/fold02.txt:2: expected <id>.LOFI.mp3, found 'song.mp3'",
            "splits/fold10.txt: no such file (nor splits/fold10.txt)",
        ]


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
        write(
            raw / "annotations/songs_info.csv",
            self.INFO,
            "2,2.mp3,The New Mystikal Troubadours ,Tonight,0.48,1.33,Blues,development\t",
            '5,5.mp3,"My Bubba & Mi",Nothing Much,0.36,1.21,Blues,development',
            "7,7.mp3,Somebody,A song,0.10,0.55,Rock,evaluation",
        )
        rows = ("2,3.1,0.94,3,0.63", "5,4.4,2.1187,5.3,1.9465", "7,5,1,6,1")
        write(raw / "annotations/static_annotations.csv", self.STATIC, *rows)
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
        write(raw / "annotations/static_annotations.csv", self.STATIC, "2,,0,3,0", "7,5,1,6,1")
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
        write(raw / "annotations/songs_info.csv", self.INFO.replace("Artist", "Performer"))
        write(
            raw / "annotations/static_annotations.csv", self.STATIC, *["2,1,0,3,0"] * 2, "x,1,1,1,1"
        )
        lines = faults(Emomusic(), raw)
        assert "has no column Artist" in lines[0]
        assert lines[1:] == [
            "annotations/static_annotations.csv:3: song_id: 2 is listed twice",
            "annotations/static_annotations.csv:4: song_id: expected a number, found 'x'",
        ]


class TestNsynth:
    """An ``examples.json`` for each split."""

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Path:
        raw = tmp_path / "raw"
        for pitch, split in enumerate(("train", "valid", "test"), start=60):
            name = f"guitar_acoustic_{pitch}-060-127"
            note = {"note": pitch, "instrument_family_str": "guitar", "pitch": pitch}
            write(raw / f"nsynth-{split}/examples.json", json.dumps({name: note}))
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
        write(raw / "nsynth-train/examples.json", json.dumps(notes))
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


class TestVocalset:
    """Folders of singers, exercises and techniques."""

    @pytest.fixture
    def raw(self, tmp_path: Path) -> Path:
        raw = tmp_path / "raw"
        for folder, singer in (("female1", "f1"), ("female2", "f2"), ("male11", "m11")):
            for technique in ("belt", "vibrato", "pp"):
                names = [f"{singer}_scales_{technique}_{vowel}.wav" for vowel in "aeiou"]
                write_audio(raw, *(f"FULL/{folder}/scales/{technique}/{name}" for name in names))
        write_audio(raw, "FULL/female1/scales/vibrato/caro_vibrato.wav")
        write_audio(raw, "FULL/female1/scales/belt/row_belt.wav")
        write_audio(raw, "FULL/female1/scales/unknown/f1_x.wav")
        return raw

    def test_singers(self, raw: Path) -> None:
        rows = imported(Vocalset(), raw)
        assert len(rows) == 46
        assert {split for _, split, _ in rows} == {"train", "valid", "test"}
        assert {tags for _, _, tags in rows} == {
            ("singer--f1",),
            ("singer--f2",),
            ("singer--m11",),
        }
        assert len(Vocalset().labels()) == 20

    def test_techniques_are_tested_on_other_singers(self, raw: Path) -> None:
        dataset = Vocalset(label="technique")
        rows = imported(dataset, raw)
        assert len(rows) == 31
        tested = {name.split("/")[1] for name, split, _ in rows if split == "test"}
        assert tested == {"female2"}
        assert {split for name, split, _ in rows if "female2" not in name} == {"train", "valid"}
        assert len(dataset.labels()) == 10
        assert {track.artist for track in load_tracks(raw.parent / "corpus")} == {"f1", "f2", "m11"}

    def test_an_empty_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="holds no FULL"):
            Vocalset().read(tmp_path)
