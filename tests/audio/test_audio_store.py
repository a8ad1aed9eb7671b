"""The prepared store: content, report, resuming, sharing, faults of the disk."""

import errno
import hashlib
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from recordings import cut, tone, write_recording

from mergekit_audio.audio import objects
from mergekit_audio.audio.corpus import Track, write_manifest
from mergekit_audio.audio.decode import decode
from mergekit_audio.audio.store import Segment, Store
from mergekit_audio.errors import InputError


@pytest.fixture
def corpus(tmp_path):
    """Four good recordings of different formats."""
    folder = tmp_path / "music"
    for seed, name in enumerate(["a.wav", "b.flac", "c.ogg", "d.mp3"]):
        write_recording(
            folder / name, duration_s=2 + seed, sample_rate_hz=44_100, channels=2, seed=seed
        )
    return folder


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def _left_over(store):
    return sorted(str(path) for path in store.root.rglob("*.partial"))


def test_samples_are_the_decoded_ones_rounded_to_16_bits(corpus, store):
    prepared = store.prepare(corpus)
    assert [track.track.id for track in prepared.tracks] == ["a", "b", "c", "d"]
    for track in prepared.tracks:
        expected = decode(track.track.path)
        wave = track.wave()
        assert wave.dtype == np.float32
        assert np.abs(wave - expected).max() <= 0.5 / 32_768 + 1e-9
        steps = np.rint(expected.astype(np.float64) * 32_768).clip(-32_768, 32_767).astype("<i2")
        assert track.digest == hashlib.sha256(steps.tobytes()).hexdigest()
        assert track.samples == expected.size
        np.testing.assert_array_equal(track.wave(1_000, 1_500), wave[1_000:1_500])
        np.testing.assert_array_equal(track.wave(40_000, 10**9), wave[40_000:])
    assert prepared.hours == pytest.approx((2 + 3 + 4 + 5) / 3600, rel=1e-3)


def test_samples_beyond_full_scale_are_clipped(tmp_path, store):
    wave = 3 * tone(duration_s=2, noise=0, amplitude=0.5)
    write_recording(tmp_path / "m" / "a.wav", wave, subtype="FLOAT")
    found = store.prepare(tmp_path / "m").tracks[0].wave()
    np.testing.assert_allclose(found, wave[:, 0].clip(-1, 32_767 / 32_768), atol=0.5 / 32_768)


def test_a_second_prepare_neither_reads_nor_decodes(corpus, store, monkeypatch):
    first = store.prepare(corpus)

    def fail(*arguments):
        raise AssertionError("the file was read again")

    monkeypatch.setattr(objects, "read_source", fail)
    monkeypatch.setattr(objects, "make", fail)
    events = []
    again = Store(store.root).prepare(corpus, progress=events.append)
    assert again == first
    assert events == []


def test_an_undecodable_file_is_not_tried_again(corpus, store, monkeypatch):
    cut(corpus / "c.ogg")
    first = store.prepare(corpus)
    monkeypatch.setattr(objects, "make", None)
    assert store.prepare(corpus).report == first.report
    assert [finding.id for finding in first.report.undecodable] == ["c"]


def test_only_what_changed_is_decoded_again(corpus, store):
    first = store.prepare(corpus)
    write_recording(corpus / "b.flac", duration_s=3, seed=77)
    events = []
    second = store.prepare(corpus, progress=events.append)
    assert [(event.task, event.note) for event in events] == [
        ("read music", "b.flac"),
        ("decode music", "b"),
    ]
    assert second.digest != first.digest
    assert second.tracks[0] == first.tracks[0]


def test_other_sound_of_the_same_size_and_time_is_seen(corpus, store):
    first = store.prepare(corpus)
    stand = (corpus / "a.wav").stat()
    write_recording(corpus / "a.wav", duration_s=2, sample_rate_hz=44_100, channels=2, seed=78)
    os.utime(corpus / "a.wav", ns=(stand.st_atime_ns, stand.st_mtime_ns))
    assert (corpus / "a.wav").stat().st_size == stand.st_size
    assert store.prepare(corpus).tracks[0].digest != first.tracks[0].digest


def test_a_moved_corpus_is_hashed_but_not_decoded(corpus, store, tmp_path, monkeypatch):
    first = store.prepare(corpus)
    moved = Path(shutil.move(corpus, tmp_path / "moved"))
    monkeypatch.setattr(objects, "make", None)
    second = store.prepare(moved)
    assert second.digest == first.digest


