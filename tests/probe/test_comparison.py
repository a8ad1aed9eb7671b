"""Differences of models: their values, intervals, families, averages, and what they cover."""

import numpy as np
import pytest
from scipy.stats import bootstrap
from sklearn.metrics import average_precision_score, roc_auc_score

from mergekit_audio.errors import InputError
from mergekit_audio.probe.comparison import TaskScores, compare
from mergekit_audio.probe.intervals import (
    acceleration,
    bca_interval,
    bootstrap_p_value,
    percentile_interval,
)
from mergekit_audio.probe.resampling import resampling_weights


def tagging(name="makam", *, tracks=120, seeds=6, gains=None, western=False, noise=0.3, seed=0):
    """Return two labels' scores of models that share most of their errors."""
    generator = np.random.default_rng(seed)
    targets = generator.random((tracks, 2)) < 0.3
    common = generator.normal(size=targets.shape)
    scores = {}
    for model, gain in (gains or {"base": 0.5, "better": 1.5}).items():
        own = noise * generator.normal(size=(seeds, *targets.shape))
        scores[model] = (gain * targets + common + own).astype(np.float32)
    return TaskScores(name, "tagging", ("a", "b"), targets, scores, western)


def genres(*, tracks=80, seeds=6):
    generator = np.random.default_rng(9)
    targets = generator.integers(0, 3, tracks)
    scores = {
        model: gain * np.eye(3)[targets] + generator.normal(size=(seeds, tracks, 3))
        for model, gain in (("base", 0.2), ("better", 0.5))
    }
    return TaskScores("gtzan", "multiclass", tuple("xyz"), targets, scores, western=True)


def entry_of(found, *, task=None, metric="mean", average=None, model="better"):
    return next(
        entry
        for entry in found["entries"]
        if (entry["task"], entry["metric"], entry["average"], entry["models"][0])
        == (task, metric, average, model)
    )


def test_the_difference_is_that_of_scores_averaged_over_seeds():
    task = tagging()
    found = compare([task], ["base", "better"], resamples=200)
    entry = entry_of(found, task="makam", metric="average_precision")
    means = {name: scores.astype(np.float64).mean(axis=0) for name, scores in task.scores.items()}
    of = {
        name: average_precision_score(task.targets, scores, average="macro")
        for name, scores in means.items()
    }
    assert entry["difference"] == pytest.approx(of["better"] - of["base"], abs=1e-12)
    seeds = [
        average_precision_score(task.targets, task.scores["better"][seed], average="macro")
        - average_precision_score(task.targets, task.scores["base"][seed], average="macro")
        for seed in range(6)
    ]
    assert entry["mean_of_seeds"] == pytest.approx(np.mean(seeds), abs=1e-12)
    assert entry["models"] == ["better", "base"]
    assert (entry["tracks"], entry["seeds"], entry["resamples"]) == (120, 6, 200)
    assert entry["sign_flip_p"] == 2 / 64


def test_both_models_are_resampled_alike_as_sklearn_would():
    task = tagging(tracks=60, seeds=1)
    found = compare([task], ["base", "better"], resamples=64, seed=5)
    entry = entry_of(found, task="makam", metric="roc_auc")
    weights = next(resampling_weights(60, 64, seed=5, name="makam")).astype(int)
    differences = []
    for column in weights.T:
        drawn = np.repeat(np.arange(60), column)
        one, other = (
            roc_auc_score(task.targets[drawn], task.scores[name][0][drawn], average="macro")
            for name in ("better", "base")
        )
        differences.append(one - other)
    expected = np.quantile(differences, [0.025, 0.975])
    np.testing.assert_allclose(entry["percentile"], expected, rtol=0, atol=1e-9)
    assert entry["p"] == bootstrap_p_value(np.array(differences))


def test_averages_take_every_column_and_resample_each_task_on_its_own():
    tasks = [tagging(), genres()]
    found = compare(tasks, ["base", "better"], resamples=300)
    columns = [
        entry_of(found, task="makam", metric="roc_auc"),
        entry_of(found, task="makam", metric="average_precision"),
        entry_of(found, task="gtzan", metric="accuracy"),
    ]
    mean = entry_of(found, average="all")
    assert mean["difference"] == pytest.approx(np.mean([each["difference"] for each in columns]))
    assert mean["tracks"] == 200
    western, other = (entry_of(found, average=name) for name in ("western", "non_western"))
    assert western["percentile"] == columns[2]["percentile"]
    assert western["bca"] == pytest.approx(columns[2]["bca"])
    widths = [each["percentile"][1] - each["percentile"][0] for each in (mean, other, western)]
    # independent tasks: var = (2/3)^2 var(makam mean) + (1/3)^2 var(gtzan)
    assert widths[0] == pytest.approx(np.hypot(2 / 3 * widths[1], 1 / 3 * widths[2]), rel=0.15)


def test_holm_takes_all_differences_of_the_call_as_one_family():
    gains = {"base": 0.5, "same": 0.5, "better": 2.0}
    found = compare([tagging(gains=gains)], list(gains), resamples=999)
    assert len(found["entries"]) == 6  # two models, two metrics and their average
    assert found["smallest_holm_p"] == pytest.approx(6 * 2 / 1000)
    best = entry_of(found, task="makam", metric="roc_auc")
    assert best["p"] == pytest.approx(2 / 1000)
    assert best["holm_p"] == pytest.approx(6 * 2 / 1000)
    assert entry_of(found, task="makam", metric="roc_auc", model="same")["holm_p"] > 0.05


