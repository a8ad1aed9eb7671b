"""Bring a downloaded corpus into a folder: find its audio, look at headers, choose tags, report."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mergekit_audio.audio.corpus import Track, write_manifest
from mergekit_audio.audio.integrity import READABLE_SUFFIXES
from mergekit_audio.datasets._files import require_folder
from mergekit_audio.datasets._findings import Report, empty_counts, in_order
from mergekit_audio.datasets._headers import Headers
from mergekit_audio.datasets._items import SPLITS, Finding, Item, Listing
from mergekit_audio.datasets._tags import Difference, vocabulary
from mergekit_audio.errors import InputError
from mergekit_audio.files import explain_os_errors, sha256_of_file, write_json
from mergekit_audio.progress import Progress

if TYPE_CHECKING:
    from mergekit_audio.datasets.base import PublicDataset

MANIFEST, REPORT, HEADERS = "manifest.jsonl", "report.json", "headers.jsonl"
_MANIFEST_STAGING = ".manifest.jsonl.partial"
_EXAMPLES = 5


@dataclass(frozen=True)
class Plan:
    """The items that have a split, labels and a file, and what was found about the others."""

    dataset: PublicDataset
    raw: Path
    listing: Listing
    found: tuple[tuple[Item, str], ...]
    findings: tuple[Finding, ...]


def plan(dataset: PublicDataset, raw: Path) -> Plan:
    """Read the metadata and look for the audio files; no recording is opened.

    Raises
    ------
    InputError
        The metadata have faults (all of them are listed), or the folder is missing.
    """
    raw = Path(raw)
    require_folder(raw)
    listing = dataset.read(raw)
    _require_distinct(raw, listing.items)
    labels = frozenset(dataset.labels())
    found, findings, folders = [], list(listing.findings), _Folders(raw)
    for item in sorted(listing.items, key=lambda item: item.id):
        kind, reason = _fault(dataset, item, labels)
        place = None if kind else folders.locate(item.audio)
        if not kind and place is None:
            kind, reason = "missing_audio", f"no {item.audio[0]}"
        if kind:
            findings.append(Finding(kind, item.id, reason))
        elif place is not None:
            found.append((item, place))
    return Plan(dataset, raw, listing, tuple(found), tuple(findings))


def report(plan: Plan, unreadable: Sequence[Finding] = ()) -> Report:
    """Count what a plan holds, less what turned out to be unreadable."""
    dataset = plan.dataset
    broken = {finding.id for finding in unreadable}
    usable = [item for item, _ in plan.found if item.id not in broken]
    files = {place: sha256_of_file(plan.raw / place) for place in sorted(set(plan.listing.files))}
    listed = Counter(item.split for item in plan.listing.items if not item.known_broken)
    kept = Counter(item.split for item in usable)
    names = dataset.labels() or tuple(sorted({tag for item in usable for tag in item.labels}))
    positives = {name: empty_counts() for name in names}
    findings = [*plan.findings, *unreadable]
    for item in usable:
        tags = _tags(item, positives)
        if dataset.kind == "tagging" and not tags:
            findings.append(Finding("unlabelled", item.id, item.split or "no split"))
        for tag in tags:
            positives[tag][str(item.split)] += 1
    splits: dict[str, dict[str, int | None]] = {}
    for split in SPLITS:
        published = dataset.splits.get(split)
        splits[split] = {
            "published": published,
            "listed": listed[split],
            "usable": kept[split],
        }
        if published is not None and published != listed[split]:
            reason = f"{listed[split]} listed, {published} published"
            findings.append(Finding("differing_count", split, reason))
    findings += _differing_files(dataset, files)
    findings += _differing_labels(dataset, plan.listing.items)
    findings += _differing_positives(dataset, plan.listing.items)
    for name, counts in positives.items():
        lacking = [split for split in SPLITS if kept[split] and not counts[split]]
        if lacking:
            findings.append(Finding("without_positives", name, ", ".join(lacking)))
    return Report(_facts(dataset, files), splits, positives, in_order(findings))


def write(
    dataset: PublicDataset, raw: Path, folder: Path, progress: Progress, workers: int
) -> Path:
    """Write the manifest and the report; see `PublicDataset.write`."""
    planned = plan(dataset, raw)
    _require_some(dataset, planned.found, planned.findings, raw)
    name = str(dataset.model_dump()["name"])
    with explain_os_errors(folder):
        headers = Headers.claim(folder / HEADERS, name)
        places = {item.id: place for item, place in planned.found}
        looked = headers.read(planned.raw, sorted(places.values()), progress, workers)
        unreadable = [
            Finding("unreadable", item.id, f"{place}: {looked[place].problem}")
            for item, place in planned.found
            if looked[place].problem
        ]
        summary = report(planned, unreadable)
        broken = {finding.id for finding in unreadable}
        kept = [(item, place) for item, place in planned.found if item.id not in broken]
        _require_some(dataset, kept, summary.findings, raw)
        headers.close(looked)
        known, root = dict.fromkeys(summary.labels), Path(os.path.realpath(raw))
        tracks = [
            _track(item, root / place, looked[place].duration_s, _tags(item, known))
            for item, place in kept
        ]
        _write_report(folder / REPORT, summary.as_dict())
        _write_manifest(Path(os.path.realpath(folder)), tracks)
    return folder / MANIFEST


def _fault(dataset: PublicDataset, item: Item, labels: frozenset[str]) -> tuple[str, str]:
    """Return why an item is left out before its file is looked for: kind and reason, or nothing."""
    if item.split not in SPLITS:
        return "without_split", "is in no split" if item.split is None else str(item.split)
    if item.known_broken:
        return "known_broken", item.known_broken
    if item.problem[0]:
        return item.problem
    if dataset.kind in ("multiclass", "key"):
        chosen = [tag for tag in dict.fromkeys(item.labels) if not labels or tag in labels]
        if len(chosen) != 1:
            found = ", ".join(chosen or item.labels) or "none"
            return "not_one_label", f"found {found}"
    if dataset.kind in ("tempo", "regression") and not item.values:
        return "without_values", "no number is given"
    return "", ""


class _Folders:
    """The names of the files in each folder of a raw folder, listed once."""

    def __init__(self, raw: Path) -> None:
        self._raw = raw
        self._names: dict[str, frozenset[str]] = {}

    def locate(self, places: Sequence[str]) -> str | None:
        """Return the first place where a file lies, also under another readable suffix."""
        for place in places:
            folder, _, name = place.rpartition("/")
            if place.startswith("/") or ".." in folder.split("/"):
                continue
            names = self._names_in(folder)
            stem = name.rpartition(".")[0] or name
            for candidate in (name, *(stem + suffix for suffix in READABLE_SUFFIXES)):
                if candidate in names:
                    return f"{folder}/{candidate}" if folder else candidate
        return None

    def _names_in(self, folder: str) -> frozenset[str]:
        if folder not in self._names:
            try:
                with os.scandir(self._raw / folder) as entries:
                    names = frozenset(entry.name for entry in entries if entry.is_file())
            except (OSError, ValueError):  # no such folder; a zero byte
                names = frozenset()
            self._names[folder] = names
        return self._names[folder]


def _tags(item: Item, known: dict[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(tag for tag in set(item.labels) if tag in known))


def _track(item: Item, path: Path, duration_s: float | None, tags: tuple[str, ...]) -> Track:
    fields: dict[str, Any] = {"values": tuple(sorted(item.values))} if item.values else {}
    return Track(
        id=item.id,
        path=path,
        split=item.split,
        tags=tags,
        duration_s=duration_s,
        start_s=item.start_s,
        end_s=item.end_s,
        artist=item.artist,
        **fields,
    )


def _facts(dataset: PublicDataset, files: dict[str, str]) -> dict[str, Any]:
    settings = dataset.model_dump(mode="json", exclude={"name", "culture", "raw"})
    return {
        "dataset": dataset.model_dump()["name"],
        "title": dataset.title,
        "culture": dataset.culture,
        "western": dataset.western,
        "kind": dataset.kind,
        "license": dataset.license,
        "terms_url": dataset.terms_url,
        "citation": dataset.citation,
        "notes": dataset.notes,
        "max_duration_s": dataset.max_duration_s,
        **({"settings": settings} if settings else {}),
        "files": {
            place: {"sha256": digest, "published": _published_sha256(dataset, place)}
            for place, digest in files.items()
        },
    }


def _differing_files(dataset: PublicDataset, files: dict[str, str]) -> list[Finding]:
    return [
        Finding("differing_file", place, f"sha256 {digest[:12]}…, published {known[:12]}…")
        for place, digest in files.items()
        if (known := _published_sha256(dataset, place)) and known != digest
    ]


def _published_sha256(dataset: PublicDataset, place: str) -> str | None:
    return dataset.checksums.get(PurePosixPath(place).name)


def _differing_labels(dataset: PublicDataset, items: Sequence[Item]) -> list[Finding]:
    """Compare the pinned tags with those that the rule chooses from the files at hand."""
    if dataset.top_tags is None:
        return []
    counted = [item.labels for item in items if item.split in dataset.counted]
    difference = Difference.of(dataset.labels(), vocabulary(counted, dataset.top_tags))
    return [
        *(Finding("differing_labels", tag, "only pinned") for tag in difference.only_pinned),
        *(Finding("differing_labels", tag, "only counted") for tag in difference.only_counted),
    ]


def _differing_positives(dataset: PublicDataset, items: Sequence[Item]) -> list[Finding]:
    listed = Counter(tag for item in items if item.split == "test" for tag in set(item.labels))
    return [
        Finding("differing_positives", tag, f"{listed[tag]} listed, {published} published")
        for tag, published in dataset.test_positives.items()
        if listed[tag] != published
    ]


def _require_distinct(raw: Path, items: Sequence[Item]) -> None:
    repeated = sorted(name for name, n in Counter(item.id for item in items).items() if n > 1)
    if repeated:
        shown = [f"{raw}: the id {name!r} is listed twice" for name in repeated[:50]]
        if len(repeated) > len(shown):
            shown.append(f"{raw}: and {len(repeated) - len(shown)} more")
        raise InputError("\n".join(shown), "each item may stand in one split only")


def _require_some(
    dataset: PublicDataset,
    found: Sequence[object],
    findings: Sequence[Finding],
    raw: Path,
) -> None:
    if found:
        return
    examples = [f"  {finding.id}: {finding.reason}" for finding in findings[:_EXAMPLES]]
    places = ", ".join(source.place for source in dataset.sources)
    raise InputError(
        "\n".join([f"{raw}: no recording of {dataset.title} can be used", *examples]),
        f"expected in the raw folder: {places}",
    )


def _write_report(path: Path, value: dict[str, Any]) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    if not path.is_file() or path.read_bytes() != text.encode("utf-8"):
        write_json(path, value)


def _write_manifest(folder: Path, tracks: Sequence[Track]) -> None:
    """Write the manifest through a temporary name; leave an equal one alone."""
    staging, target = folder / _MANIFEST_STAGING, folder / MANIFEST
    write_manifest(staging, tracks)
    if target.is_file() and target.read_bytes() == staging.read_bytes():
        staging.unlink()
    else:
        os.replace(staging, target)
