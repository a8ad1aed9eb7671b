"""Sweep λ: plan(recipe) -> SweepPlan, sweep(recipe) -> Lock.

Names are imported when they are asked for: the processes that compute points need few of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mergekit_audio.sweep.planner import SweepPlan, plan
    from mergekit_audio.sweep.run import sweep

__all__ = ["SweepPlan", "plan", "sweep"]

_MODULES = {"SweepPlan": "planner", "plan": "planner", "sweep": "run"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
