"""The rule by which a tag vocabulary is chosen from the labels of the training split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


def vocabulary(train_labels: Iterable[Sequence[str]], top_tags: int | None = None) -> list[str]:
    """Return the most frequent tags of the training split.

    All labels of the training items are counted; tags are sorted by count, descending, and tags of
    equal count alphabetically (by code point); the first ``top_tags`` are kept.

    Parameters
    ----------
    train_labels
        The labels of each training item; a label that an item has twice counts twice.
    top_tags
        How many are kept; ``None`` keeps all.

    Returns
    -------
    tags
        In the order of the rule.

    References
    ----------
    Papaioannou, Benetos, Potamianos, "From West to East", ISMIR 2023 (arXiv:2307.09795), code.
    """
    counts = Counter(label for labels in train_labels for label in labels)
    return sorted(counts, key=lambda tag: (-counts[tag], tag))[:top_tags]


@dataclass(frozen=True)
class Difference:
    """How the pinned tags differ from those that the rule chooses from the files at hand."""

    only_pinned: tuple[str, ...]
    only_counted: tuple[str, ...]

    @classmethod
    def of(cls, pinned: Iterable[str], counted: Iterable[str]) -> Difference:
        """Compare two vocabularies, whatever their order."""
        pinned, counted = set(pinned), set(counted)
        return cls(tuple(sorted(pinned - counted)), tuple(sorted(counted - pinned)))

    def __bool__(self) -> bool:
        return bool(self.only_pinned or self.only_counted)
