"""Reweighted metrics equal scikit-learn's on the repeated tracks; so do those without a track."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, r2_score, roc_auc_score

from mergekit_audio.probe.resampling import (
    R2Statistic,
    TaggingStatistic,
    resampling_weights,
    statistic,
)


@st.composite
def tagged(draw):
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tracks, labels = draw(st.integers(3, 40)), draw(st.integers(1, 4))
    levels = draw(st.sampled_from([1, 2, 4, 10**6]))  # few levels: many ties
    targets = generator.random((tracks, labels)) < draw(st.floats(0.05, 0.95))
    targets[0], targets[1] = True, False
    return generator.integers(0, levels, (tracks, labels)) / levels, targets


def sklearn_macro(scores, targets):
    both = [column for column in range(targets.shape[1]) if 0 < targets[:, column].mean() < 1]
    if not both:
        return [np.nan, np.nan]
    return [
        np.mean([metric(targets[:, column], scores[:, column]) for column in both])
        for metric in (roc_auc_score, average_precision_score)
    ]


@settings(max_examples=60, deadline=None)
@given(tagged())
def test_weights_count_as_repeated_tracks(example):
    scores, targets = example
    weights = next(resampling_weights(len(scores), 8, seed=1, name="a"))
    found = TaggingStatistic(scores, targets).resampled(weights)
    for column in range(weights.shape[1]):
        drawn = np.repeat(np.arange(len(scores)), weights[:, column].astype(int))
        expected = sklearn_macro(scores[drawn], targets[drawn])
        np.testing.assert_allclose(found[:, column], expected, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(tagged())
def test_metrics_without_each_track_are_those_of_the_others(example):
    scores, targets = example
    found = TaggingStatistic(scores, targets).without_each()
    for left_out in range(len(scores)):
        others = np.arange(len(scores)) != left_out
        expected = sklearn_macro(scores[others], targets[others])
        np.testing.assert_allclose(found[:, left_out], expected, rtol=0, atol=1e-12)


def test_many_tracks_and_labels_equal_sklearn():
    generator = np.random.default_rng(0)
    targets = generator.random((1500, 6)) < np.linspace(0.01, 0.5, 6)
    scores = np.round(generator.normal(size=targets.shape) + targets, 2)
    weights = next(resampling_weights(1500, 3, seed=0, name="a"))
    found = TaggingStatistic(scores, targets).resampled(weights)
    for column in range(3):
        drawn = np.repeat(np.arange(1500), weights[:, column].astype(int))
        expected = sklearn_macro(scores[drawn], targets[drawn])
        np.testing.assert_allclose(found[:, column], expected, rtol=0, atol=1e-9)


def test_a_label_without_a_class_in_a_resample_is_left_out_of_its_mean():
    targets = np.array([[1, 1], [0, 0], [0, 1]], dtype=bool)
    scores = np.array([[0.9, 0.1], [0.2, 0.5], [0.4, 0.6]])
    known = TaggingStatistic(scores, targets)
    weights = np.array([[2.0, 0.0], [1.0, 3.0], [0.0, 0.0]], dtype=np.float32)
    found = known.resampled(weights)
    assert found[0, 0] == 0.5  # (1 + 0) / 2
    assert np.isnan(found[:, 1]).all()  # only track 1: no label has both classes
    without_first = np.array([[0.0], [1.0], [1.0]], dtype=np.float32)
    assert known.resampled(without_first)[0, 0] == 1.0  # label 0 has no positive left


@pytest.mark.parametrize("levels", [2, 3, 1000])
def test_r2_is_sklearns_on_the_repeated_tracks(levels):
    generator = np.random.default_rng(levels)
    values = generator.integers(0, levels, (9, 2)) / 10 + 0.1
    values[:, 1] = generator.normal(size=9)
    estimates = values + generator.normal(size=values.shape)
    known = R2Statistic(estimates, values)

    def expected(drawn):
        outputs = [k for k in range(2) if len(np.unique(values[drawn, k])) > 1]
        scores = [r2_score(values[drawn, k], estimates[drawn, k]) for k in outputs]
        return np.mean(scores) if scores else np.nan

    weights = next(resampling_weights(9, 40, seed=0, name="a"))
    for column, found in enumerate(known.resampled(weights)[0]):
        drawn = np.repeat(np.arange(9), weights[:, column].astype(int))
        assert found == pytest.approx(expected(drawn), rel=1e-9)
    for left_out, found in enumerate(known.without_each()[0]):
        assert found == pytest.approx(expected(np.delete(np.arange(9), left_out)), rel=1e-9)


def test_a_mean_of_tracks_is_a_weighted_mean():
    scores, targets = np.eye(4), np.array([0, 1, 0, 0])
    known = statistic("multiclass", scores, targets, tuple("abcd"))
    weights = np.array([[3.0], [0.0], [1.0], [0.0]], dtype=np.float32)
    assert known.resampled(weights).tolist() == [[0.75]]
    np.testing.assert_allclose(known.without_each(), [[1 / 3, 1 / 3, 2 / 3, 2 / 3]])


def test_resamples_draw_as_many_tracks_as_there_are_and_belong_to_the_task():
    blocks = list(resampling_weights(50, 130, seed=0, name="makam"))
    assert [block.shape for block in blocks] == [(50, 64), (50, 64), (50, 2)]
    weights = np.concatenate(blocks, axis=1)
    assert (weights.sum(axis=0) == 50).all()
    assert 0.9 < weights.var() < 1.1  # each count is nearly Poisson(1)
    again = np.concatenate(list(resampling_weights(50, 130, seed=0, name="makam")), axis=1)
    other = np.concatenate(list(resampling_weights(50, 130, seed=0, name="lyra")), axis=1)
    assert (weights == again).all()
    assert (weights != other).any()
