"""The synthetic corpora as files: determinism, resuming, content checks, labels and splits."""

from __future__ import annotations

import errno
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError

from mergekit_audio.audio.corpus import load_tracks
from mergekit_audio.audio.decode import decode
from mergekit_audio.datasets.synthetic import Synthetic
from mergekit_audio.errors import InputError
from mergekit_audio.progress import ProgressEvent
from mergekit_audio.registry import discover

CULTURES = ("western", "makam", "hindustani", "carnatic", "lyra")
SMALL = {"tracks": 15, "duration_s": 1.0}


def rows_of(manifest: Path) -> list[dict]:
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


def state_of(folder: Path) -> dict[str, tuple[int, str]]:
    return {
        path.relative_to(folder).as_posix(): (
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in [folder, *sorted(folder.rglob("*"))]
    }


@pytest.fixture(scope="module")
def makam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "makam"
    Synthetic(culture="makam", **SMALL).write(folder)
    return folder


def copy_of(folder: Path, target: Path) -> Path:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            copy = target / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return target


def test_takes_the_same_road_as_any_recordings(makam: Path):
    tracks = load_tracks(makam)
    assert len(tracks) == 15
    assert {track.split for track in tracks} == {"train", "valid", "test"}
    assert {track.path.suffix for track in tracks} == {".flac", ".mp3", ".ogg", ".wav"}
    for track in tracks:
        wave = decode(track.path)
        assert abs(len(wave) - 24_000) <= 1
        assert 0.02 < np.sqrt(np.mean(wave**2)) < 0.5
        assert track.duration_s == 1.0
        assert track.artist is not None
        assert track.artist.startswith("synthetic-")
        assert all(tag.count("--") == 1 for tag in track.tags)


def test_recordings_differ_in_rate_and_channels():
    from mergekit_audio.datasets._plan import plan_clip
    from mergekit_audio.datasets._render import render

    clips = [render(plan_clip("lyra", "train", 4 * artist, 0), 1.0) for artist in range(12)]
    assert len({clip.rate_hz for clip in clips}) >= 3
    assert {clip.wave.ndim for clip in clips} == {1, 2}
    assert all(len(clip.wave) == clip.rate_hz for clip in clips)
    assert all(np.abs(clip.wave).max() <= 1.0 for clip in clips)


def test_same_samples_again_and_for_any_number_of_workers(makam: Path, tmp_path: Path):
    again = tmp_path / "again"
    manifest = Synthetic(culture="makam", **SMALL).write(again, workers=2)
    assert manifest.read_bytes() == (makam / "manifest.jsonl").read_bytes()
    assert (again / "README.md").read_bytes() == (makam / "README.md").read_bytes()
    for row in rows_of(manifest):
        first, second = makam / row["path"], again / row["path"]
        if first.suffix in (".wav", ".flac"):
            assert first.read_bytes() == second.read_bytes(), row["id"]
        else:  # an Ogg stream has a random serial number
            np.testing.assert_array_equal(soundfile.read(first)[0], soundfile.read(second)[0])


def test_another_seed_gives_other_clips(makam: Path, tmp_path: Path):
    manifest = Synthetic(culture="makam", seed=1, **SMALL).write(tmp_path / "other")
    ours, theirs = rows_of(makam / "manifest.jsonl"), rows_of(manifest)
    assert {tag for row in ours for tag in row["tags"]} <= set(Synthetic(culture="makam").labels())
    assert [row["tags"] for row in ours] != [row["tags"] for row in theirs]


def test_second_call_does_nothing(makam: Path):
    before = state_of(makam)
    events: list[ProgressEvent] = []
    assert (
        Synthetic(culture="makam", **SMALL).write(makam, events.append) == makam / "manifest.jsonl"
    )
    assert state_of(makam) == before
    assert [(event.done, event.total) for event in events] == [(15, 15)]


def test_damaged_and_missing_files_are_written_anew(makam: Path, tmp_path: Path):
    folder = copy_of(makam, tmp_path / "makam")
    audio = sorted((folder / "audio").iterdir())
    lossless = [path for path in audio if path.suffix in (".wav", ".flac")]
    content = bytearray(lossless[0].read_bytes())
    content[-10] ^= 1
    lossless[0].write_bytes(content)
    lossless[1].write_bytes(lossless[1].read_bytes()[:1000])
    lossless[2].unlink()
    (folder / "manifest.jsonl").write_text("{}\n")
    before = state_of(folder)
    events: list[ProgressEvent] = []
    Synthetic(culture="makam", **SMALL).write(folder, events.append)
    assert [event.done for event in events] == [12, 13, 14, 15]
    for name, (_, digest) in state_of(makam).items():
        assert state_of(folder)[name][1] == digest, name
    for path in audio:
        if path not in lossless[:3]:
            name = path.relative_to(folder).as_posix()
            assert state_of(folder)[name] == before[name]


def test_interrupted_call_is_resumed(makam: Path, tmp_path: Path):
    folder = tmp_path / "makam"

    def interrupt(event: ProgressEvent) -> None:
        if event.done == 4:
            raise KeyboardInterrupt

    corpus = Synthetic(culture="makam", **SMALL)
    with pytest.raises(KeyboardInterrupt):
        corpus.write(folder, interrupt)
    assert not (folder / "manifest.jsonl").exists()
    journal = folder / "checksums.jsonl"
    journal.write_text(journal.read_text() + '{"path": "audio/makam-tr', encoding="utf-8")
    (folder / "audio" / ".makam-train-0009.wav.abc.partial").write_bytes(b"half")
    events: list[ProgressEvent] = []
    corpus.write(folder, events.append)
    assert [event.done for event in events] == list(range(4, 16))
    assert not list(folder.rglob("*.partial"))
    assert (folder / "manifest.jsonl").read_bytes() == (makam / "manifest.jsonl").read_bytes()
    before = state_of(folder)
    corpus.write(folder)
    assert state_of(folder) == before


def test_interrupt_with_workers_leaves_only_whole_files(tmp_path: Path):
    def interrupt(event: ProgressEvent) -> None:
        if event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Synthetic(culture="lyra", **SMALL).write(tmp_path / "lyra", interrupt, workers=2)
    files = sorted((tmp_path / "lyra" / "audio").iterdir())
    assert 3 <= len(files) < 15
    assert all(soundfile.info(path).frames for path in files)


def test_foreign_folder_is_refused(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match=r"is not empty and holds no checksums\.jsonl"):
        Synthetic(culture="makam", **SMALL).write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_other_settings_are_refused(makam: Path):
    before = state_of(makam)
    with pytest.raises(
        InputError, match=r"holds another corpus .*\"seed\": 0.*expected .*\"seed\": 7"
    ):
        Synthetic(culture="makam", seed=7, **SMALL).write(makam)
    assert state_of(makam) == before


def test_full_disk_is_told_and_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    corpus = Synthetic(culture="makam", **SMALL)

    def fill(event: ProgressEvent) -> None:
        if event.done == 2:
            monkeypatch.setattr(Path, "write_bytes", full)

    with pytest.raises(InputError, match="no space left on the device"):
        corpus.write(tmp_path / "makam", fill)
    monkeypatch.undo()
    assert len(list((tmp_path / "makam" / "audio").iterdir())) == 2
    corpus.write(tmp_path / "makam")


def test_is_called_synthetic(makam: Path):
    card = (makam / "README.md").read_text()
    assert "**Synthetic.**" in card
    assert "nothing about any real tradition" in card
    assert "license: cc0-1.0" in card
    assert all(row["artist"].startswith("synthetic") for row in rows_of(makam / "manifest.jsonl"))
    assert "Synthetic" in Synthetic.citation
    assert Synthetic.terms_url.startswith("https://")


@pytest.mark.parametrize("tracks", [30, 40, 160])
@pytest.mark.parametrize("culture", CULTURES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_split_has_both_classes_of_every_label(culture: str, tracks: int, seed: int):
    from mergekit_audio.datasets._plan import plan_clip, split_sizes

    labels = Synthetic(culture=culture).labels()
    assert labels == tuple(sorted(set(labels)))
    for split, size in split_sizes(tracks).items():
        tags = [plan_clip(culture, split, index, seed).tags for index in range(size)]
        assert {tag for clip in tags for tag in clip} == set(labels), split
        for label in labels:
            assert 0 < sum(label in clip for clip in tags) < size, (split, label)


@pytest.mark.parametrize("culture", CULTURES)
def test_splits_share_no_tonic_no_artist_and_no_seed(culture: str):
    from mergekit_audio.datasets._plan import plan_clip, split_sizes

    plans = {
        split: [plan_clip(culture, split, index, 0) for index in range(size)]
        for split, size in split_sizes(160).items()
    }
    assert {split: len(clips) for split, clips in plans.items()} == {
        "train": 96,
        "valid": 32,
        "test": 32,
    }
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        ours, theirs = plans[first], plans[second]
        assert not {p.tonic_cents for p in ours} & {p.tonic_cents for p in theirs}
        assert not {p.artist for p in ours} & {p.artist for p in theirs}
        assert min(abs(p.tonic_cents - q.tonic_cents) for p in ours for q in theirs) >= 10.0
        draws = [{float(p.generator().random()) for p in clips} for clips in (ours, theirs)]
        assert not draws[0] & draws[1]


def test_instruments_are_shared_between_traditions():
    from mergekit_audio.datasets._plan import plan_clip

    shares = {}
    for culture in CULTURES:
        labels = [label for label in Synthetic(culture=culture).labels() if "instrument" in label]
        assert len(labels) == 5
        clips = [plan_clip(culture, "train", index, 0) for index in range(95)]
        shares[culture] = {
            label: sum(label.split("--")[1] == clip.lead for clip in clips) for label in labels
        }
    assert all(share == shares["western"] for share in shares.values())


@pytest.mark.parametrize(
    "bad",
    [
        {"culture": "klezmer"},
        {"tracks": 0},
        {"duration_s": float("nan")},
        {"seed": -1},
        {"tempo": 3},
    ],
)
def test_bad_settings_are_refused(bad: dict):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        Synthetic(**{"culture": "makam", **bad})


def test_plugin_is_found_without_numpy():
    assert discover("datasets")["synthetic"] is Synthetic
    code = (
        "import sys; from mergekit_audio.registry import lookup; "
        "lookup('datasets', 'synthetic')(culture='lyra').labels(); "
        "sys.exit(bool({'numpy', 'scipy', 'soundfile', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
