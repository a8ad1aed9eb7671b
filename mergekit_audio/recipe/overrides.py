"""``--set key=value``: change a recipe's plain values before they are validated."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.recipe import positions
from mergekit_audio.recipe.positions import Path, spell

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


@dataclass(frozen=True)
class Override:
    """One ``--set``: its text, the path it names, the value it gives."""

    text: str
    path: Path
    value: Any

    @property
    def label(self) -> str:
        """The name shown instead of a file in faults."""
        return f"--set {self.text}"


def parse(texts: Sequence[str]) -> list[Override]:
    """Return overrides from ``models[0].weight=0.5`` or ``models.0.weight=0.5``; values are YAML.

    Raises
    ------
    RecipeError
        With every override that has no ``=``, a malformed key, or a value that is not YAML.
    """
    found: list[Override] = []
    faults: list[Fault] = []
    for text in texts:
        key, equals, value = text.partition("=")
        path = path_of(key.strip())
        if not equals or not path:
            faults.append(
                Fault(f"--set {text}", 0, 0, "", "expected key=value, e.g. --set scale=0.2")
            )
            continue
        try:
            document = positions.read(value, f"--set {text}")
            found.append(Override(text, path, document.value))
            inside = document.faults
        except RecipeError as error:
            inside = error.faults
        faults += [Fault(fault.file, 0, 0, spell(path), fault.problem) for fault in inside]
    if faults:
        raise RecipeError(faults)
    return found


def apply(
    value: dict[str, Any], overrides: Sequence[Override]
) -> tuple[dict[str, Any], list[Fault]]:
    """Return a changed copy of a recipe's plain values, and the overrides that do not fit it.

    A key that is not there is added (validation tells whether it is known), an index may be one
    past the end of a list.
    """
    changed = copy.deepcopy(value)
    faults = []
    for override in overrides:
        problem = _assign(changed, override.path, override.value)
        if problem:
            faults.append(Fault(override.label, 0, 0, spell(override.path), problem))
    return changed, faults


def path_of(key: str) -> Path:
    """Return the steps of ``models[0].weight``, or () when it is malformed."""
    steps: list[str | int] = []
    position = 0
    while position < len(key):
        match = _STEP.match(key, position)
        if match is None:
            return ()
        name, index = match.groups()
        if (name is not None and (position == 0) == key.startswith(".", position)) or (
            index and position == 0
        ):
            return ()
        steps.append(int(index) if index else name)
        position = match.end()
    return tuple(steps)


def _assign(target: Any, path: Path, value: Any) -> str:
    for depth, step in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(target, list):
            if not isinstance(step, int) and not step.isdigit():
                return f"{spell(path[:depth])} is a list: name an item by its index, from 0"
            index = int(step)
            if index > len(target) or (index == len(target) and not last):
                where, most = spell(path[:depth]), len(target) - 1
                return f"{where} has {len(target)} items: the index is from 0 to {most}"
            if last:
                target[index : index + 1] = [copy.deepcopy(value)]
            else:
                target = target[index]
        elif isinstance(target, dict):
            key = str(step)
            if last:
                target[key] = copy.deepcopy(value)
            else:
                if target.get(key) is None:
                    target[key] = {}
                target = target[key]
        else:
            return f"{spell(path[:depth])} is {target!r}, not a mapping: set it as a whole"
    return ""
