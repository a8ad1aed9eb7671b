"""The cache of codes: whole segments once, whatever the cores, the kills and the damage."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from forking import Forked

from mergekit_audio.audio.corpus import Track
from mergekit_audio.audio.prepared import PreparedTrack, Segment
from mergekit_audio.errors import InputError
from mergekit_audio.pretrain.targets import TargetCache
from mergekit_audio.progress import silent


class Counter:
    """A teacher whose code k of frame t says how loud that frame is; it notes how it was called."""

    digest = "d" * 64

    def __init__(self, codebooks=2, highest=60_000, seconds=0.0):
        self.scale = torch.linspace(highest / 2, highest, codebooks)
        self.seconds = seconds
        self.calls = []

    def targets(self, wave):
        self.calls.append((tuple(wave.shape), torch.get_num_threads(), threading.get_ident()))
        time.sleep(self.seconds)
        frames = 1 + (wave.shape[-1] - 400) // 320
        loud = wave.unfold(-1, 400, 320)[:, :frames].abs().amax(dim=-1)
        return (loud[..., None] * self.scale).long()


def make_track(folder, index, samples):
    generator = np.random.default_rng(index)
    wave = generator.integers(-30_000, 30_000, samples).astype("<i2")
    path = Path(folder) / f"track{index}.i16"
    path.write_bytes(wave.tobytes())
    track = Track(id=f"track{index}", path=path)
    return PreparedTrack(track, samples, f"{index:02d}" * 32, path)


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    """Return four segments of 0.5 s and two of 0.3 s, of three tracks."""
    folder = tmp_path_factory.mktemp("sound")
    found = []
    for index, samples in enumerate([24_000, 19_200, 19_200]):
        track = make_track(folder, index, samples)
        found += [
            (track, Segment(index, start, min(start + 12_000, samples)))
            for start in range(0, samples, 12_000)
        ]
    return found


def codes_of(cache, items):
    return [np.load(cache.path(track, segment)) for track, segment in items]


def files_below(folder):
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def test_codes_of_whole_segments_are_kept_as_16_bits_under_their_content(tmp_path, items):
    teacher = Counter()
    cache = TargetCache(tmp_path, "counter", teacher)
    cache.prepare(items)
    for (track, segment), codes in zip(items, codes_of(cache, items), strict=True):
        wave = torch.from_numpy(track.wave(segment.start, segment.stop))[None]
        assert codes.dtype == np.uint16
        assert codes.flags.c_contiguous
        np.testing.assert_array_equal(codes, Counter().targets(wave)[0])
    first = cache.path(*items[0]).relative_to(tmp_path)
    assert first == Path("targets", "d" * 64, "00", f"{'00' * 32}_0_12000.npy")
    assert len(files_below(tmp_path)) == len(items)


def test_crops_are_slices_by_frame(tmp_path, items):
    cache = TargetCache(tmp_path, "counter", Counter())
    cache.prepare(items)
    whole = codes_of(cache, items)[1]
    assert whole.shape == (37, 2)
    np.testing.assert_array_equal(cache.read(*items[1], 5, 10), whole[5:15])
    # A crop that begins in a segment's last half frame takes the last frames that there are.
    np.testing.assert_array_equal(cache.read(*items[1], 28, 10), whole[27:])


def test_a_segment_of_30_s_takes_36_kb(tmp_path):
    track = make_track(tmp_path, 0, 720_000)
    cache = TargetCache(tmp_path, "counter", Counter(codebooks=8))
    item = (track, Segment(0, 0, 720_000))
    cache.prepare([item])
    assert np.load(cache.path(*item)).shape == (2249, 8)
    assert cache.path(*item).stat().st_size == 128 + 2249 * 8 * 2
    # The last crop of 5 s has all its frames.
    assert cache.read(*item, round(600_000 / 320), 374).shape == (374, 8)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_segment_is_computed_alone_by_one_thread(tmp_path, items, workers):
    teacher = Counter(seconds=0.05)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        TargetCache(tmp_path, "counter", teacher).prepare(items, workers=workers)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert sorted(shape for shape, _, _ in teacher.calls) == [(1, 7_200)] * 2 + [(1, 12_000)] * 4
    assert {count for _, count, _ in teacher.calls} == {1}
    assert len({thread for _, _, thread in teacher.calls}) == workers


def test_devices_get_batches_of_equal_segments_and_a_folder_of_their_own(tmp_path, items):
    teacher = Counter()
    cache = TargetCache(tmp_path, "counter", teacher, "cpu:0")  # as any device that is not "cpu"
    cache.prepare(items)
    assert [shape for shape, _, _ in teacher.calls] == [(2, 7_200), (4, 12_000)]
    assert cache.folder.name == f"{'d' * 64}-cpu"
    alone = TargetCache(tmp_path, "counter", Counter())
    alone.prepare(items)
    for one, other in zip(codes_of(cache, items), codes_of(alone, items), strict=True):
        np.testing.assert_array_equal(one, other)


def test_progress_counts_what_was_missing(tmp_path, items):
    events = []
    cache = TargetCache(tmp_path, "counter", Counter())
    cache.prepare(items[:2], events.append)
    cache.prepare(items, events.append, workers=2)
    cache.prepare(items, events.append)
    assert [(event.done, event.total) for event in events] == [
        *[(done, 2) for done in range(3)],
        *[(done, len(items) - 2) for done in range(len(items) - 1)],
    ]
    assert {event.task for event in events} == {"targets of counter"}


def test_only_what_is_missing_or_cut_short_is_made(tmp_path, items):
    cache = TargetCache(tmp_path, "counter", Counter())
    cache.prepare(items)
    expected = codes_of(cache, items)
    absent, cut, empty = (cache.path(*items[index]) for index in (0, 2, 3))
    absent.unlink()
    cut.write_bytes(cut.read_bytes()[:-10])
    empty.write_bytes(b"")
    kept = cache.path(*items[1])
    before = kept.stat().st_mtime_ns
    again = Counter()
    TargetCache(tmp_path, "counter", again).prepare(items)
    assert len(again.calls) == 3
    assert kept.stat().st_mtime_ns == before
    for one, other in zip(codes_of(cache, items), expected, strict=True):
        np.testing.assert_array_equal(one, other)


class Stuck(Counter):
    """A teacher that says so at its 20th segment and then never answers."""

    def __init__(self, tell):
        super().__init__()
        self.tell = tell

    def targets(self, wave):
        codes = super().targets(wave)
        if len(self.calls) >= 20:
            self.tell("stuck")
            threading.Event().wait()
        return codes


def fill(tell, sound, store):
    """Fill a cache by two workers until they are stuck."""
    track = make_track(sound, 7, 12_000 * 200)
    items = [(track, Segment(0, at, at + 12_000)) for at in range(0, track.samples, 12_000)]
    TargetCache(store, "counter", Stuck(tell)).prepare(items, workers=2)


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    sound, store = tmp_path / "sound", tmp_path / "store"
    sound.mkdir()
    process = Forked(fill, sound, store)
    assert process.line() == "stuck"
    process.kill()
    track = make_track(sound, 7, 12_000 * 200)
    items = [(track, Segment(0, at, at + 12_000)) for at in range(0, track.samples, 12_000)]
    teacher = Counter()
    cache = TargetCache(store, "counter", teacher)
    made = [cache.path(*item) for item in items if cache.path(*item).exists()]
    assert 15 <= len(made) < 25
    # What the kill caught in the act, if anything, and more of it than it could have left.
    abandoned = made[0].with_name(f".{made[0].name}.0123abcd.partial")
    abandoned.write_bytes(b"half")
    cache.prepare(items)
    assert len(teacher.calls) == 200 - len(made)
    assert files_below(store) == sorted(cache.path(*item) for item in items)
    for (_, segment), codes in zip(items, codes_of(cache, items), strict=True):
        wave = torch.from_numpy(track.wave(segment.start, segment.stop))[None]
        np.testing.assert_array_equal(codes, Counter().targets(wave)[0])


def test_an_error_in_a_worker_stops_the_others(tmp_path, items):
    class Fails(Counter):
        def targets(self, wave):
            super().targets(wave)
            raise InputError("broken")

    teacher = Fails(seconds=0.02)
    with pytest.raises(InputError, match="broken"):
        TargetCache(tmp_path, "fails", teacher).prepare(items, silent, workers=2)
    assert len(teacher.calls) < len(items)
    assert not files_below(tmp_path)


def test_codes_that_do_not_fit_and_damaged_files_are_refused(tmp_path, items):
    with pytest.raises(InputError, match=r"teacher loud: codes from .* do not fit 16 bits"):
        TargetCache(tmp_path, "loud", Counter(highest=100_000)).prepare(items[:1])
    cache = TargetCache(tmp_path, "counter", Counter())
    with pytest.raises(InputError, match="can't read the cached codes of track0"):
        cache.read(*items[0], 0, 3)
    cache.prepare(items[:1])
    with pytest.raises(InputError, match=r"at least 38, codebooks\], found uint16 \[37, 2\]"):
        cache.read(*items[0], 0, 38)
    cache.path(*items[0]).write_bytes(b"not numbers")
    with pytest.raises(InputError, match="can't read the cached codes of track0"):
        cache.read(*items[0], 0, 3)


def test_encodec_gives_the_same_codes_on_any_number_of_cores(tmp_path, items):
    from transformers import EncodecConfig, EncodecModel

    from mergekit_audio.teachers.encodec import Encodec

    torch.manual_seed(0)
    shape = {"num_filters": 4, "hidden_size": 16, "codebook_size": 32, "num_lstm_layers": 1}
    model = EncodecModel(EncodecConfig(**shape, target_bandwidths=[1.5, 3.0])).eval()
    with torch.no_grad():
        track = items[0][0]
        frames = model.encoder(torch.from_numpy(track.wave())[None, None])[0].T
        for layer in model.quantizer.layers:
            layer.codebook.embed.copy_(frames[torch.randperm(len(frames))[:32]])
            frames = frames - layer.codebook.embed[layer.codebook.quantize(frames)]
    model.save_pretrained(tmp_path / "small")
    teacher = Encodec(model="small").open(None, root=tmp_path)
    found = []
    for workers in (1, 3):
        cache = TargetCache(tmp_path / f"store{workers}", "encodec", teacher)
        cache.prepare(items, workers=workers)
        found.append(codes_of(cache, items))
    for one, other, (track, segment) in zip(*found, items, strict=True):
        np.testing.assert_array_equal(one, other)
        wave = torch.from_numpy(track.wave(segment.start, segment.stop))[None]
        np.testing.assert_array_equal(one, teacher.targets(wave)[0])
    assert len(np.unique(np.concatenate(found[0])[:, 0])) > 3
    assert len(np.unique(np.concatenate(found[0])[:, 1])) > 3
