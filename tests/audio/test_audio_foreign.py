"""Manifests of MARBLE and peft-music, and the column of values."""

import json

import pytest
from recordings import write_recording

from mergekit_audio.audio.corpus import Track, load_tracks, write_manifest
from mergekit_audio.audio.foreign import key_label
from mergekit_audio.audio.origins import origins
from mergekit_audio.audio.store import Store
from mergekit_audio.errors import InputError


def write_lines(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def marble(place, label, **more):
    return {
        "audio_path": place,
        "label": label,
        "duration": 0.3,
        "sample_rate": 24_000,
        "num_samples": 7_200,
        "bit_depth": 16,
        "bitrate": 384_000,
        "channels": 1,
        **more,
    }


@pytest.fixture
def data(tmp_path):
    """MARBLE's layout: paths are relative to the folder that holds ``data``."""
    for seed, name in enumerate("abc"):
        write_recording(tmp_path / f"data/MTT/mp3/{name}.wav", duration_s=0.3, seed=seed)
    for name, split in (("a", "train"), ("b", "val"), ("c", "test")):
        row = marble(f"data/MTT/mp3/{name}.wav", ["rock", "genre---pop"])
        write_lines(tmp_path / f"data/MTT/MTT.{split}.jsonl", row)
    return tmp_path / "data/MTT"


class TestMarble:
    """One JSONL a split."""

    def test_a_folder_of_splits_is_a_corpus(self, data):
        tracks = load_tracks(data)
        assert [(track.id, track.split) for track in tracks] == [
            ("data/MTT/mp3/a", "train"),
            ("data/MTT/mp3/b", "valid"),
            ("data/MTT/mp3/c", "test"),
        ]
        assert tracks[0].path.samefile(data / "mp3/a.wav")
        assert tracks[0].tags == ("rock", "genre--pop")
        assert tracks[0].duration_s == 0.3

    def test_one_of_several_corpora_is_named_by_its_prefix(self, data):
        write_lines(data / "EMO.train.jsonl", marble("data/MTT/mp3/a.wav", [-0.25, 0.5]))
        with pytest.raises(InputError, match=r"holds the manifests of EMO, MTT"):
            load_tracks(data)
        assert len(load_tracks(data / "MTT")) == 3
        (track,) = load_tracks(data / "EMO")
        assert track.values == (("arousal", -0.25), ("valence", 0.5))
        with pytest.raises(InputError, match="no such file or folder"):
            load_tracks(data / "GTZAN")

    def test_a_single_file_is_one_split(self, data):
        (track,) = load_tracks(data / "MTT.val.jsonl")
        assert track.split == "valid"

    def test_keys_become_ours(self, data):
        write_lines(data / "GS.train.jsonl", marble("mp3/a.wav", "Eb minor", ori_uid="a"))
        assert load_tracks(data / "GS")[0].tags == ("key--D# minor",)

    def test_the_faults_of_all_splits_are_one_error(self, data):
        write_lines(
            data / "MTT.val.jsonl",
            marble("data/MTT/mp3/gone.wav", ["rock"]),
            marble("data/MTT/mp3/b.wav", None),
            marble("data/MTT/mp3/b.wav", {"rock": 1}),
        )
        write_lines(data / "MTT.test.jsonl", marble(None, ["rock"]))
        with pytest.raises(InputError) as caught:
            load_tracks(data)
        assert [line.rpartition("/")[2] for line in caught.value.message.splitlines()] == [
            "MTT.test.jsonl:1: audio_path: is missing (marble's format)",
            "gone.wav (relative to the manifest)",
            "MTT.val.jsonl:2: label: is missing (marble's format)",
            "MTT.val.jsonl:3: label: expected a text, a list of texts or of numbers, "
            "found {'rock': 1} (marble's format)",
        ]

    def test_a_recording_in_two_splits_is_refused(self, data):
        write_lines(data / "MTT.test.jsonl", marble("data/MTT/mp3/a.wav", ["rock"]))
        with pytest.raises(InputError, match=r"train.jsonl:1: id: .*/a' is in test already"):
            load_tracks(data)

    def test_the_files_of_all_splits_are_origins(self, data, tmp_path):
        corpus = Store(tmp_path / "store").prepare(data / "MTT", sample_rate_hz=24_000, min_s=0.1)
        (own,) = origins(corpus, tmp_path)
        assert own.source == "data/MTT"
        lists = {f"MTT.{split}.jsonl" for split in ("train", "val", "test")}
        assert set(own.files) == lists | {f"mp3/{name}.wav" for name in "abc"}


class TestPeftMusic:
    """One file of JSON lines."""

    def line(self, name, split, label, **more):
        return {
            "key": name,
            "split": split,
            "audio_path": f"{name}.wav",
            "sr": 24_000,
            "length": 7_200,
            "label": label,
            **more,
        }

    @pytest.fixture
    def folder(self, tmp_path):
        for name in "abc":
            write_recording(tmp_path / f"{name}.wav", duration_s=0.3)
        return tmp_path

    def test_tags(self, folder):
        label = [0] * 50
        label[3] = label[10] = 1
        write_lines(
            folder / "mtat.json",
            self.line("a", "train", label),
            self.line("b", "val", [0] * 50),
            self.line("c", "test", label),
        )
        tracks = load_tracks(folder / "mtat.json")
        assert [(track.id, track.split) for track in tracks] == [
            ("a", "train"),
            ("b", "valid"),
            ("c", "test"),
        ]
        assert tracks[0].tags == ("label--03", "label--10")
        assert tracks[1].tags == ()
        assert tracks[0].duration_s == pytest.approx(0.3)

    @pytest.mark.parametrize(
        ("name", "label", "tags", "values"),
        [
            ("giantsteps_key_augmented.json", 14, ("key--D minor",), ()),
            ("gtzan_tempo_augmented.json", 126, (), (("tempo_bpm", 126.0),)),
            ("gtzan_genre.json", 7, ("label--7",), ()),
        ],
    )
    def test_numbers(self, folder, name, label, tags, values):
        write_lines(folder / name, self.line("a", "train", label))
        (track,) = load_tracks(folder / name)
        assert (track.tags, track.values) == (tags, values)

    def test_every_fault_is_listed(self, folder):
        write_lines(
            folder / "gtzan_key.json",
            self.line("a", "training", 3),
            self.line("b", "val", 24),
            self.line("c", "test", {"beats": [0.2]}),
            self.line("a", "test", 3, length="long"),
            self.line("a", "test", 1),
            self.line("a", "test", 2),
        )
        with pytest.raises(InputError) as caught:
            load_tracks(folder / "gtzan_key.json")
        assert [line.partition(".json:")[2] for line in caught.value.message.splitlines()] == [
            "1: split: expected train, val or test, found 'training' (peft-music's format)",
            "2: label: expected a key 0 to 23, found 24 (peft-music's format)",
            "3: label: expected a list of 0 and 1 or an integer, found {'beats': [0.2]} "
            "(peft-music's format)",
            "4: length: expected samples and a rate, found 'long' and 24000 (peft-music's format)",
            "6: id: 'a' is used in line 5 already",
        ]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Db major", "key--C# major"),
        ("c minor", "key--C minor"),
        ("A# minor", "key--A# minor"),
        ("E# minor", None),
        ("C dorian", None),
        ("major", None),
    ],
)
def test_names_of_keys(name, label):
    assert key_label(name) == label


