"""The kinds of recipes: the command that runs each, and its model, imported when asked for."""

from __future__ import annotations

import importlib

from mergekit_audio.recipe.base import Strict

COMMANDS = {
    "merge": "merge",
    "train": "train-culture",
    "evaluate": "evaluate",
    "sweep": "sweep-lambda",
    "measure": "measure",
    "ablation": "ablation",
    "similarity": "similarity",
}
"""The command that runs each ``kind``."""

KINDS = tuple(COMMANDS)
"""What ``kind`` may be."""


def model_of(kind: str) -> type[Strict]:
    """Return the pydantic model of a kind: ``MergeRecipe`` of ``recipe/merge.py`` for ``merge``."""
    module = importlib.import_module(f"mergekit_audio.recipe.{kind}")
    model: type[Strict] = getattr(module, f"{kind.capitalize()}Recipe")
    return model
