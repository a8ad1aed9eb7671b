"""Describe a set of tensor names by few globs that people can read."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence

_NUMBERED = re.compile(r"(.+?)\.(\d+)\.(.+)", re.DOTALL)


def globs_of(wanted: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return globs that match the wanted names and no other of ``names``.

    Layers with the same wanted tensors share globs: ``encoder.layers.{0-3,8}.attention.*``.

    Parameters
    ----------
    wanted
        The names to match.
    names
        All names that the globs may meet.
    """
    chosen, everything = set(wanted), tuple(sorted(set(names)))
    loose, stacks = _split(tuple(sorted(chosen)))
    _, whole_stacks = _split(everything)
    if not loose and not stacks:
        return []
    if len(chosen) == len(everything):
        return ["*"]
    found = []
    for prefix, layers in stacks.items():
        alike: dict[tuple[tuple[str, ...], tuple[str, ...]], list[int]] = {}
        for layer, suffixes in layers.items():
            key = tuple(sorted(suffixes)), tuple(sorted(whole_stacks[prefix][layer]))
            alike.setdefault(key, []).append(layer)
        for (part, whole), numbers in alike.items():
            stem = f"{prefix}.{_numbers(sorted(numbers))}."
            found += [stem + glob for glob in _covers(part, whole)]
    return [*_covers(loose, everything), *found]


@functools.lru_cache(maxsize=8)
def _split(names: tuple[str, ...]) -> tuple[list[str], dict[str, dict[int, list[str]]]]:
    """Part names into those without a layer's number and those by prefix and number."""
    loose: list[str] = []
    stacks: dict[str, dict[int, list[str]]] = {}
    for name in names:
        if found := _NUMBERED.fullmatch(name):
            prefix, number, suffix = found.groups()
            stacks.setdefault(prefix, {}).setdefault(int(number), []).append(suffix)
        else:
            loose.append(name)
    return loose, stacks


def _covers(wanted: Sequence[str], whole: Sequence[str]) -> list[str]:
    """Return globs for a part of ``whole``: ``a.*`` where all below ``a`` is wanted."""
    if not wanted:
        return []
    if len(wanted) == len(whole) and len(wanted) > 1:
        return ["*"]
    found: list[str] = []
    for head, below in _by_head(wanted).items():
        everything = _by_head(whole)[head]
        if below == [""]:
            found.append(head)
        elif "" in below or "" in everything:
            found += [f"{head}.{rest}" if rest else head for rest in below]
        else:
            found += [f"{head}.{rest}" for rest in _covers(below, everything)]
    return found


def _by_head(names: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        head, _, rest = name.partition(".")
        found.setdefault(head, []).append(rest)
    return found


def _numbers(values: Sequence[int]) -> str:
    """Return ``7`` for one number, ``{0-3,8}`` for several."""
    if len(values) == 1:
        return str(values[0])
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return "{" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) + "}"
