"""ROC-AUC and average precision equal scikit-learn's, ties included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from mergekit_audio.errors import InputError
from mergekit_audio.probe.metrics import macro_roc_auc, score_labels


@st.composite
def scored_tracks(draw):
    tracks = draw(st.integers(2, 30))
    labels = draw(st.integers(1, 4))
    levels = draw(st.sampled_from([2, 3, 10, 10**6]))  # few levels: many ties
    seed = draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, levels, (tracks, labels)) / levels
    return scores, generator.random((tracks, labels)) < draw(st.floats(0.1, 0.9))


@settings(max_examples=200, deadline=None)
@given(scored_tracks())
def test_scores_equal_sklearn_with_ties(example):
    scores, targets = example
    names = [f"label{index}" for index in range(targets.shape[1])]
    both = [0 < column.sum() < len(column) for column in targets.T]
    if not any(both):
        with pytest.raises(InputError, match="none of its"):
            score_labels(scores, targets, names, split="test")
        return
    found = score_labels(scores, targets, names, split="test")
    columns = [index for index, kept in enumerate(both) if kept]
    assert found.labels == tuple(names[index] for index in columns)
    roc_auc = [roc_auc_score(targets[:, index], scores[:, index]) for index in columns]
    precision = [average_precision_score(targets[:, index], scores[:, index]) for index in columns]
    np.testing.assert_allclose(found.roc_auc, roc_auc, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.average_precision, precision, rtol=0, atol=1e-12)
    assert found.macro("roc_auc") == pytest.approx(np.mean(roc_auc), abs=1e-12)
    assert macro_roc_auc(scores, targets) == found.macro("roc_auc")


def test_labels_with_one_class_are_named_with_the_reason():
    targets = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1]], dtype=bool)
    found = score_labels(np.arange(9.0).reshape(3, 3), targets, ["a", "b", "c"], split="test")
    assert found.labels == ("a",)
    assert found.without_positives == ("b",)
    assert found.without_negatives == ("c",)
    assert found.roc_auc.tolist() == [0.5]  # scores 0, 3, 6 of targets 1, 0, 1


def test_half_of_the_pairs_are_right_when_all_scores_tie():
    found = score_labels(
        np.zeros((5, 1)), np.array([[1], [0], [1], [0], [0]], dtype=bool), ["a"], split="test"
    )
    assert found.roc_auc.tolist() == [0.5]
    assert found.average_precision.tolist() == [0.4]


@pytest.mark.parametrize("dtype", [np.float16, np.int64, bool])
def test_rounded_scores_are_refused(dtype):
    with pytest.raises(InputError, match="need float32 or float64"):
        score_labels(np.eye(4, dtype=dtype), np.eye(4, dtype=bool), list("abcd"), split="test")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(value):
    scores = np.eye(4)
    scores[1, 2] = value
    with pytest.raises(InputError, match="the test split: 1 of 16 values are NaN or infinite"):
        score_labels(scores, np.eye(4, dtype=bool), list("abcd"), split="test")


def test_saturated_sigmoids_tie_as_in_sklearn():
    generator = np.random.default_rng(3)
    logits = np.clip(60 * generator.normal(size=(300, 3)), -120, 80).astype(np.float32)
    scores = expit(logits)  # many are exactly 0 or 1
    assert scores.dtype == np.float32
    targets = generator.random((300, 3)) < 0.2
    found = score_labels(scores, targets, list("abc"), split="test")
    assert len(np.unique(scores)) < 0.7 * scores.size
    expected = [average_precision_score(targets[:, i], scores[:, i]) for i in range(3)]
    np.testing.assert_allclose(found.average_precision, expected, rtol=0, atol=1e-12)
