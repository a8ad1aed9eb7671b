"""Merge models: plan(recipe) -> MergePlan, run(plan) -> Lock, and Δ kept in memory for sweeps."""

from mergekit_audio.merge.arithmetic import apply_delta, compute_delta, merged_tensors
from mergekit_audio.merge.planner import MergePlan, PlanRow, plan
from mergekit_audio.merge.writing import run

__all__ = [
    "MergePlan",
    "PlanRow",
    "apply_delta",
    "compute_delta",
    "merged_tensors",
    "plan",
    "run",
]