class TestValues:
    """Named numbers of a track."""

    @pytest.fixture
    def folder(self, tmp_path):
        write_recording(tmp_path / "a.wav", duration_s=0.3)
        write_recording(tmp_path / "b.wav", duration_s=0.3, seed=1)
        return tmp_path

    def test_in_jsonl_and_csv(self, folder):
        (folder / "m.jsonl").write_text(
            '{"path": "a.wav", "values": {"valence": 0.3, "arousal": -1}}\n'
        )
        (folder / "m.csv").write_text("path,values\na.wav,valence=0.3|arousal = -1e0\nb.wav,\n")
        expected = (("arousal", -1.0), ("valence", 0.3))
        assert load_tracks(folder / "m.jsonl")[0].values == expected
        assert [track.values for track in load_tracks(folder / "m.csv")] == [expected, ()]

    def test_are_written_and_read_back(self, folder):
        track = Track("a", folder / "a.wav", values=(("tempo_bpm", 120.5),))
        write_manifest(folder / "m.jsonl", [track])
        assert load_tracks(folder / "m.jsonl") == [track]
        assert '"values": {"tempo_bpm": 120.5}' in (folder / "m.jsonl").read_text()

    def test_every_fault_is_listed(self, folder):
        given = ["[1]", '{"a": "1"}', '{"a": NaN}', '{"": 1}', '{"a": true}', '{"a": 1, "a ": 2}']
        given += ['"a"', '"a=1|a=2"', '"a=inf"', '{"a=b": 1}', "1" + "0" * 400]
        (folder / "m.jsonl").write_text(
            "".join(
                f'{{"id": "{n}", "path": "a.wav", "values": {v}}}\n' for n, v in enumerate(given)
            )
        )
        with pytest.raises(InputError) as caught:
            load_tracks(folder / "m.jsonl")
        lines = caught.value.message.splitlines()
        assert [int(line.partition(".jsonl:")[2].partition(":")[0]) for line in lines] == [
            *range(1, len(given) + 1)
        ]
        assert "expected name=number, finite, found a='1'" in lines[1]
        assert "'a' is given twice" in lines[5]

    def test_are_a_part_of_the_corpus_s_digest(self, folder):
        def digest(*values):
            write_manifest(folder / "m.jsonl", [Track("a", folder / "a.wav", values=values)])
            corpus = Store(folder / "store").prepare(
                folder / "m.jsonl", sample_rate_hz=24_000, min_s=0.1
            )
            return corpus.digest, corpus.report.counts()["untagged"]

        assert digest(("x", 1.0)) == digest(("x", 1.0))
        assert digest(("x", 1.0))[0] != digest(("x", 2.0))[0]
        assert digest(("x", 1.0))[1] == 0
        assert digest()[1] == 1
