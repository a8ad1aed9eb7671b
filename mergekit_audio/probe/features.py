"""Embed a corpus with a frozen encoder once, and keep the embeddings by their content."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from mergekit_audio.audio.store import PreparedCorpus, PreparedTrack
from mergekit_audio.backbones.base import Backbone
from mergekit_audio.errors import InputError
from mergekit_audio.files import (
    canonical_json,
    remove_abandoned,
    sha256_of_text,
    staged_file,
    write_json,
)
from mergekit_audio.probe.chunks import Chunk, cut_tracks
from mergekit_audio.probe.parallel import one_core_each, ordered_map
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.recipe.evaluate import Protocol

if TYPE_CHECKING:
    from torch import nn

FEATURE_VERSION = 1
BATCH_S = {"cpu": 20.0, "cuda": 240.0}
"""Seconds of audio in a batch: on a CPU small ones stay in the cache."""
NORMALIZE_EPSILON = 1e-7
SPLITS = ("train", "valid", "test")
CHUNK_SETTINGS = (
    "chunk_s",
    "overlap",
    "last_chunk",
    "min_last_chunk_s",
    "max_duration_s",
    "normalize",
)


@dataclass(frozen=True)
class Features:
    """The time-averaged hidden states of a corpus's chunks.

    Parameters
    ----------
    key
        What the values depend on, as one sha256.
    values
        Float32, memory-mapped, shape ``[chunks, L, D]``.
    track_of_chunk
        The index into ``track_ids`` of each chunk, shape ``[chunks]``.
    track_ids
        The tracks with a split, in the corpus's order.
    """

    key: str
    values: NDArray[np.float32]
    track_of_chunk: NDArray[np.int64]
    track_ids: tuple[str, ...]


def extract(
    model_key: str,
    build: Callable[[], nn.Module],
    backbone: Backbone,
    corpus: PreparedCorpus,
    protocol: Protocol,
    cache: Path,
    progress: Progress = silent,
    workers: int = 1,
) -> Features:
    """Return the features of a corpus, from the cache where the same content was embedded before.

    ``feature[c, l] = mean over time of hidden state l of chunk c``, without padding: chunks of
    equal length share a batch, others don't.

    Parameters
    ----------
    model_key
        The digest of the weights and the config.
    build
        Makes the encoder; not called when the features are cached.
    backbone
        The model family.
    corpus
        Tracks; those without a split are left out.
    protocol
        The chunk settings; the probe's settings do not matter here.
    cache
        The folder of ``<key>.npy`` and ``<key>.json``.
    progress
        Called after each batch.
    workers
        Threads that embed batches, each on one core; their number never changes the values.

    Raises
    ------
    InputError
        The corpus has another sample rate, a track is too short, or a feature is not finite.
    """
    _require_sample_rate(corpus, backbone)
    tracks = probed_tracks(corpus)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    key = _feature_key(model_key, backbone, tracks, protocol, device)
    chunks = cut_tracks(tracks, protocol, corpus.sample_rate_hz, backbone.receptive_field)
    values = _load_cached(cache, key, len(chunks))
    if values is None:
        job = _Job(build().to(device).eval(), backbone, tracks, chunks, protocol.normalize, device)
        with one_core_each():
            _embed(job, cache / f"{key}.npy", progress, workers)
        index = {
            "key": key,
            "model": model_key,
            "chunks": len(chunks),
            "corpus": str(corpus.source),
        }
        write_json(cache / f"{key}.json", index)
        values = _load_cached(cache, key, len(chunks))
        assert values is not None
    return Features(
        key=key,
        values=values,
        track_of_chunk=np.array([chunk.track_index for chunk in chunks], dtype=np.int64),
        track_ids=tuple(prepared.track.id for prepared in tracks),
    )


def probed_tracks(corpus: PreparedCorpus) -> list[PreparedTrack]:
    """Return the tracks of the splits train, valid and test, in the corpus's order."""
    return [prepared for prepared in corpus.tracks if prepared.track.split in SPLITS]


def _feature_key(
    model_key: str,
    backbone: Backbone,
    tracks: Sequence[PreparedTrack],
    protocol: Protocol,
    device: str,
) -> str:
    described = {
        "version": FEATURE_VERSION,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": device,
        "model": model_key,
        "backbone": backbone.model_dump(mode="json"),
        "chunks": protocol.model_dump(mode="json", include=set(CHUNK_SETTINGS)),
        "audio": [[prepared.track.id, prepared.digest] for prepared in tracks],
    }
    return sha256_of_text(canonical_json(described))


