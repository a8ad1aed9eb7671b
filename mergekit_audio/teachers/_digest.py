"""The digest of everything that decides a teacher's targets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

from mergekit_audio.files import canonical_json


def teacher_digest(settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the sha256 over the settings' canonical JSON and the tensors in the order of names."""
    digest = hashlib.sha256(canonical_json(dict(settings)).encode("utf-8"))
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        shape = list(tensor.shape)
        digest.update(canonical_json([name, str(tensor.dtype), shape]).encode("utf-8"))
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