def test_another_rate_is_another_object(corpus, store):
    low = store.prepare(corpus, sample_rate_hz=16_000)
    high = store.prepare(corpus)
    assert low.sample_rate_hz == 16_000
    assert low.tracks[0].samples * 3 == high.tracks[0].samples * 2
    assert low.tracks[0].object_path != high.tracks[0].object_path


def test_threads_change_nothing(corpus, tmp_path):
    cut(corpus / "c.ogg")
    one = Store(tmp_path / "one").prepare(corpus)
    events = []
    three = Store(tmp_path / "three").prepare(corpus, workers=3, progress=events.append)
    assert three.digest == one.digest
    assert three.report == one.report
    assert [(event.done, event.total) for event in events] == [(n, 4) for n in (1, 2, 3, 4)] * 2


def test_the_report_names_what_was_left_out(corpus, store):
    write_recording(corpus / "silent.wav", np.zeros(48_000))
    write_recording(corpus / "offset.wav", np.full(48_000, 0.25))
    write_recording(corpus / "silent.mp3", np.zeros(48_000))
    write_recording(corpus / "short.flac", duration_s=0.2)
    write_recording(corpus / "tiny.wav", np.full(1, 0.5))
    shutil.copy(corpus / "b.flac", corpus / "copy.flac")
    cut(write_recording(corpus / "cut.mp3", duration_s=5))
    (corpus / "deep").mkdir()
    (corpus / "deep" / "song.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    prepared = store.prepare(corpus)
    report = prepared.report
    assert [track.track.id for track in prepared.tracks] == ["a", "b", "c", "d"]
    assert [finding.id for finding in report.undecodable] == ["cut", "deep/song"]
    assert [finding.id for finding in report.silent] == ["offset", "silent.mp3", "silent.wav"]
    assert [finding.id for finding in report.too_short] == ["short", "tiny"]
    assert report.too_short[0].reason == "0.20 s; at least 1 s are needed"
    assert [tuple(finding) for finding in report.duplicated] == [
        ("copy", "copy.flac", "the same samples as b")
    ]
    assert [finding.id for finding in report.untagged] == ["a", "b", "c", "d"]
    assert report.left_out == 8
    assert report.counts()["silent"] == 3
    assert report.as_dict()["undecodable"][1]["path"] == "deep/song.m4a"
    lines = report.lines(most=1)
    assert lines[0] == "could not be decoded: 2"
    assert lines[1].startswith("  cut.mp3: holds 2.")
    assert lines[2] == "  and 1 more"


def test_duplicates_say_what_differs_and_windows_are_kept(corpus, store):
    manifest = corpus / "manifest.jsonl"
    shutil.copy(corpus / "b.flac", corpus / "copy.flac")
    loop = np.tile(tone(duration_s=1.5), (2, 1))
    write_recording(corpus / "loop.wav", loop)
    write_manifest(
        manifest,
        [
            Track("1", corpus / "b.flac", "train", ("makam--hicaz",)),
            Track("2", corpus / "copy.flac", "test", ("makam--rast",)),
            Track("3", corpus / "b.flac", "train", ("makam--hicaz",), start_s=0.5, end_s=2.5),
            Track("4", corpus / "b.flac", "train", ("makam--hicaz",), start_s=0.5, end_s=2.5),
            Track("5", corpus / "loop.wav", "train", ("x--y",), start_s=0.0, end_s=1.5),
            Track("6", corpus / "loop.wav", "train", ("x--y",), start_s=1.5, end_s=3.0),
        ],
    )
    prepared = store.prepare(manifest)
    assert [track.track.id for track in prepared.tracks] == ["1", "3", "5", "6"]
    assert [(finding.id, finding.reason) for finding in prepared.report.duplicated] == [
        ("2", "the same samples as 1 (split train there, test here; with other tags there)"),
        ("4", "the same samples as 3"),
    ]
    assert prepared.tracks[1].samples == 48_000
    assert prepared.report.untagged == ()


def test_a_window_behind_the_end_is_listed(corpus, store):
    manifest = corpus / "m.jsonl"
    write_manifest(
        manifest,
        [Track("1", corpus / "a.wav"), Track("2", corpus / "a.wav", start_s=1.0, end_s=60.0)],
    )
    report = store.prepare(manifest).report
    assert report.undecodable[0].reason == "has 2.00 s, but the window ends at 60.0 s"


def test_nothing_usable_is_an_error_that_lists_the_tracks(tmp_path, store):
    cut(write_recording(tmp_path / "m" / "a.flac"), 0.5)
    write_recording(tmp_path / "m" / "b.wav", np.zeros(48_000))
    with pytest.raises(InputError, match="none of its 2 tracks can be used") as caught:
        store.prepare(tmp_path / "m")
    assert "  a.flac: decodes only to 0.68 s of 2.00 s" in caught.value.message
    assert "  b.wav: " in caught.value.message
    assert caught.value.exit_code == 4


def test_segments(tmp_path, store):
    folder = tmp_path / "m"
    for name, seconds in (("a", 7.0), ("b", 3.0), ("c", 4.9), ("d", 1.0)):
        write_recording(folder / f"{name}.wav", duration_s=seconds, sample_rate_hz=8_000)
    manifest = folder / "manifest.jsonl"
    splits = {"a": "train", "b": "train", "c": "test", "d": None}
    write_manifest(manifest, [Track(k, folder / f"{k}.wav", v) for k, v in splits.items()])
    prepared = store.prepare(folder, sample_rate_hz=8_000)
    assert prepared.segments(3.0, 1.0) == [
        Segment(0, 0, 24_000),
        Segment(0, 24_000, 48_000),
        Segment(0, 48_000, 56_000),
        Segment(1, 0, 24_000),
        Segment(2, 0, 24_000),
        Segment(2, 24_000, 39_200),
        Segment(3, 0, 8_000),
    ]
    assert prepared.segments(3.0, 2.0, split="test") == [Segment(2, 0, 24_000)]
    assert prepared.segments() == [Segment(0, 0, 56_000)]


def test_the_digest_is_of_content_and_labels(corpus, store):
    tracks = [Track("1", corpus / "a.wav", "train", ("x--1",))]
    manifest = corpus / "m.jsonl"

    def digest(*changed):
        write_manifest(manifest, changed or tracks)
        return store.prepare(manifest).digest

    first = digest()
    assert digest(Track("1", corpus / "a.wav", "train", ("x--1",), artist="Ney")) == first
    assert digest(Track("1", corpus / "a.wav", "test", ("x--1",))) != first
    assert digest(Track("1", corpus / "a.wav", "train", ("x--2",))) != first
    assert digest(Track("2", corpus / "a.wav", "train", ("x--1",))) != first
    assert digest(Track("1", corpus / "b.flac", "train", ("x--1",))) != first


def test_a_damaged_store_is_mended_and_a_lost_object_is_named(corpus, store):
    prepared = store.prepare(corpus)
    victim = prepared.tracks[0]
    expected = victim.wave()
    victim.object_path.write_bytes(b"12")
    with pytest.raises(InputError, match="can't read the prepared samples of a"):
        victim.wave()
    entry = prepared.tracks[1].object_path.with_suffix(".json")
    entry.write_text("{")
    store.prepare(corpus)
    np.testing.assert_array_equal(victim.wave(), expected)
    prepared.tracks[2].object_path.unlink()
    with pytest.raises(InputError, match="prepared samples of c"):
        prepared.tracks[2].wave()


def test_a_prepared_corpus_can_be_sent_to_another_process(corpus, store):
    prepared = store.prepare(corpus)
    copy = pickle.loads(pickle.dumps(prepared))
    assert copy.digest == prepared.digest
    np.testing.assert_array_equal(copy.tracks[0].wave(), prepared.tracks[0].wave())


def _prepare(source, root):
    return Store(root).prepare(source, workers=2).digest


def test_processes_may_prepare_the_same_corpus_at_once(corpus, store):
    cut(corpus / "c.ogg")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=context) as pool:
        futures = [pool.submit(_prepare, corpus, store.root) for _ in range(3)]
        digests = {future.result() for future in futures}
    assert digests == {store.prepare(corpus).digest}
    assert _left_over(store) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_an_interruption_leaves_no_half_written_object(corpus, store, workers, monkeypatch):
    def interrupt(event):
        if event.task.startswith("decode"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.prepare(corpus, workers=workers, progress=interrupt)
    assert _left_over(store) == []
    for path in store.root.glob("objects/*/*.pcm"):
        assert objects.read_facts(store.root, path.stem) is not None
    assert len(store.prepare(corpus).tracks) == 4


def test_an_interruption_in_the_middle_of_a_file(corpus, store, monkeypatch):
    def blocks(*arguments, **options):
        yield np.ones(1_000, np.float32)
        raise KeyboardInterrupt

    monkeypatch.setattr(objects, "decode_blocks", blocks)
    with pytest.raises(KeyboardInterrupt):
        store.prepare(corpus)
    assert list(store.root.glob("objects/*/*")) == []
    monkeypatch.undo()
    assert len(store.prepare(corpus).tracks) == 4


def test_control_c_of_a_process(tmp_path, store):
    folder = tmp_path / "long"
    wave = tone(duration_s=40, sample_rate_hz=44_100, channels=2)
    for number in range(4):
        write_recording(folder / f"{number}.flac", np.roll(wave, number), sample_rate_hz=44_100)
    script = textwrap.dedent(
        f"""
        from pathlib import Path
        from mergekit_audio.audio.store import Store
        Store(Path({str(store.root)!r})).prepare(
            Path({str(folder)!r}), workers=2, progress=lambda event: print(event.task, flush=True)
        )
        """
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("decode"):
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=500)
    assert "KeyboardInterrupt" in errors
    assert process.returncode != 0
    assert _left_over(store) == []
    assert len(store.prepare(folder).tracks) == 4


def test_what_a_killed_process_left_is_removed_after_an_hour(corpus, store):
    old = store.root / "objects" / "ab" / ".x.pcm.1.partial"
    new = store.root / "objects" / "ab" / ".y.pcm.2.partial"
    for path in (old, new):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 7_200,) * 2)
    store.prepare(corpus)
    assert not old.exists()
    assert new.exists()


