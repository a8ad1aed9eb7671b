"""One rounding from float64, against exact fractions and NumPy."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergekit_audio.weights.rounding import round_once


def nearest(value: float, mantissa_bits: int, least_exponent: int) -> float:
    """Round to a binary format by exact arithmetic, ties to even (without overflow)."""
    if value == 0:
        return value
    exact = Fraction(value)
    exponent = max(int(np.floor(np.log2(abs(value)))), least_exponent)
    while abs(exact) >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while exponent > least_exponent and abs(exact) < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** (exponent - mantissa_bits)
    return float(round(exact / unit) * unit)  # Python rounds a Fraction half to even


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1 + 2**-8 + 2**-40, 1 + 2**-7),  # by way of float32 it would become 1
        (1 + 2**-8, 1.0),  # a tie goes to even
        (1 + 3 * 2**-8, 1 + 2**-6),
        (-(1 + 2**-8 + 2**-40), -(1 + 2**-7)),
    ],
)
def test_bfloat16_by_hand(value, expected):
    assert round_once(torch.tensor([value], dtype=torch.float64), torch.bfloat16).item() == expected


@given(st.floats(-60_000, 60_000), st.integers(-60, 60), st.integers(-12, -7))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_bfloat16_is_the_nearest(value, tiny, tie):
    for each in (value, (1 + 2.0**tie) + tiny * 2.0**-50):
        found = round_once(torch.tensor([each], dtype=torch.float64), torch.bfloat16).item()
        assert found == nearest(each, 7, -126)


@given(st.floats(-65_000, 65_000), st.integers(-60, 60), st.integers(-26, 14))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_float16_is_numpy_s(value, tiny, exponent):
    near_tie = 2.0**exponent * (1 + 2.0**-11 + tiny * 2.0**-51)
    for each in (value, near_tie, -near_tie, value * 2.0**-30):
        found = round_once(torch.tensor([each], dtype=torch.float64), torch.float16)
        expected = np.float64(each).astype(np.float16)  # NumPy rounds float64 to float16 directly
        assert found.numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_zeros_infinities_and_nan_keep_their_kind(dtype):
    values = torch.tensor([0.0, -0.0, np.inf, -np.inf, np.nan, 1e300, -1e300], dtype=torch.float64)
    found = round_once(values, dtype)
    assert found.dtype == dtype
    assert torch.signbit(found[:2]).tolist() == [False, True]
    assert found[2:4].tolist() == [np.inf, -np.inf]
    assert found[4].isnan()
    assert found[5:].tolist() == [np.inf, -np.inf]
