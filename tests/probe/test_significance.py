"""Holm's correction by hand, and sign flips against going through every pattern."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergekit_audio.errors import InputError
from mergekit_audio.probe.significance import holm, sign_flip_p_value


def test_holm_multiplies_by_what_is_left_and_never_falls():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.04]) == [0.04]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=6, max_size=9))
def test_sign_flips_count_every_pattern(values):
    differences = [value / 10 for value in values]
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, values, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(values))
    ]
    expected = np.mean([found >= abs(sum(values)) for found in sums])
    assert sign_flip_p_value(differences) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("seeds", "smallest"), [(6, 2 / 64), (8, 2 / 256), (30, 2 / 2**30)])
def test_the_smallest_p_value_is_two_patterns(seeds, smallest):
    differences = np.linspace(0.1, 0.2, seeds)
    assert sign_flip_p_value(differences) == pytest.approx(smallest, rel=1e-9)


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_five_seeds_can_not_reach_five_percent(seeds):
    assert sign_flip_p_value([1.0] * seeds) == "not possible"
    assert sign_flip_p_value([1.0] * 5, alpha=0.1) == 0.0625


def test_too_many_seeds_are_refused():
    with pytest.raises(InputError, match="41 seeds"):
        sign_flip_p_value([0.1] * 41)
