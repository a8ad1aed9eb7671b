"""Compute the time-averaged hidden states of chunks: precision, retries, devices, workers."""

from __future__ import annotations

import copy
import functools
import queue
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mergekit_audio.audio.store import PreparedTrack
from mergekit_audio.backbones.base import Backbone
from mergekit_audio.errors import NotFiniteError
from mergekit_audio.probe.chunks import Chunk
from mergekit_audio.probe.parallel import ordered_map

if TYPE_CHECKING:
    from torch import nn

CUDA_BATCH_S = 240.0
"""Seconds of audio in a batch of a GPU; a CPU takes chunk by chunk, which stay in its caches."""
SAFE_DIFFERENCE = 0.01
"""The largest relative difference from float32 with which `auto` goes on in bfloat16."""
MEASURED_CHUNKS = 4
MEASURED_S = 2.0
BFLOAT16_WIDTH = 256
"""Narrower encoders gain nothing from bfloat16: their matrix products take less than the rest."""
NORMALIZE_EPSILON = 1e-7


@dataclass(frozen=True)
class Batch:
    """Rows that are computed together, their values, and those that took float32 after all."""

    values: NDArray[np.float32]
    retried: list[int]


@dataclass
class Embedder:
    """An encoder on its devices, and the chunks of a corpus.

    Parameters
    ----------
    backbone
        The model family.
    model
        An encoder in evaluation mode, on the CPU.
    tracks, chunks
        The audio.
    normalize
        Give each chunk zero mean and unit variance.
    devices
        ``cpu``, or every GPU: a worker and a copy of the model for each.
    """

    backbone: Backbone
    model: nn.Module
    tracks: Sequence[PreparedTrack]
    chunks: Sequence[Chunk]
    normalize: bool
    devices: Sequence[str]
    _free: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue, repr=False)

    def __post_init__(self) -> None:
        for device in self.devices:
            self._free.put(device)

    def batches(self, first: int = 0) -> list[range]:
        """Return the rows from ``first`` on in batches of neighbours of equal length, unsorted."""
        batches: list[range] = []
        start = first
        while start < len(self.chunks):
            length = self._length(start)
            most = 1
            if self.devices[0] != "cpu":
                most = max(1, int(CUDA_BATCH_S * self.backbone.sample_rate_hz / length))
            stop = start + 1
            while stop < min(start + most, len(self.chunks)) and self._length(stop) == length:
                stop += 1
            batches.append(range(start, stop))
            start = stop
        return batches

    def compute(self, batches: Sequence[range], *, bfloat16: bool, workers: int) -> Iterator[Batch]:
        """Yield each batch in its order; the number of workers changes no bit.

        Raises
        ------
        NotFiniteError
            A value is not finite, in float32 either; the recording is named.
        """
        for device in self.devices:
            self._pooler(device, bfloat16)
        workers = workers if self.devices[0] == "cpu" else len(self.devices)
        yield from ordered_map(lambda rows: self._batch(rows, bfloat16), batches, workers)

    def difference(self) -> float:
        """Return how far bfloat16 is from float32 on some chunks, ``max_l ‖b_l - a_l‖ / ‖a_l‖``.

        Of up to 4 chunks that lie evenly in the corpus the middle 2 s at most; a and b are the
        averages of a layer over them, side by side. Infinite where one is not finite. (Averages
        over whole chunks are nearer.)
        """
        count = min(MEASURED_CHUNKS, len(self.chunks))
        rows = [round(index * (len(self.chunks) - 1) / max(1, count - 1)) for index in range(count)]
        most = round(MEASURED_S * self.backbone.sample_rate_hz)
        waves = [_middle(self._wave(row), most) for row in rows]
        device = self.devices[0]
        both = [
            np.concatenate([self._pooled(wave[None], device, bfloat16) for wave in waves])
            for bfloat16 in (False, True)
        ]
        exact, rounded = (values.astype(np.float64) for values in both)
        if not (np.isfinite(exact).all() and np.isfinite(rounded).all()):
            return float("inf")
        norms = np.sqrt(np.square(exact).sum(axis=(0, 2)))
        errors = np.sqrt(np.square(rounded - exact).sum(axis=(0, 2)))
        return float((errors / np.maximum(norms, np.finfo(np.float64).tiny)).max())

    def _batch(self, rows: range, bfloat16: bool) -> Batch:
        waves = np.stack([self._wave(row) for row in rows])
        device = self._free.get() if len(self.devices) > 1 else self.devices[0]
        try:
            values = self._pooled(waves, device, bfloat16)
            failed = [row for row in rows if not np.isfinite(values[row - rows.start]).all()]
            if failed and bfloat16:
                places = [row - rows.start for row in failed]
                values[places] = self._pooled(waves[places], device, False)
        finally:
            if len(self.devices) > 1:
                self._free.put(device)
        for row in failed:
            if not np.isfinite(values[row - rows.start]).all():
                raise self._not_finite(row)
        return Batch(values, failed)

    def _pooled(
        self, waves: NDArray[np.float32], device: str, bfloat16: bool
    ) -> NDArray[np.float32]:
        pooled = self._pooler(device, bfloat16)(torch.from_numpy(waves).to(device))
        values: NDArray[np.float32] = pooled.float().cpu().numpy()
        return values

    @functools.cached_property
    def _poolers(self) -> dict[tuple[str, bool], Callable[[torch.Tensor], torch.Tensor]]:
        return {}

    @functools.cached_property
    def _copies(self) -> dict[str, Any]:
        return {}

    def _pooler(self, device: str, bfloat16: bool) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the function of one device and precision, made when it is first asked for."""
        if (device, bfloat16) not in self._poolers:
            if device not in self._copies:
                is_only = len(self.devices) == 1
                copied = self.model if is_only else copy.deepcopy(self.model)
                self._copies[device] = copied.to(device)
            pooler = self.backbone.pooler(self._copies[device], bfloat16=bfloat16)
            self._poolers[(device, bfloat16)] = pooler
        return self._poolers[(device, bfloat16)]

    def _length(self, row: int) -> int:
        return self.chunks[row].stop - self.chunks[row].start

    def _wave(self, row: int) -> NDArray[np.float32]:
        """Return a chunk's samples, of zero mean and unit variance if asked for."""
        chunk = self.chunks[row]
        wave = self.tracks[chunk.track_index].wave(chunk.start, chunk.stop)
        if not self.normalize:
            return wave
        centred = wave - wave.mean(dtype=np.float64)
        scaled: NDArray[np.float32] = (centred / np.sqrt(centred.var() + NORMALIZE_EPSILON)).astype(
            np.float32
        )
        return scaled

    def _not_finite(self, row: int) -> NotFiniteError:
        prepared = self.tracks[self.chunks[row].track_index]
        return NotFiniteError(
            f"{prepared.track.path}: the encoder's features are not finite, in float32 either",
            "look at the recording, and at the model's weights with `cmerge inspect`",
        )


def _middle(wave: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    first = max(0, (len(wave) - most) // 2)
    return wave[first : first + most]


def embedding_devices() -> tuple[str, ...]:
    """Return every CUDA GPU, or the CPU."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return tuple(f"cuda:{index}" for index in range(count)) or ("cpu",)


def may_use_bfloat16(hidden_size: int, device: str) -> bool:
    """Tell whether bfloat16 can be faster: fast products of it, and an encoder wide enough."""
    if hidden_size < BFLOAT16_WIDTH:
        return False
    if device != "cpu":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported())
