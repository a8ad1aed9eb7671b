"""Give a music foundation model an ear for another tradition; join several models into one.

This file is the map of the public API. Importing it loads neither torch nor numpy: each name is
fetched from its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mergekit_audio.audio.corpus import Track, load_tracks, write_manifest
    from mergekit_audio.audio.decode import decode
    from mergekit_audio.audio.store import PreparedCorpus, Store
    from mergekit_audio.demo import run_demo
    from mergekit_audio.errors import CmergeError
    from mergekit_audio.lock import Lock, read_lock, verify
    from mergekit_audio.progress import Progress, ProgressEvent
    from mergekit_audio.recipe.evaluate import EvaluateRecipe
    from mergekit_audio.recipe.load import LoadedRecipe, load
    from mergekit_audio.recipe.merge import MergeRecipe
    from mergekit_audio.recipe.sweep import SweepRecipe
    from mergekit_audio.recipe.train import TrainRecipe
    from mergekit_audio.weights.checkpoint import Checkpoint
    from mergekit_audio.weights.task_vector import TaskVector

# name: module. The engines are modules of their own: merge, pretrain, probe, sweep (plan, run).
_API = {
    "Checkpoint": "weights.checkpoint",
    "CmergeError": "errors",
    "EvaluateRecipe": "recipe.evaluate",
    "LoadedRecipe": "recipe.load",
    "Lock": "lock",
    "MergeRecipe": "recipe.merge",
    "PreparedCorpus": "audio.store",
    "Progress": "progress",
    "ProgressEvent": "progress",
    "Store": "audio.store",
    "SweepRecipe": "recipe.sweep",
    "TaskVector": "weights.task_vector",
    "Track": "audio.corpus",
    "TrainRecipe": "recipe.train",
    "decode": "audio.decode",
    "load": "recipe.load",
    "load_tracks": "audio.corpus",
    "read_lock": "lock",
    "run_demo": "demo",
    "verify": "lock",
    "write_manifest": "audio.corpus",
}

__all__ = [
    "Checkpoint",
    "CmergeError",
    "EvaluateRecipe",
    "LoadedRecipe",
    "Lock",
    "MergeRecipe",
    "PreparedCorpus",
    "Progress",
    "ProgressEvent",
    "Store",
    "SweepRecipe",
    "TaskVector",
    "Track",
    "TrainRecipe",
    "__version__",
    "decode",
    "load",
    "load_tracks",
    "read_lock",
    "run_demo",
    "verify",
    "write_manifest",
]


def __getattr__(name: str) -> Any:
    """Fetch a public name from its module (PEP 562)."""
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_API[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
