"""One rounding of computed values to the dtype of the output."""

from __future__ import annotations

import torch

_SIXTEEN_BITS_OR_LESS = ("float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def dtype_of(name: str) -> torch.dtype:
    """Return the torch dtype of a name such as ``bfloat16``."""
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def round_once(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return ``values`` as ``dtype``, each the nearest value, ties to even.

    torch converts float64 to 16 bits by way of float32 and so rounds twice: 1 + 2⁻⁸ + 2⁻⁴⁰ becomes
    1 in bfloat16, though 1 + 2⁻⁷ is nearer. Here the float32 step rounds to odd, after which the
    second rounding is that of the float64 value itself.

    Parameters
    ----------
    values
        Any shape; only float64 needs the step in between.
    dtype
        The dtype of the result.
    """
    narrow = str(dtype).removeprefix("torch.") in _SIXTEEN_BITS_OR_LESS
    if values.dtype != torch.float64 or not narrow:
        return values.to(dtype)
    return _to_float32_odd(values).to(dtype)


def _to_float32_odd(values: torch.Tensor) -> torch.Tensor:
    """Round to float32 toward zero, and set the last bit of what was not exact."""
    nearest = values.to(torch.float32)
    back = nearest.to(torch.float64)
    bits = nearest.view(torch.int32)
    bits = bits - (back.abs() > values.abs()).to(torch.int32)
    bits = bits | (back != values).to(torch.int32)
    return bits.view(torch.float32)
