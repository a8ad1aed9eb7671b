"""Split recordings by a seed, class by class, so that a group never stands in two splits."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple


class Member(NamedTuple):
    """A recording's class and its group, such as its artist."""

    label: str
    group: str


def seeded_splits(
    members: Mapping[str, Member], *, seed: int, valid_share: float, test_share: float
) -> dict[str, str]:
    """Return the split of each recording.

    A group belongs to the class that most of its recordings have (ties: the first by name). Within
    a class, groups are ordered by ``sha256(f"{seed}:{group}")``; the first test until `test_share`
    of the class's recordings do, the next validate likewise, the others train. A recording that is
    added or removed moves few others.

    Parameters
    ----------
    members
        Class and group by the recording's id.
    seed
        Any integer.
    valid_share, test_share
        Of the recordings, 0 to 1, together less than 1.
    """
    of_group: dict[str, list[str]] = defaultdict(list)
    for name in sorted(members):
        of_group[members[name].group].append(name)
    of_class: dict[str, list[str]] = defaultdict(list)
    for group, names in of_group.items():
        counts = Counter(members[name].label for name in names)
        of_class[min(counts, key=lambda label: (-counts[label], label))].append(group)
    splits: dict[str, str] = {}
    for groups in of_class.values():
        total, placed = sum(len(of_group[group]) for group in groups), 0
        for group in sorted(groups, key=lambda group: (_draw(seed, group), group)):
            if placed < test_share * total:
                split = "test"
            elif placed < (test_share + valid_share) * total:
                split = "valid"
            else:
                split = "train"
            splits.update(dict.fromkeys(of_group[group], split))
            placed += len(of_group[group])
    return splits


def _draw(seed: int, group: str) -> str:
    text = f"{seed}:{group}".encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()
