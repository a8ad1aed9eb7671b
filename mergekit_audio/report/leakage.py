"""Say in plain words what test tracks training has heard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LISTED = 5


def leakage_sentences(summary: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each finding of ``leakage`` in a summary; none without it.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    """
    leakage = summary.get("leakage")
    if leakage is None:
        return []
    sentences = [_sentence(finding) for finding in leakage["findings"]]
    unknown = leakage["unknown_training"]
    if unknown:
        sentences.append(
            "Whether test recordings were trained on is not known of "
            f"{', '.join(unknown)}: no lock tells of the training."
        )
    return sentences


def _sentence(finding: Mapping[str, Any]) -> str:
    tracks = f"{finding['tracks']} of {finding['of']} {finding['second']} tracks"
    are = "is" if finding["tracks"] == 1 else "are"
    listed = _listed(finding["shared"])
    task, first = finding["task"], finding["first"]
    if finding["kind"] == "artist":
        return f"Leakage, {task}: {tracks} {are} by artists of the {first} split: {listed}."
    if finding["kind"] == "recording":
        return f"Leakage, {task}: {tracks} {are} of recordings that {first} holds too: {listed}."
    was = "was" if finding["tracks"] == 1 else "were"
    return f"Leakage, {task}: {tracks} {was} in the training audio of {first}: {listed}."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
