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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from mergekit_audio.errors import InputError
from mergekit_audio.progress import Progress, silent

if TYPE_CHECKING:
    from mergekit_audio.datasets._findings import Report

SPLITS = ("train", "valid", "test")
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


@dataclass(frozen=True)
class Source:
    """Something that the user fetches.

    Parameters
    ----------
    what
        A few words: ``split files``, ``recordings (22 GiB)``.
    fetch
        The address, or the command that fetches it; never run by this package.
    place
        Where it must lie in the raw folder, such as ``split/train.npy`` or ``audios/<id>.mp3``.
    note
        What else the user must know: an account, a licence of its own.
    """

    what: str
    fetch: str
    place: str
    note: str = ""


class Finding(NamedTuple):
    """Something to know about one item, file or label; it does not stop the import."""

    kind: str
    """``missing_metadata``, ``broken_metadata`` or another kind of ``FINDINGS``."""
    id: str
    reason: str


@dataclass(frozen=True)
class Item:
    """One recording as the metadata lists it.

    Parameters
    ----------
    id
        Its name in the corpus; unique.
    split
        ``train``, ``valid`` or ``test``; ``None`` when it has none (listed, and left out).
    labels
        All its labels ``category--value``, before the pinned ones are chosen.
    audio
        Places to look for its file, relative to the raw folder, in order; of each also the same
        name with another readable suffix.
    values
        Named numbers, for regression and tempo.
    artist
        Who plays; what the leakage check compares.
    start_s, end_s
        The window in seconds of the file; ``None`` means its beginning and its end.
    known_broken
        Why its audio is known to be unusable; such an item is reported, and not counted as listed.
    problem
        Kind (one of ``LEFT_OUT``) and reason of what is wrong with its metadata; then it is left
        out, and still counted as listed.
    """

    id: str
    split: str | None
    labels: tuple[str, ...]
    audio: tuple[str, ...]
    values: tuple[tuple[str, float], ...] = ()
    artist: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    known_broken: str = ""
    problem: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Listing:
    """What the metadata of a raw folder says, in any order.

    Parameters
    ----------
    items
        Each recording once.
    findings
        What `read` found about items that are not among them (or about files).
    files
        The metadata files that were read, relative to the raw folder; their sha256 are recorded
        and compared with `PublicDataset.checksums`.
    """

    items: tuple[Item, ...]
    findings: tuple[Finding, ...] = ()
    files: tuple[str, ...] = ()


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
