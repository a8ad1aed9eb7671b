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
    from mergekit_audio.merge import MergePlan, run_scales
    from mergekit_audio.merge.check_load import check_load
    from mergekit_audio.merge.extract_lora import extract
    from mergekit_audio.merge.extraction_plan import ExtractSettings, plan_extraction
    from mergekit_audio.methods.base import MergeMethod, TensorGroup
    from mergekit_audio.progress import Progress, ProgressEvent
    from mergekit_audio.recipe.ablation import AblationRecipe
    from mergekit_audio.recipe.evaluate import EvaluateRecipe
    from mergekit_audio.recipe.load import LoadedRecipe, load
    from mergekit_audio.recipe.measure import MeasureRecipe
    from mergekit_audio.recipe.merge import MergeRecipe
    from mergekit_audio.recipe.similarity import SimilarityRecipe
    from mergekit_audio.recipe.sweep import SweepRecipe
    from mergekit_audio.recipe.train import TrainRecipe
    from mergekit_audio.weights.checkpoint import Checkpoint
    from mergekit_audio.weights.fairseq import import_fairseq
    from mergekit_audio.weights.inspect import inspect_checkpoint, inspect_geometry
    from mergekit_audio.weights.lora import Adapter, open_adapter
    from mergekit_audio.weights.statistics import Statistics, open_statistics
    from mergekit_audio.weights.task_vector import TaskVector

# name: module. The engines are modules of their own: merge, measure, pretrain (plan, run), probe,
# sweep (and sweep.ablation).
_API = {
    "AblationRecipe": "recipe.ablation",
    "Adapter": "weights.lora",
    "Checkpoint": "weights.checkpoint",
    "CmergeError": "errors",
    "EvaluateRecipe": "recipe.evaluate",
    "ExtractSettings": "merge.extraction_plan",
    "LoadedRecipe": "recipe.load",
    "Lock": "lock",
    "MeasureRecipe": "recipe.measure",
    "MergeMethod": "methods.base",
    "MergePlan": "merge",
    "MergeRecipe": "recipe.merge",
    "PreparedCorpus": "audio.store",
    "Progress": "progress",
    "ProgressEvent": "progress",
    "SimilarityRecipe": "recipe.similarity",
    "Statistics": "weights.statistics",
    "Store": "audio.store",
    "SweepRecipe": "recipe.sweep",
    "TaskVector": "weights.task_vector",
    "TensorGroup": "methods.base",
    "Track": "audio.corpus",
    "TrainRecipe": "recipe.train",
    "check_load": "merge.check_load",
    "decode": "audio.decode",
    "extract": "merge.extract_lora",
    "import_fairseq": "weights.fairseq",
    "inspect_checkpoint": "weights.inspect",
    "inspect_geometry": "weights.inspect",
    "load": "recipe.load",
    "load_tracks": "audio.corpus",
    "open_adapter": "weights.lora",
    "open_statistics": "weights.statistics",
    "plan_extraction": "merge.extraction_plan",
    "read_lock": "lock",
    "run_demo": "demo",
    "run_scales": "merge",
    "verify": "lock",
    "write_manifest": "audio.corpus",
}

__all__ = [
    "AblationRecipe",
    "Adapter",
    "Checkpoint",
    "CmergeError",
    "EvaluateRecipe",
    "ExtractSettings",
    "LoadedRecipe",
    "Lock",
    "MeasureRecipe",
    "MergeMethod",
    "MergePlan",
    "MergeRecipe",
    "PreparedCorpus",
    "Progress",
    "ProgressEvent",
    "SimilarityRecipe",
    "Statistics",
    "Store",
    "SweepRecipe",
    "TaskVector",
    "TensorGroup",
    "Track",
    "TrainRecipe",
    "__version__",
    "check_load",
    "decode",
    "extract",
    "import_fairseq",
    "inspect_checkpoint",
    "inspect_geometry",
    "load",
    "load_tracks",
    "open_adapter",
    "open_statistics",
    "plan_extraction",
    "read_lock",
    "run_demo",
    "run_scales",
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
