"""What splits and trainings share is found; windows, artists, locks of merges on the way."""

import json
from pathlib import Path

import pytest

from mergekit_audio.audio.corpus import Track
from mergekit_audio.audio.prepared import PreparedTrack
from mergekit_audio.files import sha256_of_file
from mergekit_audio.lock import LockedInput, make_lock, write_lock
from mergekit_audio.probe.leakage import (
    find_leakage,
    split_leaks,
    training_leaks,
    training_recordings,
)
from mergekit_audio.report.leakage import leakage_sentences


def prepared(name, split, *, path=None, digest=None, artist=None, window=None):
    start_s, end_s = window or (None, None)
    track = Track(
        id=name,
        path=Path(path or f"{name}.wav"),
        split=split,
        artist=artist,
        start_s=start_s,
        end_s=end_s,
    )
    return PreparedTrack(track, 100, digest or f"digest of {name}", Path("object"))


def test_an_artist_of_the_training_split_in_another_one_is_found():
    tracks = [
        prepared("a", "train", artist="Safiye"),
        prepared("b", "test", artist="Safiye"),
        prepared("c", "test", artist="Münir"),
        prepared("d", "valid"),
        prepared("e", "test"),  # no artist is not the same artist
    ]
    (leak,) = split_leaks("makam", tracks)
    assert (leak.kind, leak.first, leak.second) == ("artist", "train", "test")
    assert (leak.shared, leak.tracks, leak.of) == (("Safiye",), 1, 3)


def test_windows_of_one_file_and_equal_samples_are_the_same_recording():
    tracks = [
        prepared("a1", "train", path="a.wav", window=(0.0, 30.0)),
        prepared("a2", "test", path="a.wav", window=(30.0, 60.0)),
        prepared("b", "valid", digest="same"),
        prepared("c", "test", digest="same"),
        prepared("d", "train", path="x/../d.wav"),
        prepared("e", "valid", path="d.wav"),
    ]
    found = [(leak.first, leak.second, leak.kind, leak.shared) for leak in split_leaks("t", tracks)]
    assert found == [
        ("train", "test", "recording", ("a2",)),
        ("train", "valid", "recording", ("e",)),
        ("valid", "test", "recording", ("c",)),
    ]


def test_a_musicbrainz_id_names_a_recording_wherever_it_lies():
    mbid = "2ca5bd5f-3a4b-4a0e-8f8d-0123456789ab"
    tracks = [prepared(f"{mbid}_0", "train"), prepared(f"{mbid.upper()}_1", "test")]
    (leak,) = split_leaks("makam", tracks)
    assert (leak.kind, leak.shared) == ("recording", (f"{mbid.upper()}_1",))
    (leak,) = training_leaks("makam", "m", {mbid: "corpus.makam: a.mp3"}, {"x": ("", mbid)})
    assert leak.shared == ("x",)


def test_splits_that_share_nothing_have_no_findings():
    tracks = [prepared(name, split) for name, split in (("a", "train"), ("b", "test"))]
    assert split_leaks("t", tracks) == []
    assert training_leaks("t", "m", {}, {"b": ("",)}) == []


@pytest.fixture
def world(tmp_path):
    """A training on a corpus with splits, a merge of its model, and a corpus to be probed."""
    corpus, probe = tmp_path / "corpora" / "cpt", tmp_path / "corpora" / "probe"
    for folder in (corpus, probe):
        folder.mkdir(parents=True)
    rows = []
    for name, split in (("one", "train"), ("two", "train"), ("kept", "test")):
        (corpus / f"{name}.wav").write_bytes(name.encode())
        rows.append({"id": name, "path": f"{name}.wav", "split": split})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (corpus / "manifest.jsonl").write_text(lines, encoding="utf-8")
    for name, content in (("heard", "two"), ("fresh", "other"), ("kept", "kept")):
        (probe / f"{name}.wav").write_bytes(content.encode())
    write_model(tmp_path, "runs/makam", "train", {"corpus.makam": corpus})
    write_model(tmp_path, "runs/merge", "merge", {"models[0]": tmp_path / "runs/makam"})
    (tmp_path / "runs/plain").mkdir()
    return tmp_path


def write_model(root, name, kind, sources):
    folder = root / name
    folder.mkdir(parents=True)
    inputs = [entry(root, key, source) for key, source in sources.items()]
    write_lock(
        folder, make_lock(folder, target=folder, recipe={"kind": kind}, root=root, inputs=inputs)
    )


def entry(root, name, folder):
    return LockedInput(
        name=name,
        source=folder.relative_to(root).as_posix(),
        content_digest="0" * 64,
        files={path.name: sha256_of_file(path) for path in sorted(folder.iterdir())},
    )


def test_the_locks_of_a_merge_lead_to_what_its_models_heard(world):
    found = training_recordings(world / "runs/merge")
    assert sorted(found.values()) == ["corpus.makam: one.wav", "corpus.makam: two.wav"]
    assert training_recordings(world / "runs/plain") is None


def test_all_of_a_corpus_counts_when_its_manifest_is_gone(world):
    manifest = world / "corpora/cpt/manifest.jsonl"
    manifest.unlink()
    for path in (world / "corpora/cpt").glob("*.wav"):
        path.unlink()
    assert len(training_recordings(world / "runs/makam")) == 3


def test_findings_are_told_in_words(world):
    corpus = world / "corpora/probe"
    tracks = [
        prepared(name, "test", path=corpus / f"{name}.wav") for name in ("fresh", "heard", "kept")
    ]
    leakage = find_leakage(
        [("makam", tracks)],
        [("merge", world / "runs/merge"), ("plain", world / "runs/plain")],
        [entry(world, "tasks.makam", corpus)],
        world,
    )
    assert leakage == {
        "findings": [
            {
                "task": "makam",
                "kind": "training",
                "first": "merge",
                "second": "test",
                "shared": ["heard"],
                "tracks": 1,
                "of": 3,
            }
        ],
        "unknown_training": ["plain"],
    }
    assert json.loads(json.dumps(leakage)) == leakage
    assert leakage_sentences({"leakage": leakage}) == [
        "Leakage, makam: 1 of 3 test tracks was in the training audio of merge: heard.",
        "Whether test recordings were trained on is not known of plain: no lock tells of the "
        "training.",
    ]
    assert leakage_sentences({}) == []


def test_long_lists_are_cut():
    finding = {
        "task": "t",
        "kind": "artist",
        "first": "train",
        "second": "test",
        "shared": list("abcdefg"),
        "tracks": 9,
        "of": 10,
    }
    leakage = {"findings": [finding], "unknown_training": []}
    assert leakage_sentences({"leakage": leakage}) == [
        "Leakage, t: 9 of 10 test tracks are by artists of the train split: a, b, c, d, e and 2 "
        "more."
    ]
