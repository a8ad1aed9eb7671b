"""How data changes weights: one way of training a file."""