def test_equal_models_differ_by_nothing_and_five_seeds_can_not_tell():
    task = tagging(seeds=5)
    task.scores["better"] = task.scores["base"]
    entry = entry_of(compare([task], ["base", "better"], resamples=100), average="all")
    assert entry["difference"] == 0.0
    assert entry["percentile"] == entry["bca"] == [0.0, 0.0]
    assert (entry["p"], entry["sign_flip_p"]) == (1.0, "not possible")


def test_another_order_of_tasks_changes_no_interval():
    tasks = [tagging(), genres()]
    one = compare(tasks, ["base", "better"], resamples=100)
    other = compare(tasks[::-1], ["base", "better"], resamples=100)
    for entry in one["entries"]:
        same = entry_of(other, task=entry["task"], metric=entry["metric"], average=entry["average"])
        assert same["percentile"] == pytest.approx(entry["percentile"])
        assert same["bca"] == pytest.approx(entry["bca"])
        assert same["holm_p"] == entry["holm_p"]


def test_pairs_and_reference_are_as_asked():
    gains = {"base": 0.5, "a": 1.0, "b": 1.5}
    task = tagging(gains=gains)
    found = compare([task], list(gains), reference="b", resamples=20)
    assert {tuple(entry["models"]) for entry in found["entries"]} == {("base", "b"), ("a", "b")}
    found = compare([task], list(gains), pairs=[("b", "a")], resamples=20)
    assert {tuple(entry["models"]) for entry in found["entries"]} == {("b", "a")}
    with pytest.raises(InputError, match="'c': there is no such model among 'base', 'a', 'b'"):
        compare([task], list(gains), reference="c")


def test_all_missing_and_misshapen_scores_are_named():
    task = tagging(gains={"base": 0.5, "a": 1.0, "b": 1.5})
    del task.scores["a"]
    task.scores["b"] = task.scores["b"][:, :-1]
    with pytest.raises(InputError) as caught:
        compare([task], ["base", "a", "b"])
    assert "model 'a' has no scores" in caught.value.message
    assert "the scores of 'b' are [6, 119, 2], expected [seeds, 120 tracks" in caught.value.message


def test_half_precision_is_refused_and_named():
    task = tagging()
    task.scores["better"] = task.scores["better"].astype(np.float16)
    with pytest.raises(InputError, match="task 'makam': the scores of 'better' are float16"):
        compare([task], ["base", "better"])


def test_two_tracks_are_too_few_for_anything_but_a_difference():
    targets = np.array([[True], [False]])
    scores = {"base": np.array([[[0.1], [0.2]]]), "better": np.array([[[0.2], [0.1]]])}
    task = TaskScores("tiny", "tagging", ("a",), targets, scores)
    entry = entry_of(compare([task], list(scores), resamples=50), task="tiny", metric="roc_auc")
    assert entry["difference"] == 1.0
    assert entry["resamples"] < 50  # in half of them the label has one class
    assert entry["percentile"] == [1.0, 1.0]
    one = compare([task], list(scores), resamples=2, seed=1)["entries"][0]
    assert (one["percentile"] is None) == (one["resamples"] < 2)
    assert (one["p"] is None) == (one["holm_p"] is None) == (one["resamples"] < 2)


def test_one_model_has_nothing_to_be_compared_with():
    assert compare([tagging()], ["base"], resamples=10)["entries"] == []


def test_bca_equals_scipys():
    values = np.random.default_rng(0).exponential(size=40)
    known = bootstrap((values,), np.mean, n_resamples=999, method="BCa", rng=1)
    size = len(values)
    without = (values.sum() - values) / (size - 1)
    found = bca_interval(values.mean(), known.bootstrap_distribution, [without])
    assert found == pytest.approx(known.confidence_interval, rel=1e-9)
    assert acceleration([np.ones(4)]) == 0.0


def test_intervals_of_a_known_distribution():
    values = np.arange(1001.0)
    assert percentile_interval(values) == pytest.approx((25.0, 975.0))
    assert bca_interval(500.0, values, []) == pytest.approx((25.0, 975.0))
    low, high = bca_interval(2000.0, values, [])  # all resamples lie below: the ends rise
    assert low > 900
    assert high == pytest.approx(1000.0, abs=1e-3)
    assert bootstrap_p_value(np.array([1.0, 2.0, 3.0])) == pytest.approx(0.5)  # 2 (1 + 0) / 4
    assert bootstrap_p_value(np.array([-1.0, 1.0])) == 1.0


def test_the_interval_of_a_known_difference_covers_it():
    """Of 500 runs 93 to 97 % cover; the areas are known: P(N(gain, 1) > N(0, 1)) = Phi(gain/√2)."""
    from statistics import NormalDist

    gains = {"base": 0.6, "better": 1.0}
    area = {name: NormalDist().cdf(gain / np.sqrt(2)) for name, gain in gains.items()}
    truth, covered = area["better"] - area["base"], {"percentile": 0, "bca": 0}
    runs = 500
    for run in range(runs):
        generator = np.random.default_rng([7, run])
        targets = np.zeros((150, 1), dtype=bool)
        targets[generator.random(150) < 0.4] = True
        common = np.sqrt(0.7) * generator.normal(size=(150, 1))
        scores = {
            name: (gain * targets + common + np.sqrt(0.3) * generator.normal(size=(150, 1)))[None]
            for name, gain in gains.items()
        }
        task = TaskScores("made up", "tagging", ("a",), targets, scores)
        found = compare([task], list(gains), resamples=400, seed=run)
        entry = entry_of(found, task="made up", metric="roc_auc")
        for kind in covered:
            covered[kind] += entry[kind][0] <= truth <= entry[kind][1]
    assert 0.93 <= covered["percentile"] / runs <= 0.97
    assert 0.93 <= covered["bca"] / runs <= 0.97
