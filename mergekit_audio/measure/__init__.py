"""Measure models on audio for data-driven merges: plan(recipe), run(plan) -> Lock."""

from mergekit_audio.measure.planner import MeasurePlan, plan
from mergekit_audio.measure.running import run

__all__ = ["MeasurePlan", "plan", "run"]
