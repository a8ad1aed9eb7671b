"""Embed a corpus with a frozen encoder once, and keep the embeddings by their content.

A folder of the cache holds what one encoder, up to its last layer that is needed, gives with one
precision: an array for each corpus, with an index that names the content of every row. A corpus
that shares chunks with one that is there takes their rows over.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from mergekit_audio.audio.store import PreparedCorpus, PreparedTrack
from mergekit_audio.backbones.base import Backbone
from mergekit_audio.errors import InputError
from mergekit_audio.files import canonical_json, sha256_of_text
from mergekit_audio.probe.chunks import Chunk, cut_tracks
from mergekit_audio.probe.embedding import NORMALIZE_EPSILON as NORMALIZE_EPSILON
from mergekit_audio.probe.embedding import (
    SAFE_DIFFERENCE,
    Embedder,
    embedding_devices,
    may_use_bfloat16,
)
from mergekit_audio.probe.encoders import FrozenEncoder
from mergekit_audio.probe.feature_cache import (
    ChunkKey,
    FeatureCache,
    Found,
    Wanted,
)
from mergekit_audio.probe.parallel import one_core_each
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.recipe.protocols import Protocol

if TYPE_CHECKING:
    from torch import nn

FEATURE_VERSION = 2
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Features:
    """The time-averaged hidden states of a corpus's chunks.

    Parameters
    ----------
    key
        What the values depend on, as one sha256.
    values
        Float32 or float16, memory-mapped, shape ``[chunks, len(layers), D]``.
    layers
        The hidden states that are there, rising.
    state_count
        The hidden states that the encoder has.
    track_of_chunk
        The index into ``track_ids`` of each chunk, shape ``[chunks]``.
    track_ids
        The tracks with a split, in the corpus's order.
    facts
        How they were computed: ``precision`` (fp32 or bf16), ``relative_difference`` (of bfloat16
        from float32 on some chunks; null where none was measured), ``retried`` (tracks of which a
        chunk was not finite in bfloat16 and was computed in float32), ``storage``.
    """

    key: str
    values: NDArray[np.floating[Any]]
    layers: tuple[int, ...]
    state_count: int
    track_of_chunk: NDArray[np.int64]
    track_ids: tuple[str, ...]
    facts: dict[str, Any]

    @property
    def path(self) -> Path:
        """The file of the cache that ``values`` is mapped from."""
        name = getattr(self.values, "filename", None)
        assert name is not None
        return Path(name)

    def column(self, layer: int) -> int:
        """Return where a hidden state lies in ``values``."""
        return self.layers.index(layer)

    def of_tracks(self, only: NDArray[np.bool_]) -> Features:
        """Return the rows of some tracks, shape ``[tracks]``; no copy where these are all rows."""
        rows = only[self.track_of_chunk]
        if rows.all():
            return self
        return replace(self, values=self.values[rows], track_of_chunk=self.track_of_chunk[rows])


def extract(
    encoder: FrozenEncoder,
    corpus: PreparedCorpus,
    protocol: Protocol,
    cache: Path,
    progress: Progress = silent,
    workers: int = 1,
    *,
    layers: Sequence[int] | None = None,
    build: Callable[[int], nn.Module] | None = None,
    only: NDArray[np.bool_] | None = None,
) -> Features:
    """Return the features of a corpus, from the cache where the same content was embedded before.

    ``feature[c, l] = mean over time of hidden state l of chunk c``, without padding. The encoder is
    built up to the last layer that is asked for. Computed rows stay when the process is killed, and
    the same call goes on behind them with the same bytes.

    Parameters
    ----------
    encoder
        The weights.
    corpus
        Tracks; those without a split are left out.
    protocol
        Chunks, ``precision`` and ``storage``; the probe's settings do not matter here.
    cache
        The folder of features.
    progress
        Called after each batch.
    workers
        Threads that embed chunks, each on one core; their number never changes the values. With
        GPUs there is one for each of them.
    layers
        Hidden states that are needed, ``None`` means all. Where all are there already, all are
        returned.
    build
        ``encoder.build``, or a function that keeps what it gave for the next corpus.
    only
        Which of the tracks with a split are embedded, shape ``[tracks]``; ``None`` means all. On a
        CPU a later call for more tracks takes these rows over.

    Raises
    ------
    InputError
        The corpus has another sample rate than the encoder, a layer is not one of its, a track is
        too short, or a feature is not finite in float32 (the recording is named).
    ValueError
        ``build`` gave a model in training mode.
    """
    backbone = encoder.backbone
    _require_sample_rate(corpus, backbone)
    chosen = _chosen_layers(encoder, layers)
    tracks = probed_tracks(corpus)
    chunks = cut_tracks(tracks, protocol, corpus.sample_rate_hz, backbone.receptive_field)
    if only is not None:
        chunks = [chunk for chunk in chunks if only[chunk.track_index]]
    devices = embedding_devices()
    work = _Work(encoder, protocol, tracks, chunks, devices, FeatureCache(cache))
    with one_core_each():
        found = work.complete(chosen) or work.embed(
            chosen, build or encoder.build, progress, workers
        )
    return made_features(found, tracks, chunks, encoder)


def made_features(
    found: Found, tracks: Sequence[PreparedTrack], chunks: Sequence[Chunk], encoder: FrozenEncoder
) -> Features:
    """Return an array of the cache as the features of chunks."""
    index, values = found
    return Features(
        key=index["key"],
        values=values,
        layers=tuple(index["layers"]),
        state_count=encoder.last_layer + 1,
        track_of_chunk=np.array([chunk.track_index for chunk in chunks], dtype=np.int64),
        track_ids=tuple(prepared.track.id for prepared in tracks),
        facts={
            "precision": index["precision"],
            "relative_difference": index["relative_difference"],
            "retried": sorted(
                {tracks[chunks[row].track_index].track.id for row in index["retried"]}
            ),
            "storage": index["storage"],
        },
    )


def layers_needed(protocol: Protocol) -> tuple[int, ...] | None:
    """Return the hidden states that a protocol probes, ``None`` for all of them."""
    asked: list[Any] = [protocol.layer]
    if protocol.select is not None and protocol.select.layers is not None:
        if protocol.select.layers == "all":
            return None
        asked = list(protocol.select.layers)
    layers = {layer for layer in asked if isinstance(layer, int)}
    return tuple(sorted(layers)) if len(layers) == len(asked) else None


def probed_tracks(corpus: PreparedCorpus) -> list[PreparedTrack]:
    """Return the tracks of the splits train, valid and test, in the corpus's order."""
    return [prepared for prepared in corpus.tracks if prepared.track.split in SPLITS]


