"""Checkpoints: reading, comparing, subtracting and writing them."""
