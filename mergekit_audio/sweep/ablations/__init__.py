"""The paper's Table 1 on one recipe: four trainings, probed."""
