"""What preparing a corpus found: recordings that were left out, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple

LEFT_OUT = ("undecodable", "silent", "too_short", "duplicated")
KEPT = ("untagged",)
MOST_NAMED = 5
"""Recordings that one sentence names."""
_TITLES = {
    "undecodable": "could not be decoded",
    "silent": "silent",
    "too_short": "too short",
    "duplicated": "duplicated",
    "untagged": "without tags (kept)",
}


class Finding(NamedTuple):
    """A track, its file (relative to the corpus where it lies inside), and what was found."""

    id: str
    path: str
    reason: str

    def __str__(self) -> str:
        """Name the file, and the track where the file's name does not give its id away."""
        is_told = self.id in (self.path, str(PurePosixPath(self.path).with_suffix("")))
        return f"{self.path if is_told else f'{self.id} ({self.path})'}: {self.reason}"


@dataclass(frozen=True)
class PrepareReport:
    """The findings of each kind, sorted by id; all but ``untagged`` were left out."""

    undecodable: tuple[Finding, ...] = ()
    silent: tuple[Finding, ...] = ()
    too_short: tuple[Finding, ...] = ()
    duplicated: tuple[Finding, ...] = ()
    untagged: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, findings: Iterable[tuple[str, Finding]]) -> PrepareReport:
        """Sort ``(kind, finding)`` pairs into a report."""
        kinds: dict[str, list[Finding]] = {kind: [] for kind in LEFT_OUT + KEPT}
        for kind, finding in findings:
            kinds[kind].append(finding)
        return cls(**{kind: tuple(sorted(found)) for kind, found in kinds.items()})

    @property
    def left_out(self) -> int:
        """How many tracks were left out."""
        return sum(len(getattr(self, kind)) for kind in LEFT_OUT)

    def counts(self) -> dict[str, int]:
        """Return the number of findings of each kind."""
        return {kind: len(getattr(self, kind)) for kind in LEFT_OUT + KEPT}

    def as_dict(self) -> dict[str, Any]:
        """Return the findings as plain values, ``kind: [{id, path, reason}, …]``."""
        return {
            kind: [finding._asdict() for finding in getattr(self, kind)] for kind in LEFT_OUT + KEPT
        }

    def lines(self, most: int | None = None) -> list[str]:
        """Return the report for people: a heading a kind, then its tracks.

        Parameters
        ----------
        most
            Tracks listed of a kind; how many more there are is said. ``None`` lists all.
        """
        lines = []
        for kind in LEFT_OUT + KEPT:
            findings = getattr(self, kind)
            if not findings:
                continue
            lines.append(f"{_TITLES[kind]}: {len(findings)}")
            listed = findings if most is None else findings[:most]
            lines += [f"  {finding}" for finding in listed]
            if len(listed) < len(findings):
                lines.append(f"  and {len(findings) - len(listed)} more")
        return lines


def left_out_sentence(report: Mapping[str, Any]) -> str:
    """Return which recordings of a corpus could not be used, and why; "" where all could.

    Parameters
    ----------
    report
        The findings as plain values, see ``PrepareReport.as_dict``.
    """
    found = [each for kind in LEFT_OUT for each in report.get(kind, ())]
    if not found:
        return ""
    named = "; ".join(f"{each['path']}: {each['reason']}" for each in found[:MOST_NAMED])
    more = len(found) - MOST_NAMED
    count = f"{len(found)} recording{'s are' if len(found) > 1 else ' is'} left out"
    return f"{count}: {named}" + (f"; and {more} more." if more > 0 else ".")
