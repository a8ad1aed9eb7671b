"""What a dataset is: a corpus that can be brought to one form, a folder with a manifest.

A public corpus is one file with one subclass of `PublicDataset`. It declares facts (licence,
citation, terms, sources, splits, pinned labels, checksums) and implements one function, `read`,
which turns the downloaded files, in their public layout, into a `Listing`. All else is shared
(``_importing.py``): missing and unreadable audio, unlabelled items, items without a split, labels
without positives, differences from the pinned labels and from the published counts and checksums,
``manifest.jsonl`` and ``report.json``. Audio is never downloaded: `sources` says what to fetch.

`read` raises one `InputError` that lists all faults of the metadata when they can't be trusted
(`Faults` of ``_files.py`` collects them, and reads NPY, CSV, JSON and text safely); what concerns
single items becomes an `Item` or a `Finding`, never an exception.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from mergekit_audio.datasets._findings import Report
from mergekit_audio.datasets._items import SPLITS, Finding, Item, Listing, Source
from mergekit_audio.errors import InputError
from mergekit_audio.progress import Progress, silent

__all__ = ["SPLITS", "Dataset", "Finding", "Item", "Listing", "PublicDataset", "Source", "TaskKind"]

TaskKind = Literal["tagging", "multiclass", "key", "tempo", "regression"]


class Dataset(BaseModel, ABC):
    """A corpus: its fields are its settings, ``name`` is its module's name."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    license: ClassVar[str]
    """SPDX identifier of the recordings' licence, or a few words where there is none."""
    citation: ClassVar[str]
    """What to cite, or what must be said wherever the corpus is shown."""
    terms_url: ClassVar[str]
    """Where the terms of use stand."""

    culture: str
    """The tradition that the recordings belong to."""

    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """Return the pinned tags ``category--value``, sorted."""

    @abstractmethod
    def write(self, folder: Path, progress: Progress = silent, workers: int = 1) -> Path:
        """Bring the corpus into ``folder`` and return its ``manifest.jsonl``.

        A second call does nothing, and an interrupted one is resumed.
        """


class PublicDataset(Dataset):
    """A corpus that the user downloads: facts, and how its public files are read."""

    title: ClassVar[str]
    """Its name as people write it."""
    kind: ClassVar[TaskKind] = "tagging"
    """The task that it is used for; the `kind` of a recipe's task."""
    western: ClassVar[bool]
    """Counts to the Western average of the tables."""
    max_duration_s: ClassVar[float | None] = None
    """Only the first seconds are probed in the published protocol; the manifest is not cut."""
    sources: ClassVar[tuple[Source, ...]]
    """What to fetch from where."""
    splits: ClassVar[Mapping[str, int]]
    """The published number of items of each split."""
    checksums: ClassVar[Mapping[str, str]] = {}
    """The sha256 of split and metadata files, by file name, where they are known."""
    top_tags: ClassVar[int | None] = None
    """How many tags the tag rule keeps (`_tags.vocabulary`); the pinned ones are compared."""
    counted: ClassVar[tuple[str, ...]] = ("train",)
    """The splits whose labels the tag rule counts."""
    test_positives: ClassVar[Mapping[str, int]] = {}
    """The published number of test items that have a label, where known."""
    notes: ClassVar[str] = ""
    """What a reader of the scores must know: known leaks, deviations, what could not be pinned."""

    raw: Path | None = None
    """The folder that holds what was downloaded, as `sources` places it."""

    @abstractmethod
    def read(self, raw: Path) -> Listing:
        """Return what the metadata files of a raw folder say; no audio is opened.

        Raises
        ------
        InputError
            Lists every fault of the metadata: missing files, other formats, bad rows.
        """

    def write(self, folder: Path, progress: Progress = silent, workers: int = 1) -> Path:
        """Write ``manifest.jsonl`` and ``report.json`` for the downloaded files, and return it.

        The audio stays where it is: the manifest names it relative to ``folder``. Headers that were
        looked at are remembered, so a second call does nothing and an interrupted one is resumed.

        Parameters
        ----------
        folder
            Empty, missing, or holding an import of this dataset.
        progress
            Told after each header.
        workers
            Threads that read headers; the result does not depend on it.

        Raises
        ------
        InputError
            No ``raw``, the metadata have faults (all of them are listed), no recording can be used,
            or the folder holds something else.
        """
        from mergekit_audio.datasets._importing import write

        return write(self, self._raw(), Path(folder), progress, workers)

    def import_from(
        self, raw: Path, folder: Path, progress: Progress = silent, workers: int = 1
    ) -> Path:
        """Do as `write`, with the raw folder as an argument."""
        return self.model_copy(update={"raw": Path(raw)}).write(folder, progress, workers)

    def survey(self, raw: Path) -> Report:
        """Return what `write` would report, as far as no recording need be opened.

        Raises
        ------
        InputError
            The metadata have faults (all of them are listed), or the folder is missing.
        """
        from mergekit_audio.datasets._importing import plan, report

        return report(plan(self, Path(raw)))

    def _raw(self) -> Path:
        if self.raw is None:
            raise InputError(
                f"{type(self).__name__}: no raw folder is given",
                "set `raw` to the folder that holds what was downloaded",
            )
        return self.raw
