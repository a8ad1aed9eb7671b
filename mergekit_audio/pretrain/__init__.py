"""Pre-train and continually pre-train models: plan(recipe) -> TrainPlan, run(plan) -> Lock."""

from mergekit_audio.pretrain.planner import TrainPlan, plan
from mergekit_audio.pretrain.running import run

__all__ = ["TrainPlan", "plan", "run"]
