"""Searches of λ: one evaluation after the other, or many on few tracks."""
