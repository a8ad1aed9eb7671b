"""Say beside every table how its tasks were probed, and what was chosen where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.recipe.protocols import SPLIT_WORDS


def task_notes(tasks: Sequence[PreparedTask]) -> list[str]:
    """Return one sentence for each protocol, with the tasks that it probed."""
    names: dict[str, list[str]] = {}
    for task in tasks:
        names.setdefault(task.task.protocol.statement(), []).append(task.task.name)
    return [f"{', '.join(members)}: {statement}." for statement, members in names.items()]


def selection_notes(rows: Sequence[Mapping[str, Any]], tasks: Sequence[PreparedTask]) -> list[str]:
    """Return what layer and learning rate each model got; a choice on test is said first.

    Parameters
    ----------
    rows
        The summary's rows, with ``choices``.
    tasks
        The tasks, in the table's order.
    """
    forced = [task.task.name for task in tasks if task.is_selected_on_test()]
    notes = []
    if forced:
        notes.append(
            f"SELECTED ON THE TEST SPLIT: layer or learning rate of {', '.join(forced)}, so these "
            "scores are too good."
        )
    for task in tasks:
        found = [
            f"{row['name']}: {_choice(row['choices'][task.task.name])}"
            for row in rows
            if task.task.name in row["choices"]
        ]
        if found:
            choice = next(
                row["choices"][task.task.name] for row in rows if task.task.name in row["choices"]
            )
            notes.append(
                f"{task.task.name}, chosen on the {SPLIT_WORDS[choice['split']]} split by "
                f"{choice['metric']} among {len(choice['candidates'])} probes: {'; '.join(found)}."
            )
    return notes


def _choice(choice: Mapping[str, Any]) -> str:
    layer = "weighted sum" if choice["layer"] == "weighted" else f"layer {choice['layer']}"
    rates = any("learning_rate" in each for each in choice["candidates"])
    return f"{layer}, learning rate {choice['learning_rate']:g}" if rates else layer