def _load_cached(cache: Path, key: str, chunk_count: int) -> NDArray[np.float32] | None:
    try:
        index = json.loads((cache / f"{key}.json").read_text("utf-8"))
        values = np.load(cache / f"{key}.npy", mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    complete = index.get("key") == key and values.dtype == np.float32 and values.ndim == 3
    return values if complete and len(values) == chunk_count else None


@dataclass(frozen=True)
class _Job:
    """What a batch needs: the encoder and the audio."""

    model: nn.Module
    backbone: Backbone
    tracks: Sequence[PreparedTrack]
    chunks: Sequence[Chunk]
    normalize: bool
    device: str

    def pooled(self, rows: Sequence[int]) -> NDArray[np.float32]:
        """Return the time-averaged hidden states of some chunks, shape ``[rows, L, D]``."""
        waves = np.stack([_wave(self.tracks, self.chunks[row], self.normalize) for row in rows])
        with torch.inference_mode():
            states = self.backbone.hidden_states(
                self.model, torch.from_numpy(waves).to(self.device)
            )
            pooled: NDArray[np.float32] = states.float().mean(dim=2).cpu().numpy()
        _require_finite(pooled, [self.tracks[self.chunks[row].track_index] for row in rows])
        return pooled


def _embed(job: _Job, target: Path, progress: Progress, workers: int) -> None:
    """Write one ``.npy`` file row by row; plain writes notice a full disk, mapped ones do not."""
    batches = _equal_length_batches(job.chunks, job.backbone.sample_rate_hz, job.device)
    workers = workers if job.device == "cpu" else 1
    done = 0
    remove_abandoned(target)
    with staged_file(target) as staging, open(staging, "wb") as stream:
        data_start = 0
        embedded = ordered_map(job.pooled, batches, workers)
        for rows, pooled in zip(batches, embedded, strict=True):
            if not done:
                shape = (len(job.chunks), *pooled.shape[1:])
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, header)
                data_start = stream.tell()
            for row, values in zip(rows, pooled, strict=True):
                stream.seek(data_start + row * values.nbytes)
                stream.write(values.astype("<f4", order="C").tobytes())
            done += len(rows)
            track = job.tracks[job.chunks[rows[-1]].track_index].track.id
            progress(ProgressEvent("embed", done, len(job.chunks), track))


def _equal_length_batches(
    chunks: Sequence[Chunk], sample_rate_hz: int, device: str
) -> list[list[int]]:
    by_length: dict[int, list[int]] = {}
    for row, chunk in enumerate(chunks):
        by_length.setdefault(chunk.stop - chunk.start, []).append(row)
    batches: list[list[int]] = []
    for length, rows in sorted(by_length.items()):
        size = max(1, int(BATCH_S[device] * sample_rate_hz / length))
        batches.extend(rows[first : first + size] for first in range(0, len(rows), size))
    return batches


def _wave(tracks: Sequence[PreparedTrack], chunk: Chunk, normalize: bool) -> NDArray[np.float32]:
    wave = np.asarray(tracks[chunk.track_index].wave(chunk.start, chunk.stop), dtype=np.float32)
    if not normalize:
        return wave
    centred = wave - wave.mean(dtype=np.float64)
    scaled: NDArray[np.float32] = (centred / np.sqrt(centred.var() + NORMALIZE_EPSILON)).astype(
        np.float32
    )
    return scaled


def _require_finite(pooled: NDArray[np.float32], tracks: Sequence[PreparedTrack]) -> None:
    finite = np.isfinite(pooled).all(axis=(1, 2))
    if not finite.all():
        prepared = tracks[int(np.argmin(finite))]
        raise InputError(
            f"{prepared.track.path}: the encoder's features are not finite",
            "look at the recording, and at the model's weights with `cmerge inspect`",
        )


def _require_sample_rate(corpus: PreparedCorpus, backbone: Backbone) -> None:
    if corpus.sample_rate_hz != backbone.sample_rate_hz:
        raise InputError(
            f"{corpus.source}: prepared at {corpus.sample_rate_hz} Hz, but the encoder wants "
            f"{backbone.sample_rate_hz} Hz",
            "prepare the corpus again at the encoder's sample rate",
        )
