"""Tensors as NumPy sees them: stored bits to numbers and back, for every dtype of the format."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

STORED: Mapping[str, np.dtype] = MappingProxyType(
    {
        **{
            name: np.dtype(name)
            for name in (
                *("bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
                *("float16", "float32", "float64", "complex64"),
            )
        },
        "bfloat16": np.dtype("uint16"),
        **{
            name: np.dtype("uint8")
            for name in (
                *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
                "float8_e8m0fnu",
            )
        },
    }
)
"""torch's name of a dtype -> the NumPy dtype that holds its bits."""


def is_floating(dtype: str) -> bool:
    """Say whether a dtype, by torch's name, is a real floating-point one."""
    return dtype.startswith(("float", "bfloat"))


def to_float64(bits: np.ndarray, dtype: str) -> np.ndarray:
    """Return stored floating-point values as float64, exactly; a new array."""
    if dtype.startswith("float8"):
        table = _float8_values(dtype)
        exact: np.ndarray = table[bits]
        return exact
    with np.errstate(invalid="ignore"):  # signalling NaNs become quiet ones
        return to_values(bits, dtype).astype(np.float64)


def to_values(bits: np.ndarray, dtype: str) -> np.ndarray:
    """Return stored values in the narrowest NumPy dtype that holds them; a view where it can."""
    if dtype == "bfloat16":
        return _bfloat16_to_float32(bits)
    if dtype.startswith("float8"):
        exact: np.ndarray = _float8_values(dtype)[bits]
        return exact.astype(np.float32)
    return bits


def from_float64(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return the stored bits of float64 values: rounded to float32, and that to a narrower dtype.

    So a merge in 16 bits is bit for bit the float32 merge rounded to 16 bits (nearest, ties to
    even). Values beyond the dtype become infinite, or NaN where it has no infinity.
    """
    if dtype == "float64":
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32)
        if dtype == "float32":
            return single
        if dtype == "float16":
            return single.astype(np.float16)
    if dtype == "bfloat16":
        return _float32_to_bfloat16(single)
    import torch

    rounded = torch.from_numpy(np.ascontiguousarray(single)).to(getattr(torch, dtype))
    result: np.ndarray = rounded.view(torch.uint8).numpy()
    return result


def largest(dtype: str) -> float:
    """Return the largest finite value of a floating-point dtype."""
    if dtype in ("float16", "float32", "float64"):
        return float(np.finfo(STORED[dtype]).max)
    if dtype == "bfloat16":
        return float(np.uint32(0x7F7F0000).view(np.float32))
    return float(np.nanmax(np.where(np.isfinite(_float8_values(dtype)), _float8_values(dtype), 0)))


def as_torch(bits: np.ndarray, dtype: str) -> torch.Tensor:
    """Return stored bits as a torch tensor of that dtype, which shares their memory."""
    import torch

    writable = bits if bits.flags.writeable and bits.flags.c_contiguous else bits.copy()
    return torch.from_numpy(writable).view(getattr(torch, dtype))


def from_torch(tensor: torch.Tensor) -> tuple[np.ndarray, str]:
    """Return a tensor's stored bits and torch's name of its dtype; shares memory where it can."""
    import torch

    dtype = str(tensor.dtype).removeprefix("torch.")
    values = tensor.detach().cpu().contiguous()
    holder = STORED[dtype]
    if holder.name != dtype:
        values = values.view(getattr(torch, holder.name))
    return values.numpy(), dtype


def _bfloat16_to_float32(bits: np.ndarray) -> np.ndarray:
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def _float32_to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Round to nearest, ties to even, by adding half a unit to the bits that are cut off."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = bits >> 16
    rounded &= 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    result = rounded.astype(np.uint16).reshape(values.shape)
    is_nan = np.isnan(values)
    if is_nan.any():
        result[is_nan] = 0x7FC0
    return result


def _float8_values(dtype: str) -> np.ndarray:
    import torch

    codes = torch.arange(256, dtype=torch.uint8).view(getattr(torch, dtype))
    result: np.ndarray = codes.to(torch.float64).numpy()
    return result
