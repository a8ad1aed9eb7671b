"""Faults of a training's corpora: missing ones, another culture's, and tracks kept for probing."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mergekit_audio.audio.corpus import Track, load_tracks
from mergekit_audio.errors import InputError
from mergekit_audio.files import sha256_of_file
from mergekit_audio.recipe.train import TrainRecipe

_LISTED = 5
_CARD, _CHECKSUMS = "README.md", "checksums.jsonl"


def load_corpora(sources: Mapping[str, str], root: Path) -> dict[str, tuple[Track, ...]]:
    """Return the recordings of each corpus by its key in the recipe.

    Raises
    ------
    InputError
        A corpus is missing or its manifest has faults; the message begins with the recipe's key.
    """
    loaded = {}
    for key, source in sources.items():
        try:
            loaded[key] = tuple(load_tracks(root / source))
        except InputError as error:
            setting = key if "." not in key else key.split(".")[0]
            hint = f"{error.hint}; the recipe names it in `{setting}`"
            raise InputError(f"{key}: {error.message}", hint) from error
    return loaded


def require_apart(recipe: TrainRecipe, root: Path, tracks: Mapping[str, Sequence[Track]]) -> None:
    """Check that nothing is trained on which the recipe's ``avoid`` keeps for probing.

    Kept are the tracks of the splits ``valid`` and ``test`` (all of a corpus without splits). A
    track trains when its split is ``train``, or when its corpus has no splits. The same recording
    is one with the same file, or the same bytes, or the same id where both corpora are manifests;
    windows of one file that do not overlap are different recordings.

    Parameters
    ----------
    tracks
        The recordings of each corpus that trains, by its key in the recipe.

    Raises
    ------
    InputError
        Recordings overlap; the first of them are listed.
    """
    sources = {f"corpus.{name}": source for name, source in recipe.corpora().items()}
    if recipe.replay is not None:
        sources["replay"] = recipe.replay
    faults = []
    for number, text in enumerate(recipe.avoid):
        kept = _kept(load_corpora({f"avoid[{number}]": text}, root)[f"avoid[{number}]"])
        is_named = _is_manifest(root / text)
        for key in sorted(sources):
            ids_count = is_named and _is_manifest(root / sources[key])
            for own, other, why in _overlaps(_training(tracks[key]), kept, ids_count):
                faults.append(f"{key}: {own.id} is {other.id} of {text} ({why})")
    if faults:
        more = [f"and {len(faults) - _LISTED} more"] if len(faults) > _LISTED else []
        raise InputError(
            "recordings that are kept for probing would be trained on:\n"
            + "\n".join(f"  {line}" for line in [*faults[:_LISTED], *more]),
            "give them the split `test` or `valid` in the corpus's manifest, or leave them out",
        )


def culture_notes(recipe: TrainRecipe, root: Path) -> Iterator[str]:
    """Tell of corpora that declare another culture than the recipe, and of a replay of its own."""
    own = recipe.corpora()
    for name, source in own.items():
        declared = declared_culture(root / source)
        if declared is not None and declared.lower() != name.lower():
            yield f"warning: corpus.{name} ({source}) declares the culture {declared!r}"
    if recipe.replay is not None:
        declared = declared_culture(root / recipe.replay)
        if declared is not None and declared.lower() in {name.lower() for name in own}:
            yield (
                f"warning: replay ({recipe.replay}) declares the culture {declared!r}, which is "
                "what the model learns; replay is to keep what it knew before"
            )


def declared_culture(source: Path) -> str | None:
    """Return the culture that a corpus declares, or None.

    It stands as ``culture:`` in the front matter of the ``README.md`` beside the recordings, or in
    the first line of the ``checksums.jsonl`` that our own importers write.
    """
    folder = source if source.is_dir() else source.parent
    card = folder / _CARD
    if card.is_file():
        text = card.read_text(encoding="utf-8", errors="replace")
        front = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
        found = re.search(r"^culture:\s*(\S.*?)\s*$", front[1], re.MULTILINE) if front else None
        if found:
            return found[1].strip("\"'")
    record = folder / _CHECKSUMS
    if record.is_file():
        with open(record, encoding="utf-8", errors="replace") as stream:
            first = stream.readline()
        try:
            value = json.loads(first).get("culture")
        except (ValueError, AttributeError):
            return None
        return value if isinstance(value, str) else None
    return None


def _is_manifest(source: Path) -> bool:
    return source.is_file() or any(
        (source / f"manifest.{kind}").is_file() for kind in ("jsonl", "csv")
    )


def _kept(tracks: Sequence[Track]) -> list[Track]:
    has_splits = any(track.split for track in tracks)
    return [track for track in tracks if not has_splits or track.split in ("valid", "test")]


def _training(tracks: Sequence[Track]) -> list[Track]:
    has_splits = any(track.split for track in tracks)
    return [track for track in tracks if not has_splits or track.split == "train"]


def _overlaps(
    training: Sequence[Track], kept: Sequence[Track], ids_count: bool
) -> Iterator[tuple[Track, Track, str]]:
    by_id = {track.id: track for track in kept}
    by_path: dict[str, list[Track]] = {}
    by_size: dict[int, list[Track]] = {}
    for track in kept:
        by_path.setdefault(os.path.realpath(track.path), []).append(track)
        by_size.setdefault(_size(track.path), []).append(track)
    for own in training:
        if ids_count and own.id in by_id:
            yield own, by_id[own.id], "the same id"
            continue
        same = [each for each in by_path.get(os.path.realpath(own.path), []) if _meet(own, each)]
        if same:
            yield own, same[0], "the same file"
            continue
        size = _size(own.path)
        alike = [each for each in by_size.get(size, []) if size > 0 and _meet(own, each)]
        same = [each for each in alike if sha256_of_file(each.path) == sha256_of_file(own.path)]
        if same:
            yield own, same[0], "the same bytes"


def _meet(one: Track, other: Track) -> bool:
    """Whether two windows of one file share a moment."""
    one_end = float("inf") if one.end_s is None else one.end_s
    other_end = float("inf") if other.end_s is None else other.end_s
    return (one.start_s or 0.0) < other_end and (other.start_s or 0.0) < one_end


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1  # preparing the corpus names it
