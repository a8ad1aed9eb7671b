"""Accuracy, key, tempo and R² equal scikit-learn's and mir_eval's on random and hard inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, r2_score

from mergekit_audio.errors import InputError
from mergekit_audio.probe.metrics_classes import key_score_matrix, parse_key
from mergekit_audio.probe.metrics_values import (
    correct_tempi,
    decode_tempo,
    r2_scores,
    tempo_targets,
)
from mergekit_audio.probe.task_metrics import METRICS_OF_KIND, score_task

TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
KEYS = tuple(f"key--{tonic} {mode}" for mode in ("major", "minor") for tonic in TONICS)
examples = given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.sampled_from([2, 5, 10**6]))


@settings(max_examples=60, deadline=None)
@examples
def test_accuracy_is_sklearns_with_ties_for_the_lowest_index(seed, tracks, levels):
    generator = np.random.default_rng(seed)
    scores = (generator.integers(0, levels, (tracks, 5)) / levels).astype(np.float32)
    targets = generator.integers(0, 5, tracks)
    lowest = np.array([row.tolist().index(max(row.tolist())) for row in scores])
    found = score_task("multiclass", scores, targets, list("abcde"), split="test")
    assert found.macro("accuracy") == pytest.approx(accuracy_score(targets, lowest), abs=1e-12)
    for label, value in found.labels.items():
        of_class = targets == "abcde".index(label)
        assert value == pytest.approx(np.mean(lowest[of_class] == targets[of_class]), abs=1e-12)
    absent = {label for index, label in enumerate("abcde") if index not in targets}
    assert set(found.left_out["without_tracks"]) == absent
    assert set(found.as_dict()["labels"]) == set("abcde") - absent


def test_every_pair_of_keys_scores_as_in_mir_eval():
    mir_eval = pytest.importorskip("mir_eval")
    names = [key.removeprefix("key--") for key in KEYS]
    expected = [[mir_eval.key.weighted_score(one, other) for other in names] for one in names]
    assert key_score_matrix(KEYS).tolist() == expected
    assert key_score_matrix(["C major", "G major", "F major"])[0].tolist() == [1.0, 0.5, 0.0]


@settings(max_examples=40, deadline=None)
@examples
def test_the_weighted_key_score_is_mir_evals_mean(seed, tracks, levels):
    mir_eval = pytest.importorskip("mir_eval")
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, levels, (tracks, 24)) / levels
    targets = generator.integers(0, 24, tracks)
    names = [key.removeprefix("key--") for key in KEYS]
    expected = np.mean(
        [
            mir_eval.key.weighted_score(names[target], names[row.argmax()])
            for target, row in zip(targets, scores, strict=True)
        ]
    )
    found = score_task("key", scores, targets, KEYS, split="test")
    assert found.macro("weighted_score") == pytest.approx(expected, abs=1e-12)


def test_flats_are_keys_and_other_words_are_not():
    assert parse_key("key--Db minor") == parse_key("C# minor") == (1, "minor")
    for label in ("key--H major", "C", "key--C dorian"):
        with pytest.raises(InputError, match="is not a key"):
            parse_key(label)


@settings(max_examples=60, deadline=None)
@examples
def test_r2_is_sklearns_and_leaves_out_what_never_changes(seed, tracks, levels):
    generator = np.random.default_rng(seed)
    values = generator.integers(0, levels, (tracks, 3)) / levels
    values[:, 1] = 0.1  # its mean is rounded: a sum of squares would not be 0
    estimates = values + generator.normal(size=values.shape)
    changes = [len(np.unique(column)) > 1 for column in values.T]
    if not any(changes):
        with pytest.raises(InputError, match="none of its outputs"):
            score_task("regression", estimates, values, list("abc"), split="test")
        return
    found = score_task("regression", estimates, values, list("abc"), split="test")
    expected = {
        name: r2_score(values[:, index], estimates[:, index])
        for index, name in enumerate("abc")
        if changes[index]
    }
    assert found.labels == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert found.macro("r2") == pytest.approx(np.mean(list(expected.values())), rel=1e-12)
    assert set(found.left_out["constant"]) == set("abc") - set(expected)


def test_r2_of_one_output_keeps_its_value_when_another_is_constant():
    values = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    assert r2_scores(np.array([[1.0, 0], [2.0, 0], [4.0, 0]]), values)[0] == 0.5  # 1 - 1 / 2
    assert np.isnan(r2_scores(values, values)[1])


def test_tempi_within_four_percent_are_right_and_octaves_are_not():
    truth = np.array([100.0, 100.0, 100.0, 100.0, 60.0])
    estimates = np.array([[104.0], [96.1], [104.1], [200.0], [62.0]])
    assert correct_tempi(estimates, truth).tolist() == [1.0, 1.0, 0.0, 0.0, 1.0]
    found = score_task("tempo", estimates, truth[:, None], ["tempo_bpm"], split="test")
    assert found.as_dict() == {"accuracy_1": 0.6, "labels": {}}


def test_a_tempo_that_is_not_above_zero_is_refused():
    with pytest.raises(InputError, match="1 of 2 tempi are not above 0 BPM, the first at row 1"):
        correct_tempi(np.ones((2, 1)), np.array([120.0, 0.0]))


def test_bins_are_read_at_the_peak_and_their_own_targets_give_the_tempo_back():
    tempi = np.array([15.0, 60.0, 120.4, 173.0, 287.0])
    targets = tempo_targets(tempi)
    assert targets.shape == (5, 300)
    assert targets[1, 57:64].tolist() == [0, 0.5, 0.5, 1, 0.5, 0.5, 0]
    np.testing.assert_allclose(decode_tempo(targets), np.rint(tempi), atol=1e-3)
    between = np.zeros((1, 300))
    between[0, [99, 100]] = 1.0, 0.5  # 99 weighs more: the peak lies between, nearer to 99
    assert 99.0 < decode_tempo(between)[0] < 99.5
    below = np.zeros((1, 300))
    below[0, [5, 80]] = 1.0, 0.1  # nothing below 10 BPM counts
    assert decode_tempo(below)[0] == pytest.approx(80.0, abs=1e-3)
    assert score_task("tempo", targets, tempi, [], split="test").macro("accuracy_1") == 1.0


@pytest.mark.parametrize("kind", sorted(METRICS_OF_KIND))
def test_half_precision_is_refused_for_every_kind(kind):
    tracks = 4
    targets = {
        "tagging": np.eye(tracks, dtype=bool),
        "multiclass": np.arange(tracks),
        "key": np.arange(tracks),
        "tempo": np.full(tracks, 120.0),
        "regression": np.eye(tracks),
    }[kind]
    scores = np.eye(tracks)[:, :1] if kind == "tempo" else np.eye(tracks)
    score_task(kind, scores, targets, KEYS[:tracks], split="test")
    with pytest.raises(InputError, match="are float16"):
        score_task(kind, scores.astype(np.float16), targets, KEYS[:tracks], split="test")


def test_shapes_and_classes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="do not fit"):
        score_task("multiclass", np.eye(3), np.arange(4), list("abc"), split="test")
    with pytest.raises(InputError, match="targets reach from 0 to 3"):
        score_task("multiclass", np.eye(4, 3), np.arange(4), list("abc"), split="test")
    with pytest.raises(InputError, match="do not fit"):
        score_task("regression", np.eye(3), np.eye(4), list("abcd"), split="test")
    with pytest.raises(InputError, match="the valid split has no tracks"):
        score_task("tagging", np.zeros((0, 3)), np.zeros((0, 3), bool), list("abc"), split="valid")