@dataclass(frozen=True)
class _Work:
    """One corpus, one encoder and their place in the cache."""

    encoder: FrozenEncoder
    protocol: Protocol
    tracks: Sequence[PreparedTrack]
    chunks: Sequence[Chunk]
    devices: Sequence[str]
    cache: FeatureCache

    def complete(self, layers: tuple[int, ...]) -> tuple[dict[str, Any], NDArray[Any]] | None:
        """Return features that are there: of these layers, or of all up to any that is deeper."""
        last = self.encoder.last_layer
        deeper = [tuple(range(depth + 1)) for depth in range(layers[-1], last + 1)]
        for candidate in dict.fromkeys([layers, *deeper]):
            found = self.cache.load(self._wanted(candidate))
            if found is not None:
                return found
        return None

    def embed(
        self,
        layers: tuple[int, ...],
        build: Callable[[int], nn.Module],
        progress: Progress,
        workers: int,
    ) -> tuple[dict[str, Any], NDArray[Any]]:
        """Compute what the cache lacks, keep it there, and return it."""
        wanted = self._wanted(layers)

        @functools.cache
        def embedder() -> Embedder:
            return Embedder(
                backbone=self.encoder.backbone,
                model=build(layers[-1]),
                tracks=self.tracks,
                chunks=self.chunks,
                normalize=self.protocol.normalize,
                devices=self.devices,
            )

        def told(done: int) -> None:
            track = self.tracks[self.chunks[done - 1].track_index].track.id
            progress(ProgressEvent("embed", done, len(self.chunks), track))

        return self.cache.fill(wanted, embedder, told, workers)

    def _wanted(self, layers: tuple[int, ...]) -> Wanted:
        protocol, device = self.protocol, self.devices[0].split(":")[0]
        return Wanted(
            family=_family(self.encoder, protocol, layers, device, self._precision(device)),
            layers=layers,
            width=self.encoder.width,
            chunks=[chunk_content(self.tracks, chunk) for chunk in self.chunks],
            storage=protocol.storage,
            precision=self._precision(device),
            takes_rows_over=device == "cpu",
        )

    def _precision(self, device: str) -> str:
        """Return the protocol's precision; ``auto`` is float32 where bfloat16 can't be faster."""
        if self.protocol.precision == "auto" and not may_use_bfloat16(self.encoder.width, device):
            return "fp32"
        return self.protocol.precision


def _family(
    encoder: FrozenEncoder,
    protocol: Protocol,
    layers: tuple[int, ...],
    device: str,
    precision: str,
) -> str:
    """Return the sha256 of all that a chunk's row depends on beside its samples."""
    described = {
        "version": FEATURE_VERSION,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "device": device,
        "encoder": encoder.key(layers[-1]),
        "layers": list(layers),
        "normalize": protocol.normalize,
        "precision": precision,
        "safe_difference": SAFE_DIFFERENCE if precision == "auto" else None,
        "storage": protocol.storage,
    }
    return sha256_of_text(canonical_json(described))


def chunk_content(tracks: Sequence[PreparedTrack], chunk: Chunk) -> ChunkKey:
    """Return what names a chunk's row in the cache."""
    return tracks[chunk.track_index].digest, chunk.start, chunk.stop


def _chosen_layers(encoder: FrozenEncoder, layers: Sequence[int] | None) -> tuple[int, ...]:
    last = encoder.last_layer
    chosen = tuple(range(last + 1)) if layers is None else tuple(sorted(set(layers)))
    if missing := [str(layer) for layer in chosen if not 0 <= layer <= last]:
        raise InputError(
            f"protocol.layer is {', '.join(missing)}, but the encoder has hidden states 0 to "
            f"{last}",
            "choose one of them, or `weighted`",
        )
    return chosen


def _require_sample_rate(corpus: PreparedCorpus, backbone: Backbone) -> None:
    if corpus.sample_rate_hz != backbone.sample_rate_hz:
        raise InputError(
            f"{corpus.source}: prepared at {corpus.sample_rate_hz} Hz, but the encoder wants "
            f"{backbone.sample_rate_hz} Hz",
            "prepare the corpus again at the encoder's sample rate",
        )
