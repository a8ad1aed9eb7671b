"""Merge models: plan(recipe) -> MergePlan, run(plan) -> Lock, and Δ kept in memory for sweeps."""

from mergekit_audio.merge.arithmetic import apply_delta, compute_delta, merged_tensors
from mergekit_audio.merge.planner import MergePlan, plan
from mergekit_audio.merge.rows import PlanRow
from mergekit_audio.merge.writing import run, run_scales

__all__ = [
    "MergePlan",
    "PlanRow",
    "apply_delta",
    "compute_delta",
    "merged_tensors",
    "plan",
    "run",
    "run_scales",
]
