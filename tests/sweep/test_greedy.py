"""The greedy soup of task vectors, worked by hand."""

import pytest

from mergekit_audio.sweep.dense.interpolation import Box
from mergekit_audio.sweep.searches.greedy import greedy, scales_of
from mergekit_audio.sweep.searches.samplers import search

BOX = Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
HELPS = {0.0: 0.0, 0.5: 2.0, 1.0: 1.0}
"""What the first culture adds; the second adds 1.5 and takes 1 where the first is in; the third
takes away."""


def score(point):
    first, second, third = point
    gain = HELPS[first]
    gain += {0.0: 0.0, 0.5: 1.5, 1.0: 1.2}[second] - (1.0 if first and second else 0.0)
    return (10.0 + gain - 3.0 * third,)


def test_a_soup_worked_by_hand():
    asked = []

    def told(point):
        asked.append(point)
        return score(point)

    # 10 -> 12 with the first at 0.5 -> 12.5 with the second at 0.5; the third only takes away
    assert greedy(told, BOX, [], 2) == (0.5, 0.5, 0.0)
    assert asked[0] == (0.0, 0.0, 0.0)
    assert asked[1:7] == [
        (0.5, 0.0, 0.0),
        (1.0, 0.0, 0.0),
        (0.0, 0.5, 0.0),
        (0.0, 1.0, 0.0),
        (0.0, 0.0, 0.5),
        (0.0, 0.0, 1.0),
    ]
    assert asked[7:11] == [(0.5, 0.5, 0.0), (0.5, 1.0, 0.0), (0.5, 0.0, 0.5), (0.5, 0.0, 1.0)]
    assert asked[11:] == [(0.5, 0.5, 0.5), (0.5, 0.5, 1.0)]


def test_nothing_that_helps_leaves_the_base():
    assert greedy(lambda point: (-sum(point),), BOX, [], 3) == (0.0, 0.0, 0.0)
    assert greedy(lambda point: (1.0,), BOX, [(0.0, 0.0, 0.0)], 3) == (0.0, 0.0, 0.0)


def test_of_equals_the_first_culture_and_its_smallest_scale_come_in():
    box = Box((0.0, 0.0), (1.0, 1.0))
    assert greedy(lambda point: (float(any(point)),), box, [], 4) == (0.25, 0.0)


def test_scales_reach_both_ends_but_not_the_base():
    assert scales_of(Box((-0.2,), (1.0,)), 0, 2) == pytest.approx([-0.1, -0.2, 0.5, 1.0])
    assert scales_of(BOX, 1, 4) == [0.25, 0.5, 0.75, 1.0]


def test_a_search_by_greedy_ends_where_the_soup_is_done():
    first = [(0.0, 0.0, 0.0), (0.25, 0.25, 0.25)]

    def any_score(point):
        return (
            -sum(abs(value - wanted) for value, wanted in zip(point, (0.5, 0, 0), strict=True)),
        )

    found = search(any_score, BOX, sampler="greedy", trials=50, seed=0, first=first, steps=2)
    assert [each.point for each in found[:2]] == first
    assert len(found) == 2 + 6 + 4
    assert max(found, key=lambda each: each.values).point == (0.5, 0.0, 0.0)
    few = search(any_score, BOX, sampler="greedy", trials=5, seed=0, first=first, steps=2)
    assert few == found[:5]
