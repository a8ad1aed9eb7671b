"""In-batch noise at MERT's sizes: 24,000-Hz clips of 5 s, pieces of 12,000 to 24,000 samples."""

import numpy as np
import pytest

from mergekit_audio.pretrain.data import Clip, ClipShape, Collate, WindowPool, window_pool
from mergekit_audio.pretrain.mixture import mix_in_batch
from mergekit_audio.recipe.train_arguments import NoiseMixture, TrainArguments

SAMPLES, RATE_HZ = 120_000, 24_000


class Recorder:
    """A generator that remembers what it was asked and what it answered."""

    def __init__(self, seed):
        self.generator = np.random.default_rng(seed)
        self.asked = []

    def random(self):
        return self.generator.random()

    def integers(self, low, high, endpoint):
        value = int(self.generator.integers(low, high, endpoint=endpoint))
        self.asked.append((low, high, value))
        return value


def by_hand(clean, applied, pieces):
    """Add pieces of the flattened concatenation of the other clean clips, one by one, float64."""
    mixed = clean.astype(np.float64)
    for clip in applied:
        flat = np.concatenate([clean[other] for other in range(len(clean)) if other != clip])
        for length, source, position in pieces[clip]:
            mixed[clip, position : position + length] += 1.0 * flat[source : source + length]
    return mixed


def test_a_worked_example_at_the_published_sizes():
    """Every piece that is drawn, followed from its source to its place."""
    clean = 0.1 * np.random.default_rng(0).standard_normal((4, SAMPLES)).astype(np.float32)
    lengths, counts, straddling = [], [], 0
    for seed in range(12):
        recorder = Recorder(seed)
        settings = NoiseMixture(probability=1.0)
        mixed = mix_in_batch(clean, settings, recorder, sample_rate_hz=RATE_HZ)
        asked, pieces = list(recorder.asked), {}
        for clip in range(4):
            low, high, count = asked.pop(0)
            assert (low, high) == (1, 3)
            counts.append(count)
            pieces[clip] = []
            for _ in range(count):
                low, high, length = asked.pop(0)
                assert (low, high) == (12_000, 24_000)
                low, high, source = asked.pop(0)
                assert (low, high) == (0, 3 * SAMPLES - length)
                low, high, position = asked.pop(0)
                assert (low, high) == (0, SAMPLES - length)
                pieces[clip].append((length, source, position))
                lengths.append(length)
                straddling += source // SAMPLES != (source + length - 1) // SAMPLES
        assert asked == []
        expected = by_hand(clean, range(4), pieces)
        np.testing.assert_allclose(mixed, expected, rtol=0, atol=1e-7)
    assert set(counts) == {1, 2, 3}
    assert min(lengths) < 13_000
    assert max(lengths) > 23_000
    assert straddling > 0


def test_noise_comes_from_clean_clips_only():
    """No compounding: a piece of a clip that was itself mixed is a piece of its clean copy."""
    clean = np.zeros((3, SAMPLES), dtype=np.float32)
    clean[0] = 1.0
    mixed = mix_in_batch(
        clean,
        NoiseMixture(probability=1.0, max_pieces=1),
        np.random.default_rng(1),
        sample_rate_hz=RATE_HZ,
    )
    assert set(np.unique(mixed[1:]).tolist()) <= {0.0, 1.0}
    np.testing.assert_array_equal(mixed[0], clean[0])  # the others are silent


def test_the_pool_may_be_larger_than_the_batch():
    """Clips 2 and 3 of a window of six: pieces come from the five others, flattened."""
    pool = np.random.default_rng(2).standard_normal((6, SAMPLES)).astype(np.float32)
    settings = NoiseMixture(probability=1.0, max_pieces=1)
    for seed in range(10):
        recorder = Recorder(seed)
        mixed = mix_in_batch(
            pool[2:4], settings, recorder, sample_rate_hz=RATE_HZ, pool=pool, place=2
        )
        for row, draws in enumerate((recorder.asked[:4], recorder.asked[4:])):
            length, source, position = (value for _, _, value in draws[1:])
            assert draws[2][:2] == (0, 5 * SAMPLES - length)
            flat = np.delete(pool, 2 + row, axis=0).reshape(-1)
            expected = pool[2 + row].copy()
            expected[position : position + length] += flat[source : source + length]
            np.testing.assert_array_equal(mixed[row], expected)


class Waves:
    """Crops whose samples all are their position."""

    def __init__(self, count, samples):
        self.count, self.samples, self.reads = count, samples, []

    def __len__(self):
        return self.count

    def wave(self, position):
        self.reads.append(position)
        return np.full(self.samples, position, dtype=np.float32)


def test_the_window_holds_the_clips_of_an_optimiser_step():
    clips = Waves(10, 8)
    pool = WindowPool(clips, 4)
    waves, place = pool(6)
    assert (waves[:, 0].tolist(), place) == ([4.0, 5.0, 6.0, 7.0], 2)
    waves, place = pool(4)
    assert (waves[:, 0].tolist(), place) == ([4.0, 5.0, 6.0, 7.0], 0)
    assert clips.reads == [4, 5, 6, 7]  # read once a window
    assert pool(8)[0][:, 0].tolist() == [8.0, 9.0]  # the last window may be cut short


@pytest.mark.parametrize("pool", ["batch", "window"])
def test_the_recipe_chooses_the_pool(pool):
    """With constant clips the noise tells which clips it was cut from."""
    arguments = TrainArguments.model_validate(
        {
            "batch_size": 2,
            "gradient_accumulation_steps": 3,
            "noise": {"probability": 1.0, "max_pieces": 1, "pool": pool}
            | {"min_length_s": 0.01, "max_length_s": 0.02},
        }
    )
    clips = Waves(6, 6400)
    collate = Collate(
        arguments,
        ClipShape(6400, 19, 320, RATE_HZ),
        seed=0,
        stage=0,
        keep_clean=True,
        pool=window_pool(arguments, clips),
    )
    seen = set()
    for first in (0, 2, 4):
        batch = collate([Clip(i, f"{i}", clips.wave(i), {}) for i in (first, first + 1)])
        noise = (batch["wave"] - batch["clean"]).numpy()
        seen |= {(first + row, int(value)) for row in (0, 1) for value in np.unique(noise[row])}
    partners = {(clip, value) for clip, value in seen if value}
    if pool == "batch":
        assert partners <= {(0, 1), (1, 0), (2, 3), (3, 2), (4, 5), (5, 4)}
    else:
        assert any(clip // 2 != value // 2 for clip, value in partners)
    assert all(clip != value for clip, value in partners)
