"""Stored bits to numbers and back, against torch and exact values."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mergekit_audio.weights.dtypes import as_torch, from_float64, from_torch, largest, to_float64

NARROW = ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1 + 2**-8 + 2**-40, 1.0),  # float32 drops 2⁻⁴⁰, and the tie goes to even
        (1 + 2**-8 + 2**-20, 1 + 2**-7),
        (1 + 2**-8, 1.0),
        (1 + 3 * 2**-8, 1 + 2**-6),
        (-(1 + 3 * 2**-8), -(1 + 2**-6)),
    ],
)
def test_bfloat16_by_hand(value, expected):
    assert to_float64(from_float64(np.array([value]), "bfloat16"), "bfloat16").item() == expected


@pytest.mark.parametrize("dtype", ["float32", *NARROW])
@given(values=st.lists(st.floats(-400, 400), min_size=1, max_size=20), tie=st.integers(-12, -3))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_rounding_is_that_of_a_float32_result_in_torch(dtype, values, tie):
    double = np.array([*values, 1 + 2.0**tie, 1 + 3 * 2.0**tie, 1 + 2.0**tie + 2.0**-50])
    found = from_float64(double, dtype)
    expected = torch.from_numpy(double.astype(np.float32)).to(getattr(torch, dtype))
    assert found.tobytes() == expected.view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_zeros_infinities_and_nan_keep_their_kind(dtype):
    values = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e300, -1e300])
    found = to_float64(from_float64(values, dtype), dtype)
    assert np.signbit(found[:2]).tolist() == [False, True]
    assert found[2:4].tolist() == [np.inf, -np.inf]
    assert np.isnan(found[4])
    assert found[5:].tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize("dtype", ["float64", "float32", *NARROW])
def test_every_stored_value_is_read_exactly(dtype):
    torch_dtype = getattr(torch, dtype)
    codes = torch.arange(256, dtype=torch.uint8)
    if torch_dtype.itemsize == 2:
        codes = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(torch.uint8)
    elif torch_dtype.itemsize > 2:
        codes = torch.randn(500, dtype=torch_dtype).view(torch.uint8)
    tensor = codes.view(torch_dtype)
    stored, name = from_torch(tensor)
    assert name == dtype
    np.testing.assert_array_equal(to_float64(stored, dtype), tensor.double().numpy())
    again = as_torch(stored, dtype)
    assert again.dtype == torch_dtype
    assert again.view(torch.uint8).equal(codes)


@pytest.mark.parametrize("dtype", ["float64", "float32", *NARROW])
def test_the_largest_value_is_torch_s(dtype):
    assert largest(dtype) == torch.finfo(getattr(torch, dtype)).max
