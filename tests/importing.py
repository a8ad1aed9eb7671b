"""What tests of importers share: writing metadata, and what an import finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergekit_audio.audio.corpus import load_tracks
from mergekit_audio.datasets._importing import plan, report
from mergekit_audio.datasets.base import PublicDataset
from mergekit_audio.errors import InputError


def write_lines(path: Path, *lines: str) -> None:
    """Write a text file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def findings(dataset: PublicDataset, raw: Path) -> dict[str, list[tuple[str, str]]]:
    """Return what a survey finds of single items: ids and reasons by kind."""
    found = report(plan(dataset, raw)).as_dict()["findings"]
    return {
        kind: [(entry["id"], entry["reason"]) for entry in entries]
        for kind, entries in found.items()
        if entries and kind not in ("differing_count", "differing_file", "without_positives")
    }


def faults(dataset: PublicDataset, raw: Path) -> list[str]:
    """Return the faults of the metadata, with places relative to the raw folder."""
    with pytest.raises(InputError) as caught:
        dataset.read(raw)
    assert caught.value.hint
    return [line.removeprefix(f"{raw}/") for line in caught.value.message.splitlines()]


def imported(dataset: PublicDataset, raw: Path) -> list[tuple[str, str | None, tuple[str, ...]]]:
    """Import beside the raw folder and return id, split and tags of each track."""
    tracks = load_tracks(dataset.import_from(raw, raw.parent / "corpus"))
    return [(track.id, track.split, track.tags) for track in tracks]
