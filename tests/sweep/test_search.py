"""Searches of λ on functions whose best point is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergekit_audio.errors import DependencyError
from mergekit_audio.sweep.dense.interpolation import Box
from mergekit_audio.sweep.searches import samplers as module
from mergekit_audio.sweep.searches.samplers import SAMPLERS, search
from mergekit_audio.sweep.searches.trials import Trial, best, pareto_front

BOX = Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
BEST = np.array([0.3, 0.6, 0.2])


def bowl(point):
    return (1.0 - float(((np.array(point) - BEST) ** 2).sum()),)


@pytest.mark.parametrize(
    ("sampler", "gap"),
    [("tpe", 0.02), ("cmaes", 0.02), ("quadratic", 2e-3), ("coordinate", 2e-3), ("nsga", 0.05)],
)
def test_every_sampler_comes_near_the_best_point(sampler, gap):
    if sampler in ("tpe", "cmaes", "nsga"):
        pytest.importorskip("optuna")
    found = search(bowl, BOX, sampler=sampler, trials=60, seed=1, first=[(0.0, 0.0, 0.0)])
    assert len(found) == 60
    assert [each.number for each in found] == list(range(60))
    assert found[0].point == (0.0, 0.0, 0.0)
    assert best(found).values[0] > 1.0 - gap
    assert all(BOX.contains(each.point) for each in found)
    again = search(bowl, BOX, sampler=sampler, trials=60, seed=1, first=[(0.0, 0.0, 0.0)])
    assert again == found


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("trials", [1, 2, 5])
def test_few_trials_are_few_trials(sampler, trials):
    if sampler in ("tpe", "cmaes", "nsga"):
        pytest.importorskip("optuna")
    first = [(0.0, 0.0, 0.0), (0.25, 0.25, 0.25), (2.0, 0.0, 0.0)]
    told = []
    found = search(bowl, BOX, sampler=sampler, trials=trials, seed=0, first=first, told=told.append)
    assert told == found
    assert len(found) == trials


def test_known_points_are_not_evaluated_again():
    calls = []

    def score(point):
        calls.append(point)
        return bowl(point)

    found = search(
        score, BOX, sampler="coordinate", trials=40, seed=0, first=[tuple(BEST), tuple(BEST)]
    )
    assert len(found) == 40
    assert len(calls) == len(set(calls)) < 40


def test_two_values_make_a_front():
    pytest.importorskip("optuna")

    def score(point):
        return (1 - (point[0] - 0.2) ** 2, 1 - (point[0] - 0.8) ** 2)

    found = search(
        score, Box((0.0,), (1.0,)), sampler="nsga", trials=80, seed=3, first=[(0.0,), (1.0,)]
    )
    front = pareto_front(found)
    inside = [each.point[0] for each in front]
    assert min(inside) < 0.35
    assert max(inside) > 0.65
    assert all(0.1 < value < 0.9 for value in inside)


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4)).map(lambda v: tuple(map(float, v))),
        min_size=1,
        max_size=12,
    )
)
def test_a_front_is_what_nobody_beats(values):
    trials = [Trial(i, (float(i),), value) for i, value in enumerate(values)]
    front = {each.values for each in pareto_front(trials)}
    expected = {
        value
        for value in values
        if not any(o != value and o[0] >= value[0] and o[1] >= value[1] for o in values)
    }
    assert front == expected


def test_ties_go_to_the_smaller_scale():
    trials = [Trial(0, (0.8,), (1.0,)), Trial(1, (0.2,), (1.0,)), Trial(2, (0.1,), (0.9,))]
    assert best(trials).point == (0.2,)


def test_what_is_missing_is_named(monkeypatch):
    def missing(sampler):
        raise DependencyError("the sampler tpe needs optuna, which is not installed", "pip install")

    with pytest.raises(ValueError, match="is none of tpe"):
        search(bowl, BOX, sampler="magic", trials=1, seed=0)
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(DependencyError, match="needs optuna, which is not installed"):
        module._import_optuna("tpe")
