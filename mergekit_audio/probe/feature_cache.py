"""The feature cache on disk: an array and an index for each corpus, in a folder for each encoder.

``<family>/<key>.npy`` holds the rows, ``<key>.json`` which chunk (digest of the track's samples,
first sample, end) each row is; while rows are missing the array is ``<key>.npy.part``.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.errors import InputError
from mergekit_audio.files import canonical_json, sha256_of_text, write_text
from mergekit_audio.probe.embedding import SAFE_DIFFERENCE, Embedder
from mergekit_audio.probe.row_file import RowFile, discard, open_row_file, unfinished_rows

ChunkKey = tuple[str, int, int]
Found = tuple[dict[str, Any], NDArray[Any]]
_DTYPES = {"float32": "<f4", "float16": "<f2"}


@dataclass(frozen=True)
class Wanted:
    """An array of features.

    Parameters
    ----------
    family
        The sha256 of all that a row depends on beside its chunk.
    layers
        The hidden states, rising.
    width
        D.
    chunks
        The content of each row.
    storage
        ``float32`` or ``float16``.
    precision
        ``fp32``, ``bf16``, or ``auto``, which measures first.
    takes_rows_over
        Whether equal chunks of other corpora give the same bytes: true on a CPU, where a chunk is
        computed alone; on a GPU the size of a batch may change the last bit.
    """

    family: str
    layers: tuple[int, ...]
    width: int
    chunks: Sequence[ChunkKey]
    storage: str
    precision: str
    takes_rows_over: bool

    @functools.cached_property
    def key(self) -> str:
        """The sha256 of the array's content."""
        return sha256_of_text(canonical_json([self.family, *map(list, self.chunks)]))

    @property
    def shape(self) -> tuple[int, int, int]:
        """The array's shape."""
        return len(self.chunks), len(self.layers), self.width

    @property
    def dtype(self) -> str:
        """The array's type as numpy writes it."""
        return _DTYPES[self.storage]


