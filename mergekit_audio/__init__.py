"""Continual pre-training, merging and probing of music foundation models across traditions."""

__version__ = "0.1.0"
