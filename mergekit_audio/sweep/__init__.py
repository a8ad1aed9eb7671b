"""Sweep λ: plan(recipe) -> SweepPlan, sweep(recipe) -> Lock."""

from mergekit_audio.sweep.planner import SweepPlan, plan
from mergekit_audio.sweep.run import sweep

__all__ = ["SweepPlan", "plan", "sweep"]
