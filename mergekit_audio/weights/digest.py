"""The digest of a checkpoint's content: of its tensors, whatever files they lie in."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from blake3 import blake3


def tensor_digest(name: str, dtype: str, bits: np.ndarray) -> str:
    """Return the BLAKE3 of one tensor: (canonical name, dtype, shape), a line, then its bytes."""
    line = json.dumps([name, dtype, list(bits.shape)], ensure_ascii=True)
    total = blake3(line.encode("ascii") + b"\n")
    total.update(np.ascontiguousarray(bits).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def content_digest(tensor_digests: Mapping[str, str]) -> str:
    """Return the BLAKE3 of the tensors' digests, in the order of their names, a line each."""
    lines = "".join(f"{tensor_digests[name]}\n" for name in sorted(tensor_digests))
    return blake3(lines.encode("ascii")).hexdigest()
