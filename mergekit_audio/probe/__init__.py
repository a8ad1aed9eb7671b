"""Probe frozen encoders: features, heads, metrics, and the table of an evaluation."""