class _FullDisk:
    """A file that takes some bytes and then none."""

    def __init__(self, stream):
        self.stream = stream
        self.room = 50_000

    def write(self, data):
        self.room -= memoryview(data).nbytes
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.stream.write(data)

    def __enter__(self):
        self.stream.__enter__()
        return self

    def __exit__(self, *details):
        return self.stream.__exit__(*details)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk(corpus, store, workers, monkeypatch):
    def open_on_full_disk(path, mode="r", **options):
        stream = open(path, mode, **options)  # noqa: SIM115
        return _FullDisk(stream) if mode == "wb" else stream

    monkeypatch.setattr(objects, "open", open_on_full_disk, raising=False)
    with pytest.raises(InputError, match="no space left on the device") as caught:
        store.prepare(corpus, workers=workers)
    assert "another store" in caught.value.hint
    assert list(store.root.glob("objects/*/*")) == []


def test_a_read_only_store(corpus, store, monkeypatch):
    prepared = store.prepare(corpus)

    def refuse(*arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("mergekit_audio.files.tempfile.mkstemp", refuse)
    assert store.prepare(corpus).digest == prepared.digest  # nothing to write
    write_recording(corpus / "new.wav", seed=9)
    with pytest.raises(InputError, match="can't write here"):
        store.prepare(corpus)


def test_a_store_that_is_a_file(corpus, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"file: can't be a store \(Not a directory\)"):
        Store(tmp_path / "file").prepare(corpus)


def test_a_file_that_changes_while_it_is_read(corpus, store, monkeypatch):
    original = objects.decode_blocks

    def touching(path, **options):
        yield from original(path, **options)
        if path.name == "b.flac":
            os.utime(path, (1, 1))

    monkeypatch.setattr(objects, "decode_blocks", touching)
    report = store.prepare(corpus).report
    assert [tuple(finding)[::2] for finding in report.undecodable] == [
        ("b", "changed while it was read")
    ]
    monkeypatch.undo()
    assert len(store.prepare(corpus).tracks) == 4


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX systems only")
def test_a_file_name_that_is_not_utf8(corpus, store):
    source = os.fsencode(corpus / "a.wav")
    os.rename(source, os.fsencode(corpus) + b"/caf\xe9.wav")
    prepared = store.prepare(corpus)
    assert [track.track.id for track in prepared.tracks] == ["b", "c", "caf\\xe9", "d"]
    assert prepared.report.untagged[2].path == "caf\\xe9.wav"


def test_findings_of_windows_name_the_track(tmp_path, store):
    write_recording(tmp_path / "long.wav", duration_s=3)
    windows = [("one", 0.0, 2.0), ("two", 1.0, 1.2), ("three", 5.0, 9.0)]
    tracks = [
        Track(id=name, path=tmp_path / "long.wav", start_s=start, end_s=end)
        for name, start, end in windows
    ]
    write_manifest(tmp_path / "m.jsonl", tracks)
    lines = store.prepare(tmp_path / "m.jsonl").report.lines()
    assert "  two (long.wav): 0.20 s; at least 1 s are needed" in lines
    assert any(line.startswith("  three (long.wav): has 3.00 s, but the window") for line in lines)
