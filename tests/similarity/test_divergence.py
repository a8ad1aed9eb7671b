"""Divergences against scipy and by hand; bootstrap intervals, floors, λ and correlations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import distance
from scipy.stats import pearsonr

from mergekit_audio.similarity.compare import compare, gain_correlation, suggested_scales
from mergekit_audio.similarity.counts import Tokens, count_tokens
from mergekit_audio.similarity.divergence import (
    cosine_distance,
    distributions,
    entropy,
    jensen_shannon,
    softmax_weights,
)


@given(st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_divergences_are_scipys(size, seed):
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 4, size=(2, 3, size)) + np.eye(size, dtype=int)[0]
    p, q = distributions(counts.astype(float))
    for i in range(3):
        expected = distance.jensenshannon(p[i], q[i], base=2) ** 2
        assert jensen_shannon(p, q)[i] == pytest.approx(expected, abs=1e-12)
        assert cosine_distance(p, q)[i] == pytest.approx(distance.cosine(p[i], q[i]), abs=1e-12)
    np.testing.assert_allclose(jensen_shannon(p, q), jensen_shannon(q, p), atol=1e-15)
    np.testing.assert_allclose(jensen_shannon(p, p), 0.0, atol=1e-15)


def test_by_hand():
    p, q = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert jensen_shannon(p, q) == 1.0
    assert cosine_distance(p, q) == 1.0
    assert entropy(np.array([0.5, 0.25, 0.25])) == 1.5
    weights = softmax_weights(np.array([0.0, 0.1]), 0.1 / np.log(3))
    np.testing.assert_allclose(weights, [0.75, 0.25])
    with pytest.raises(ValueError, match="without tokens"):
        distributions(np.zeros((2, 3)))


def corpus_counts(generator, p, tracks=40, frames=200):
    return np.stack([generator.multinomial(frames, p, size=1) for _ in range(tracks)]).astype("i4")


@pytest.fixture
def three():
    """Two corpora of one distribution, and one of another."""
    generator = np.random.default_rng(0)
    p, q = generator.dirichlet(np.ones(16), size=2)
    return {
        "a": corpus_counts(generator, p),
        "b": corpus_counts(generator, p),
        "c": corpus_counts(generator, q),
    }


def test_what_is_alike_is_at_the_floor_and_what_differs_is_far_above(three):
    found = compare(three, resamples=200, seed=1)
    values, floors = found.values["jensen_shannon"], found.floors["jensen_shannon"]
    assert values[0, 1] < 2 * floors[0]
    assert values[0, 2] > 50 * floors[0]
    for measure in ("jensen_shannon", "cosine"):
        low, high = found.low[measure], found.high[measure]
        corrected = found.corrected[measure]
        assert low[0, 2] < corrected[0, 2] < high[0, 2]
        assert low[0, 1] < 0.1 * low[0, 2]
        assert (corrected <= found.values[measure]).all()
        np.testing.assert_allclose(found.by_codebook[measure].mean(axis=0), found.values[measure])
        np.testing.assert_array_equal(low, low.T)
        assert (low <= high).all()
    pooled = {name: each.sum(axis=(0, 1)) / each.sum() for name, each in three.items()}
    expected = distance.jensenshannon(pooled["a"], pooled["c"], base=2) ** 2
    assert values[0, 2] == pytest.approx(expected, abs=1e-12)


def test_the_same_seed_gives_the_same_numbers(three):
    one, two, other = (compare(three, resamples=70, seed=seed) for seed in (1, 1, 2))
    assert one.as_dict() == two.as_dict()
    assert one.as_dict() != other.as_dict()


def test_intervals_are_those_of_a_plain_loop(three):
    """Percentiles of tracks drawn one by one, but for the noise of other draws."""
    found = compare(three, resamples=2000, seed=3)
    generator = np.random.default_rng(4)
    values = []
    for _ in range(2000):
        shares = []
        for name in ("a", "c"):
            counts = three[name][generator.integers(0, 40, size=40)].sum(axis=(0, 1))
            shares.append(counts / counts.sum())
        values.append(distance.jensenshannon(*shares, base=2) ** 2)
    width = np.ptp(np.quantile(values, [0.025, 0.975]))
    plain = found.values["jensen_shannon"][0, 2]
    ends = {"high": np.quantile(values, 0.025), "low": np.quantile(values, 0.975)}
    ends["corrected"] = np.mean(values)
    for kind, end in ends.items():
        own = getattr(found, kind)["jensen_shannon"][0, 2]
        assert own == pytest.approx(2 * plain - end, abs=0.15 * width)


def test_intervals_cover_the_distance_of_the_distributions():
    """In 200 pairs of corpora with tracks that differ, 95 % intervals cover it 90 % and more."""
    generator = np.random.default_rng(5)
    p, q = generator.dirichlet(5 * np.ones(8), size=2)
    truth = distance.jensenshannon(p, q, base=2) ** 2
    covered = 0
    for _ in range(200):
        counts = {
            name: np.stack(
                [generator.multinomial(50, generator.dirichlet(30 * own))[None] for _ in range(60)]
            ).astype("i4")
            for name, own in (("a", p), ("b", q))
        }
        found = compare(counts, resamples=200, seed=0)
        low, high = (each["jensen_shannon"][0, 1] for each in (found.low, found.high))
        covered += low <= truth <= high
    assert covered >= 180


def test_suggested_scales_add_up_and_prefer_the_nearest(three):
    found = compare(three, resamples=10, seed=0)
    scales = suggested_scales(found, ["b", "c"], temperature=0.02, scale=0.8)
    assert sum(scales["a"].values()) == pytest.approx(0.8)
    assert scales["a"]["b"] > scales["a"]["c"]
    assert scales["c"]["c"] > scales["c"]["b"]


def test_correlation_with_gains_is_scipys(three):
    found = compare(three, resamples=10, seed=0)
    gains = {"a": {"b": 0.03, "c": -0.01, "a": 0.1}, "c": {"a": -0.02, "b": 0.0}}
    told = gain_correlation(found, gains)
    distances = [pair["jensen_shannon"] for pair in told["pairs"]]
    expected = pearsonr(distances, [0.03, -0.01, -0.02, 0.0])
    assert told["jensen_shannon"]["pearson"] == pytest.approx(expected.statistic)
    assert gain_correlation(found, {"a": {"b": 0.1}})["cosine"] is None


def test_counting_by_codebook_and_as_tuples():
    codes = np.array([[0, 1], [0, 1], [2, 0]], dtype=np.uint16)
    tokens = {
        "x": Tokens(None, ("1", "2"), (codes, codes[:1])),
        "y": Tokens(None, ("1", "2"), (codes[2:], codes[1:])),
    }
    counts = count_tokens(tokens, None, joint=False)
    np.testing.assert_array_equal(counts["x"][0], [[2, 0, 1], [1, 2, 0]])
    np.testing.assert_array_equal(counts["y"][0], [[0, 0, 1], [1, 0, 0]])
    only = count_tokens(tokens, [1], joint=False)
    np.testing.assert_array_equal(only["x"][0], [[1, 2]])
    joint = count_tokens(tokens, None, joint=True)
    np.testing.assert_array_equal(joint["x"], [[[2, 1]], [[1, 0]]])
    np.testing.assert_array_equal(joint["y"], [[[0, 1]], [[1, 1]]])
