"""Where a tensor stands in its model: its layer, and its part (front, positional, stack, other)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

FRONT, POSITIONAL, OTHER = "front", "positional", "other"
"""The parts that are no stack of layers."""

_FRONT_WORDS = ("feature_extractor", "feature_projection", "conv1", "conv2")
_POSITIONAL_WORDS = ("pos_conv", "pos_embed", "position")


def group_of(name: str) -> str:
    """Return a tensor's layer: its name up to the first number, or without its last word.

    ``encoder.layers.3.attention.k_proj.weight`` is in ``encoder.layers.3``,
    ``feature_projection.projection.bias`` in ``feature_projection.projection``.
    """
    parts = name.split(".")
    for place, part in enumerate(parts):
        if part.isdecimal():
            return ".".join(parts[: place + 1])
    return ".".join(parts[:-1]) or name


def part_of(name: str) -> str:
    """Return a tensor's part of the model: ``front``, ``positional``, a stack's name or ``other``.

    A stack is what stands before the first number: ``encoder.layers``, ``model.decoder.layers``.
    The front is what turns sound into the stack's input (``feature_extractor``,
    ``feature_projection``, Whisper's ``conv1`` and ``conv2``); positional is every
    ``pos_conv…``, ``pos_embed…`` or ``…position…``; heads, embeddings and last norms are other.
    """
    words = name.split(".")
    place = next((place for place, word in enumerate(words) if word.isdecimal()), len(words))
    before = words[:place]
    if any(word in _FRONT_WORDS for word in before):
        return FRONT
    if any(known in word for word in before for known in _POSITIONAL_WORDS):
        return POSITIONAL
    return ".".join(before) if before and place < len(words) else OTHER


def by_group(items: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    """Return what belongs to each layer's tensors, layer 10 after layer 9."""
    groups: dict[str, list[T]] = {}
    for name, item in items:
        groups.setdefault(group_of(name), []).append(item)
    return dict(sorted(groups.items(), key=lambda entry: _natural(entry[0])))


def by_part(items: Iterable[tuple[str, T]]) -> dict[str, list[T]]:
    """Return what belongs to each part's tensors: front, positional, stacks by name, other."""
    groups: dict[str, list[T]] = {}
    for name, item in items:
        groups.setdefault(part_of(name), []).append(item)
    return {part: groups[part] for part in sorted(groups, key=_part_order)}


def part_of_groups(names: Iterable[str]) -> Mapping[str, str]:
    """Return each layer's part, by the layer's name; a layer with several is its first tensor's."""
    parts: dict[str, str] = {}
    for name in names:
        parts.setdefault(group_of(name), part_of(name))
    return parts


def in_model_order(groups: Mapping[str, str]) -> list[str]:
    """Return layers in the order of their parts: front, positional, stacks, other."""
    return sorted(groups, key=lambda group: (_part_order(groups[group]), _natural(group)))


def _part_order(part: str) -> tuple[int, str]:
    return ({FRONT: 0, POSITIONAL: 1, OTHER: 3}.get(part, 2), part)


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key in which layer 10 comes after layer 9."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)
    ]
