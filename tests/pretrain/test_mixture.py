import numpy as np
import pytest

from mergekit_audio.pretrain.mixture import mix_in_batch
from mergekit_audio.recipe.train_arguments import NoiseMixture


class Script:
    """A generator that gives written-down numbers and checks what it is asked."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def random(self):
        return self.answers.pop(0)

    def integers(self, low, high, endpoint):
        assert endpoint
        value = self.answers.pop(0)
        assert low <= value <= high
        return value


CLEAN = np.array([[1, 2, 3, 4], [10, 20, 30, 40], [100, 200, 300, 400]], dtype=np.float32)


def test_pieces_by_hand():
    settings = NoiseMixture(
        probability=0.5, min_length_s=2, max_length_s=3, max_pieces=2, volume=0.5
    )
    generator = Script(
        0.4, 2, 3, 2, 0, 2, 6, 2,  # clip 0: two pieces: [30 40 100] at 0, [300 400] at 2
        0.5,  # clip 1: not below the probability
        0.0, 1, 2, 3, 1,  # clip 2: one piece across clips 0 and 1: [4 10] at 1
    )  # fmt: skip
    mixed = mix_in_batch(CLEAN, settings, generator, sample_rate_hz=1)
    assert generator.answers == []
    np.testing.assert_array_equal(
        mixed,
        [
            [1 + 15, 2 + 20, 3 + 50 + 150, 4 + 200],
            [10, 20, 30, 40],
            [100, 200 + 2, 300 + 5, 400],
        ],
    )
    assert CLEAN[0, 0] == 1


def test_pieces_come_from_the_concatenation_of_the_others():
    settings = NoiseMixture(probability=1, min_length_s=3, max_length_s=9, max_pieces=1)
    clean = np.random.default_rng(1).standard_normal((5, 10)).astype(np.float32)
    for seed in range(200):
        mixed = mix_in_batch(clean, settings, np.random.default_rng(seed), sample_rate_hz=1)
        again = np.random.default_rng(seed)
        for clip in range(5):
            again.random()
            assert again.integers(1, 1, endpoint=True) == 1
            length = again.integers(3, 9, endpoint=True)
            source = again.integers(0, 40 - length, endpoint=True)
            position = again.integers(0, 10 - length, endpoint=True)
            others = np.delete(clean, clip, axis=0).reshape(-1)[source : source + length]
            expected = clean[clip].copy()
            expected[position : position + length] += others
            np.testing.assert_array_equal(mixed[clip], expected)


def test_probability_is_the_probability_to_apply():
    generator = np.random.default_rng(0)
    clean = np.random.default_rng(1).standard_normal((4, 50)).astype(np.float32)
    settings = NoiseMixture(probability=0.3, min_length_s=10, max_length_s=20)
    changed = [
        (mix_in_batch(clean, settings, generator, sample_rate_hz=1) != clean).any(axis=1)
        for _ in range(1000)
    ]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("settings", [NoiseMixture(probability=0), NoiseMixture(volume=0)])
def test_nothing_to_add(settings):
    mixed = mix_in_batch(CLEAN, settings, np.random.default_rng(0), sample_rate_hz=4)
    np.testing.assert_array_equal(mixed, CLEAN)


def test_one_clip_has_no_others():
    mixed = mix_in_batch(CLEAN[:1], NoiseMixture(), np.random.default_rng(0), sample_rate_hz=4)
    np.testing.assert_array_equal(mixed, CLEAN[:1])
