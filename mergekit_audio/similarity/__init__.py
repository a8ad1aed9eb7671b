"""Compare corpora by their acoustic tokens: plan(recipe), run(plan) -> Lock."""

from mergekit_audio.similarity.planner import SimilarityPlan, plan
from mergekit_audio.similarity.running import run

__all__ = ["SimilarityPlan", "plan", "run"]