class FeatureCache:
    """Arrays of features by their content.

    Parameters
    ----------
    folder
        Made when something is kept there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def load(self, wanted: Wanted) -> Found | None:
        """Return the index and the rows, memory-mapped; ``None`` where they are not complete."""
        array, index_path = self._paths(wanted.family, wanted.key)
        index = _read_index(index_path)
        values = _read_array(array)
        if index is None or values is None or index["key"] != wanted.key:
            return None
        is_whole = values.shape == wanted.shape and values.dtype.str == wanted.dtype
        return (index, values) if is_whole else None

    def fill(
        self,
        wanted: Wanted,
        embedder: Callable[[], Embedder],
        told: Callable[[int], None],
        workers: int,
    ) -> Found:
        """Compute the rows that are not there, or take them over from another corpus's array.

        Parameters
        ----------
        wanted
            The array.
        embedder
            Makes the encoder; not called where every row can be taken over.
        told
            Called with the number of rows that are there, after each batch.
        workers
            Threads that compute.

        Raises
        ------
        InputError
            A value is not finite, too large for float16, or the disk is full.
        """
        array, index_path = self._paths(wanted.family, wanted.key)
        donors = list(self._donors(wanted)) if wanted.takes_rows_over else []
        with open_row_file(array, wanted.shape, wanted.dtype) as rows:
            if rows is not None:
                index = self._index(wanted, index_path, rows, donors, embedder)
                for batch in self._batches(wanted, rows, donors, index, embedder, workers):
                    rows.append(*batch)
                    told(rows.rows)
                index["retried"] = rows.notes
                _write_index(index_path, index)
                rows.finish()
        found = self.load(wanted)
        assert found is not None
        self._remove_covered(wanted)
        return found

    def _index(
        self,
        wanted: Wanted,
        path: Path,
        rows: RowFile,
        donors: Sequence[_Donor],
        embedder: Callable[[], Embedder],
    ) -> dict[str, Any]:
        """Return the index of a run that goes on, or a new one with the precision measured."""
        begun = _read_index(path)
        if begun is not None and begun["key"] == wanted.key and rows.rows:
            return begun
        precision, difference = wanted.precision, None
        known = {key for donor in donors for key in donor.rows}
        if precision != "fp32" and not known.issuperset(wanted.chunks):
            difference = embedder().difference()
            if precision == "auto":
                precision = "bf16" if difference <= SAFE_DIFFERENCE else "fp32"
        elif precision != "fp32":
            precision, difference = donors[0].precision, donors[0].difference
        index = {
            "key": wanted.key,
            "layers": list(wanted.layers),
            "storage": wanted.storage,
            "precision": precision,
            "relative_difference": difference if difference != float("inf") else None,
            "retried": [],
            "chunks": _packed(wanted.chunks),
        }
        _write_index(path, index)
        return index

    def _batches(
        self,
        wanted: Wanted,
        rows: RowFile,
        donors: Sequence[_Donor],
        index: dict[str, Any],
        embedder: Callable[[], Embedder],
        workers: int,
    ) -> Iterator[tuple[NDArray[Any], list[int]]]:
        """Yield values and retried rows from the first missing row on, in order."""
        usable = [donor for donor in donors if donor.precision == index["precision"]]
        places = {key: (donor, row) for donor in usable for key, row in donor.rows.items()}
        first = rows.rows
        taken = [wanted.chunks[row] in places for row in range(len(wanted.chunks))]
        computed: Iterator[Any] = iter(())
        batches: list[range] = []
        if not all(taken[first:]):
            batches = [
                batch for batch in embedder().batches(first) if not all(taken[row] for row in batch)
            ]
            computed = embedder().compute(
                batches, bfloat16=index["precision"] == "bf16", workers=workers
            )
        starts = {batch.start: batch for batch in batches}
        row = first
        while row < len(wanted.chunks):
            if row in starts:
                batch = next(computed)
                yield self._stored(batch.values[:, list(wanted.layers)], wanted), batch.retried
                row = starts[row].stop
                continue
            donor, place = places[wanted.chunks[row]]
            yield donor.values[place][None], [row] if place in donor.retried else []
            row += 1

    def _stored(self, values: NDArray[np.float32], wanted: Wanted) -> NDArray[Any]:
        with np.errstate(over="ignore"):
            stored = values.astype(wanted.dtype)
        if not np.isfinite(stored).all():
            raise InputError(
                f"features up to {np.abs(values).max():.3g} are too large for float16",
                "set the protocol's storage to float32",
            )
        return stored

    def _donors(self, wanted: Wanted) -> Iterator[_Donor]:
        """Yield arrays of the same family that hold at least one of the chunks, finished or not."""
        chunks = set(wanted.chunks)
        for path in sorted((self.folder / wanted.family).glob("*.json")):
            index = _read_index(path)
            if index is None or index["key"] == wanted.key:
                continue
            keys = list(_unpacked(index["chunks"]))
            if chunks.isdisjoint(keys):
                continue
            array, _ = self._paths(wanted.family, index["key"])
            values = _read_array(array)
            if values is None:
                values = unfinished_rows(array, (len(keys), *wanted.shape[1:]), wanted.dtype)
            if values is not None and values.shape[1:] == wanted.shape[1:]:
                rows = {key: row for row, key in enumerate(keys[: len(values)]) if key in chunks}
                yield _Donor(
                    values,
                    rows,
                    index["precision"],
                    index["relative_difference"],
                    frozenset(index["retried"]),
                )

    def _remove_covered(self, wanted: Wanted) -> None:
        """Remove unfinished arrays of the same family whose rows are all in this one."""
        if not wanted.takes_rows_over:
            return
        chunks = set(wanted.chunks)
        for path in sorted((self.folder / wanted.family).glob("*.json")):
            index = _read_index(path)
            array = path.with_suffix(".npy")
            if index is None or index["key"] == wanted.key or array.exists():
                continue
            keys = list(_unpacked(index["chunks"]))
            values = unfinished_rows(array, (len(keys), *wanted.shape[1:]), wanted.dtype)
            if values is not None and chunks.issuperset(keys[: len(values)]):
                discard(array)
                path.unlink(missing_ok=True)

    def _paths(self, family: str, key: str) -> tuple[Path, Path]:
        return self.folder / family / f"{key}.npy", self.folder / family / f"{key}.json"


def stored_array(path: Path) -> Found | None:
    """Return the index and the rows of a finished array by its file; ``None`` if it is gone."""
    index, values = _read_index(path.with_suffix(".json")), _read_array(path)
    return None if index is None or values is None else (index, values)


def unpacked_chunks(index: dict[str, Any]) -> Iterator[ChunkKey]:
    """Yield the content of each row of an array by its index."""
    return _unpacked(index["chunks"])


@dataclass(frozen=True)
class _Donor:
    """Rows of another corpus."""

    values: NDArray[Any]
    rows: dict[ChunkKey, int]
    precision: str
    difference: float | None
    retried: frozenset[int]


def _packed(chunks: Sequence[ChunkKey]) -> list[list[Any]]:
    """Return ``[digest, [start, stop], …]`` of each run of rows of one track."""
    return [
        [digest, *([start, stop] for _, start, stop in run)]
        for digest, run in itertools.groupby(chunks, key=lambda chunk: chunk[0])
    ]


def _unpacked(packed: Sequence[Sequence[Any]]) -> Iterator[ChunkKey]:
    for digest, *spans in packed:
        for start, stop in spans:
            yield digest, start, stop


def _read_index(path: Path) -> dict[str, Any] | None:
    """Return an index; one that is missing, torn or of another version counts as none."""
    fields = {"key", "layers", "storage", "precision", "relative_difference", "retried", "chunks"}
    try:
        index = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return index if isinstance(index, dict) and fields <= index.keys() else None


def _write_index(path: Path, index: dict[str, Any]) -> None:
    write_text(path, canonical_json(index) + "\n")


def _read_array(path: Path) -> NDArray[Any] | None:
    try:
        values: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return values
