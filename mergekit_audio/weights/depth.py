"""Where a tensor lies in a model's main stack of layers, read off the names alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Stack:
    """The numbered layers that most tensors belong to.

    Parameters
    ----------
    prefix
        What stands before a layer's number, with its dot: ``encoder.layers.``.
    count
        One more than the largest number.
    """

    prefix: str
    count: int

    def layer(self, name: str) -> int | None:
        """Return the layer that a tensor belongs to, None outside the stack."""
        if not name.startswith(self.prefix):
            return None
        number = name[len(self.prefix) :].split(".", 1)[0]
        return int(number) if number.isdigit() else None

    def renumbered(self, name: str, layer: int) -> str:
        """Return the name of the same tensor in another layer."""
        rest = name[len(self.prefix) :].partition(".")
        return f"{self.prefix}{layer}{rest[1]}{rest[2]}"


def main_stack(names: Iterable[str]) -> Stack | None:
    """Return the stack with the most tensors, the first by name among equals; None without any.

    A stack is the text before the first number that stands between dots.
    """
    tensors: dict[str, int] = {}
    counts: dict[str, int] = {}
    for name in names:
        parts = name.split(".")
        place = next((i for i, part in enumerate(parts) if part.isdigit()), None)
        if place is None:
            continue
        prefix = "".join(f"{part}." for part in parts[:place])
        tensors[prefix] = tensors.get(prefix, 0) + 1
        counts[prefix] = max(counts.get(prefix, 0), int(parts[place]) + 1)
    if not tensors:
        return None
    best = min(tensors, key=lambda prefix: (-tensors[prefix], prefix))
    return Stack(best, counts[best])
