"""What an import found: counts beside the published ones, and every item that is not as it should.

The kinds are listed in the order in which they are shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergekit_audio.datasets._items import SPLITS, Finding

LEFT_OUT = {
    "missing_metadata": "without metadata",
    "broken_metadata": "metadata can't be read",
    "without_split": "without a split",
    "not_one_label": "not exactly one label",
    "without_values": "without values",
    "known_broken": "known to be broken",
    "missing_audio": "audio is missing",
    "unreadable": "audio can't be read",
}
KEPT = {"unlabelled": "without any of the labels (kept: a negative of each)"}
CORPUS = {
    "differing_file": "files that are not the published ones",
    "differing_count": "counts that are not the published ones",
    "differing_labels": "labels that the tag rule chooses differently from these files",
    "differing_positives": "labels whose number of test items is not the published one",
    "without_positives": "labels without a positive in a split (not scored there)",
}
FINDINGS = {**LEFT_OUT, **KEPT, **CORPUS}


@dataclass(frozen=True)
class Report:
    """What an import found, in plain values.

    Parameters
    ----------
    facts
        The dataset's name, licence, protocol and metadata files.
    splits
        By split: ``published``, ``listed`` and ``usable`` items.
    labels
        By label: usable items that have it, by split.
    findings
        Sorted by kind, id and reason.
    """

    facts: dict[str, Any]
    splits: dict[str, dict[str, int | None]]
    labels: dict[str, dict[str, int]]
    findings: tuple[Finding, ...]

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read a ``report.json`` again."""
        value = json.loads(path.read_text(encoding="utf-8"))
        findings = [
            Finding(kind, entry["id"], entry["reason"])
            for kind, entries in value.pop("findings").items()
            for entry in entries
        ]
        value.pop("counts")
        splits, labels = value.pop("splits"), value.pop("labels")
        return cls(value, splits, labels, in_order(findings))

    @property
    def usable(self) -> int:
        """How many items the manifest holds."""
        return sum(row["usable"] or 0 for row in self.splits.values())

    def counts(self) -> dict[str, int]:
        """Return the number of findings of each kind."""
        return {kind: sum(f.kind == kind for f in self.findings) for kind in FINDINGS}

    def as_dict(self) -> dict[str, Any]:
        """Return the report as written to ``report.json``."""
        findings: dict[str, list[dict[str, str]]] = {kind: [] for kind in FINDINGS}
        for finding in self.findings:
            findings[finding.kind].append({"id": finding.id, "reason": finding.reason})
        return {
            **self.facts,
            "splits": self.splits,
            "labels": self.labels,
            "counts": self.counts(),
            "findings": findings,
        }

    def lines(self, most: int | None = 5) -> list[str]:
        """Return the findings for people: a heading a kind, then at most ``most`` of it."""
        lines = []
        for kind, title in FINDINGS.items():
            found = [finding for finding in self.findings if finding.kind == kind]
            if not found:
                continue
            lines.append(f"{title}: {len(found)}")
            listed = found if most is None else found[:most]
            lines += [f"  {finding.id}: {finding.reason}" for finding in listed]
            if len(listed) < len(found):
                lines.append(f"  and {len(found) - len(listed)} more")
        return lines


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort findings by kind (as shown), id and reason, each once."""
    place = {kind: number for number, kind in enumerate(FINDINGS)}
    return tuple(sorted(set(findings), key=lambda f: (place[f.kind], f.id, f.reason)))


def empty_counts() -> dict[str, int]:
    """Return a count of 0 for each split."""
    return dict.fromkeys(SPLITS, 0)
