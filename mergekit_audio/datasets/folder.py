"""A folder for each class: recordings that carry their label in their path."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from mergekit_audio.audio.integrity import READABLE_SUFFIXES
from mergekit_audio.datasets._splitting import Member, seeded_splits
from mergekit_audio.datasets.base import Item, Listing, PublicDataset, Source, TaskKind
from mergekit_audio.errors import InputError

_SPLITS = {
    "train": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "test": "test",
}
_MOST_LISTED = 50


class Folder(PublicDataset):
    """Recordings as ``<class>/….wav``, split by a seed, or as ``<split>/<class>/….wav``.

    The folders ``train``, ``valid`` (or ``val``, ``validation``) and ``test`` are splits when there
    are no other folders. A class's recordings may lie in folders below its own.
    """

    license: ClassVar[str] = "the recordings' own"
    citation: ClassVar[str] = "none: your own recordings"
    terms_url: ClassVar[str] = "none: your own recordings"
    title: ClassVar[str] = "A folder for each class"
    kind: ClassVar[TaskKind] = "multiclass"
    western: ClassVar[bool] = False
    sources: ClassVar[tuple[Source, ...]] = (
        Source(
            "recordings",
            "your own",
            "<class>/<name>.wav, or train/<class>/<name>.wav, valid/…, test/…",
        ),
    )
    splits: ClassVar[dict[str, int]] = {}
    notes: ClassVar[str] = (
        "Without a `group`, splits are random by recording: recordings of one artist may stand in "
        "two of them."
    )

    name: Literal["folder"] = "folder"
    """The dataset's name, its module's."""
    culture: str = "unknown"
    """The tradition."""
    label_category: str = Field(default="label", pattern=r"^[^-|]+$")
    """What stands before the class: ``genre`` gives ``genre--<class>``."""
    split_seed: int = 0
    """Seed of the split of recordings that lie in no folder of a split."""
    valid_share: float = Field(default=0.1, ge=0, lt=1)
    """The share of each class that validates."""
    test_share: float = Field(default=0.2, ge=0, lt=1)
    """The share of each class that tests."""
    group: str | None = None
    """A regular expression with one group that finds the artist (or the recording that a clip is
    of) in a path below its class's folder; what shares it is never in two splits."""

    @field_validator("group")
    @classmethod
    def _has_one_group(cls, value: str | None) -> str | None:
        try:
            groups = 1 if value is None else re.compile(value).groups
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        if groups != 1:
            raise ValueError(f"expected one group (…), found {groups}")
        return value

    @model_validator(mode="after")
    def _leaves_something_to_train(self) -> Self:
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share + test_share: expected less than 1")
        return self

    def labels(self) -> tuple[str, ...]:
        """Return no label: each folder's name is one."""
        return ()

    def read(self, raw: Path) -> Listing:
        """List the recordings; see `PublicDataset.read`.

        Raises
        ------
        InputError
            Lists recordings outside of every class's folder, and paths in which ``group`` finds
            nothing.
        """
        places = _recordings(raw)
        first = {place.split("/")[0] for place in places if "/" in place}
        with_splits = bool(first) and first <= set(_SPLITS)
        depth = 1 if with_splits else 0
        faults, members = [], {}
        for place in places:
            parts = place.split("/")
            if len(parts) < depth + 2:
                faults.append(f"{raw / place}: is in no folder of a class")
                continue
            inside = "/".join(parts[depth + 1 :])
            group = self._group_of(inside) if self.group else place
            if group is None:
                faults.append(f"{raw / place}: {self.group!r} finds nothing in {inside!r}")
                continue
            members[place] = Member(parts[depth], group)
        _raise_if_any(raw, faults)
        splits = seeded_splits(
            members,
            seed=self.split_seed,
            valid_share=self.valid_share,
            test_share=self.test_share,
        )
        if with_splits:
            splits = {place: _SPLITS[place.split("/")[0]] for place in members}
        return Listing(
            tuple(
                Item(
                    id=place,
                    split=splits[place],
                    labels=(f"{self.label_category}--{member.label}",),
                    audio=(place,),
                    artist=member.group if self.group else None,
                )
                for place, member in members.items()
            )
        )

    def _group_of(self, inside: str) -> str | None:
        match = re.search(self.group or "", inside)
        return match[1] if match else None


def _recordings(raw: Path) -> list[str]:
    """Return the readable recordings below a folder, sorted, hidden ones left out."""
    places = [
        path.relative_to(raw)
        for path in raw.rglob("*")
        if path.suffix.lower() in READABLE_SUFFIXES and path.is_file()
    ]
    shown = [place for place in places if not any(part.startswith(".") for part in place.parts)]
    return sorted(place.as_posix() for place in shown)


def _raise_if_any(raw: Path, faults: list[str]) -> None:
    if not faults:
        return
    listed = faults[:_MOST_LISTED]
    if len(faults) > len(listed):
        listed.append(f"{raw}: and {len(faults) - len(listed)} more")
    raise InputError(
        "\n".join(listed), "expected <class>/<name>.wav, or train/<class>/<name>.wav and so on"
    )
