"""Read rows of other projects' manifests as ours: MARBLE's JSONL and peft-music's JSON lines.

Both are known by their key ``audio_path``, where ours has ``path``.

- MARBLE (one file a split, ``X.train.jsonl``, ``X.val.jsonl``, ``X.test.jsonl``): ``audio_path``,
  ``label``, ``duration``, and facts of the file. A label is a text or a list of texts; a list of
  numbers becomes ``values``, ``arousal`` and ``valence`` of ``EMO.*``, else ``label_0``, ….
- peft-music (one file): ``key``, ``split``, ``audio_path``, ``sr``, ``length`` in samples and
  ``label``. A list of 0 and 1 becomes the tags ``label--<place>``, since the file holds no names;
  an integer is a key in ``*_key*``, a tempo in ``*_tempo*``, else the class ``label--<number>``.

The names of keys become ``key--<tonic> <mode>`` with sharps. Labels that are neither are faults.
Paths are looked for beside the manifest and in the folders above it. Other columns are not used.

References
----------
a43992899/MARBLE 938c03a, marble/tasks/*/datamodule.py; suncerock/peft-music 88b735a, data/ and
metadata/giantsteps_key_augmented.json (0-11 major from C, 12-23 minor, as its 1,759
originals show beside jukemir's metadata).
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_FLATS = {"Db": "C#", "Eb": "D#", "Gb": "F#", "Ab": "G#", "Bb": "A#"}
_SPLITS = {"train": "train", "val": "valid", "valid": "valid", "test": "test"}
_SPLIT_FILE = re.compile(r"(?P<corpus>.+)\.(?P<split>train|val|valid|test)\.jsonl")
_FOLDERS_ABOVE = 4


class ForeignError(ValueError):
    """A value that can't be taken over, with its column."""

    def __init__(self, column: str, problem: str) -> None:
        super().__init__(problem)
        self.column = column


def dialect_of(text: str) -> str | None:
    """Return ``marble``, ``peft-music`` or, for our own manifest, nothing, by the first row."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    try:
        row = json.loads(first)
    except ValueError:
        return None
    if not isinstance(row, dict) or "audio_path" not in row or "path" in row:
        return None
    return "peft-music" if {"key", "split"} <= row.keys() else "marble"


def native_row(dialect: str, row: dict[str, Any], manifest: Path) -> dict[str, Any]:
    """Return a row with our columns.

    Raises
    ------
    ForeignError
        A column is missing or its value can't be taken over.
    """
    place = row.get("audio_path")
    if not isinstance(place, str) or not place:
        raise ForeignError("audio_path", "is missing" if place is None else f"found {place!r}")
    fields: dict[str, Any] = {"path": _located(place, manifest.parent)}
    if row.get("label") is None:
        raise ForeignError("label", "is missing")
    if dialect == "marble":
        fields["id"] = Path(place).with_suffix("").as_posix()
        fields["split"] = split_of(manifest)
        fields["duration_s"] = row.get("duration")
        fields |= _marble_label(row["label"], manifest.name)
    else:
        fields["id"] = row.get("key")
        split = row.get("split")
        if split not in _SPLITS:
            raise ForeignError("split", f"expected train, val or test, found {split!r}")
        fields["split"] = _SPLITS[split]
        fields["duration_s"] = _duration_s(row)
        fields |= _peft_label(row["label"], manifest.name)
    return fields


def split_of(manifest: Path) -> str | None:
    """Return the split that MARBLE's file name says, or nothing."""
    match = _SPLIT_FILE.fullmatch(manifest.name)
    return _SPLITS[match["split"]] if match else None


def split_files(folder: Path) -> dict[str, list[Path]]:
    """Return the files ``X.<split>.jsonl`` of a folder by X, sorted."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        match = _SPLIT_FILE.fullmatch(path.name)
        if match and path.is_file():
            found.setdefault(match["corpus"], []).append(path)
    return found


def key_label(name: str) -> str | None:
    """Return ``key--<tonic> <mode>`` of a key's name in any spelling of the 24, or nothing.

    >>> key_label("Eb minor")
    'key--D# minor'
    """
    match = re.fullmatch(r"([A-Ga-g])([#b]?) (major|minor)", name.strip())
    if match is None:
        return None
    tonic = match[1].upper() + match[2]
    tonic = _FLATS.get(tonic, tonic)
    return f"key--{tonic} {match[3]}" if tonic in TONICS else None


def _located(place: str, folder: Path) -> str:
    """Return the path relative to the manifest, if it lies there or in a folder above."""
    here = Path(os.path.abspath(folder))
    for base in (here, *here.parents[:_FOLDERS_ABOVE]):
        if (base / place).is_file():
            return os.path.relpath(base / place, here).replace(os.sep, "/")
    return place


def _marble_label(label: Any, name: str) -> dict[str, Any]:
    if isinstance(label, list) and label and all(_is_number(value) for value in label):
        emotion = name.startswith("EMO.") and len(label) == 2
        names = ("arousal", "valence") if emotion else [f"label_{n}" for n in range(len(label))]
        return {"values": dict(zip(names, label, strict=True))}
    texts = [label] if isinstance(label, str) else label
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ForeignError(
            "label", f"expected a text, a list of texts or of numbers, found {label!r}"
        )
    return {"tags": [key_label(text) or _two_hyphens(text) for text in texts]}


def _peft_label(label: Any, name: str) -> dict[str, Any]:
    if isinstance(label, list) and label and all(_is_integer(v) and v in (0, 1) for v in label):
        width = len(str(len(label) - 1))
        return {"tags": [f"label--{n:0{width}d}" for n, has in enumerate(label) if has]}
    if not _is_integer(label) or label < 0:
        problem = f"expected a list of 0 and 1 or an integer, found {str(label)[:40]}"
        raise ForeignError("label", problem)
    if "_tempo" in name:
        return {"values": {"tempo_bpm": label}}
    if "_key" in name:
        if label >= 2 * len(TONICS):
            raise ForeignError("label", f"expected a key 0 to 23, found {label}")
        return {"tags": [f"key--{TONICS[label % 12]} {('major', 'minor')[label // 12]}"]}
    return {"tags": [f"label--{label}"]}


def _two_hyphens(tag: str) -> str:
    """Return MTG-Jamendo's ``genre---rock`` as ``genre--rock``."""
    return re.sub(r"^([^-]+)---", r"\1--", tag)


def _duration_s(row: dict[str, Any]) -> float | None:
    rate, length = row.get("sr"), row.get("length")
    if rate is None or length is None:
        return None
    if not _is_number(rate) or not _is_number(length) or rate <= 0:
        raise ForeignError("length", f"expected samples and a rate, found {length!r} and {rate!r}")
    return float(length) / float(rate)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
