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
from mergekit_audio.files import canonical_json, sha256_of_text, staged_file, write_json
from mergekit_audio.probe.chunks import Chunk, cut_tracks
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.recipe.evaluate import Protocol

if TYPE_CHECKING:
    from torch import nn

FEATURE_VERSION = 1
MAX_BATCH = 8
MAX_BATCH_S = 60.0
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
) -> Features:
    """Return the features of a corpus, from the cache where the same content was embedded before.

    ``feature[c, l] = mean over time of hidden state l of chunk c``, without padding: chunks of equal
    length share a batch, others don't.

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
        model = build().to(device).eval()
        _embed(model, backbone, tracks, chunks, protocol, device, cache / f"{key}.npy", progress)
        index = {"key": key, "model": model_key, "chunks": len(chunks), "corpus": str(corpus.source)}
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


def _embed(
    model: nn.Module,
    backbone: Backbone,
    tracks: Sequence[PreparedTrack],
    chunks: Sequence[Chunk],
    protocol: Protocol,
    device: str,
    target: Path,
    progress: Progress,
) -> None:
    batches = _equal_length_batches(chunks, backbone.sample_rate_hz)
    done = 0
    with staged_file(target) as staging:
        values = None
        for rows in batches:
            progress(ProgressEvent("embed", done, len(chunks), tracks[chunks[rows[0]].track_index].track.id))
            waves = np.stack([_wave(tracks, chunks[row], protocol.normalize) for row in rows])
            with torch.inference_mode():
                states = backbone.hidden_states(model, torch.from_numpy(waves).to(device))
                pooled = states.float().mean(dim=2).cpu().numpy()
            _require_finite(pooled, [tracks[chunks[row].track_index] for row in rows])
            if values is None:
                shape = (len(chunks), *pooled.shape[1:])
                values = np.lib.format.open_memmap(staging, "w+", dtype=np.float32, shape=shape)
            values[rows] = pooled
            done += len(rows)
        if values is not None:
            values.flush()
    progress(ProgressEvent("embed", done, len(chunks)))


def _equal_length_batches(chunks: Sequence[Chunk], sample_rate_hz: int) -> list[list[int]]:
    by_length: dict[int, list[int]] = {}
    for row, chunk in enumerate(chunks):
        by_length.setdefault(chunk.stop - chunk.start, []).append(row)
    batches = []
    for length, rows in sorted(by_length.items()):
        size = max(1, min(MAX_BATCH, int(MAX_BATCH_S * sample_rate_hz / length)))
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
