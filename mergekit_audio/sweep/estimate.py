"""What a sweep will take, from a few chunks and one probe that are measured on noise."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mergekit_audio.audio.corpus import Track, load_tracks
from mergekit_audio.backbones.base import Backbone
from mergekit_audio.errors import InputError
from mergekit_audio.probe.chunks import chunk_spans
from mergekit_audio.probe.embedding import embedding_devices, may_use_bfloat16
from mergekit_audio.probe.encoders import FrozenEncoder
from mergekit_audio.probe.features import SPLITS, layers_needed
from mergekit_audio.probe.heads import train_probe
from mergekit_audio.probe.parallel import one_core_each
from mergekit_audio.probe.ridge import fit_ridge
from mergekit_audio.recipe.evaluate import Task
from mergekit_audio.recipe.protocols import Protocol
from mergekit_audio.sweep.planner import SweepPlan
from mergekit_audio.weights.checkpoint import Checkpoint

MEASURED_CHUNKS = 2
MEASURED_EPOCHS = 2
MOST_TRACKS = 50
MOST_ROWS = 2000
OUTPUTS = 20
DEFAULT_DURATION_S = 30.0
_BYTES = {"float32": 4, "float16": 2}


def estimate(planned: SweepPlan) -> dict[str, Any]:
    """Return chunks, seconds and bytes of a sweep; nothing is written.

    The encoder embeds noise of a chunk's mean length, and a probe trains two epochs on noise: times
    do not depend on the content. ``time_s`` is that of one core, at most: probes mostly stop before
    their last epoch, and features that are in the cache already are not computed again.

    Returns
    -------
    dict
        ``tasks`` (``chunks``, ``chunk_s``, ``probe_s`` of each), ``device``, and of the fewest and
        the most extractions ``time_s`` and ``disk_bytes``.
    """
    extractions, points = planned.extractions(), planned.points
    made = {each.name for each in planned.trainings if each.is_missing}
    if extractions is None or points is None or "base" in made:
        return {"why": "models have to be trained first"}
    base = Checkpoint.open(planned.recipe.base, root=planned.root)
    encoder = FrozenEncoder.of_checkpoint(base, planned.recipe.backbone)
    device = embedding_devices()[0]
    tasks = {}
    with one_core_each():
        for task in planned.recipe.tasks:
            tasks[task.name] = _task(task, encoder, planned.root, device)
    rows = points // len(planned.recipe.tasks)
    found: dict[str, Any] = {"device": device.split(":")[0], "tasks": tasks}
    for name, count in zip(("fewest", "most"), extractions, strict=True):
        embedding = sum(each["chunks"] * each["chunk_s"] for each in tasks.values())
        probing = sum(each["probe_s"] for each in tasks.values())
        found[name] = {
            "extractions": count,
            "time_s": round(count * embedding + rows * probing, 1),
            "disk_bytes": count * sum(each["bytes"] for each in tasks.values()),
        }
    return found


def _task(task: Task, encoder: FrozenEncoder, root: Path, device: str) -> dict[str, Any]:
    protocol = task.protocol
    backbone = encoder.backbone
    layers = layers_needed(protocol)
    kept = tuple(range(encoder.last_layer + 1)) if layers is None else layers
    chunks, samples = _chunks(root / task.corpus, protocol, backbone)
    chunk_s = _chunk_seconds(encoder, protocol, kept[-1], device, samples)
    width = encoder.width
    return {
        "chunks": chunks,
        "chunk_s": chunk_s,
        "probe_s": _probe_seconds(protocol, chunks, len(kept), width),
        "bytes": chunks * len(kept) * width * _BYTES[protocol.storage],
    }


def _chunks(source: Path, protocol: Protocol, backbone: Backbone) -> tuple[int, int]:
    """Return how many chunks a corpus gives, from the lengths of some tracks, and their samples."""
    tracks = [track for track in load_tracks(source) if track.split in SPLITS]
    step = max(1, len(tracks) // MOST_TRACKS)
    looked_at = tracks[::step]
    rate = backbone.sample_rate_hz
    spans = [
        span
        for track in looked_at
        for span in chunk_spans(round(_seconds(track) * rate), protocol, rate)
    ]
    samples = round(sum(stop - start for start, stop in spans) / len(spans))
    return round(len(spans) / len(looked_at) * len(tracks)), max(samples, backbone.receptive_field)


def _seconds(track: Track) -> float:
    """Return a track's length: as its manifest or its file says, else that of a common clip."""
    import soundfile

    if track.end_s is not None:
        return track.end_s - (track.start_s or 0.0)
    found = track.duration_s
    if found is None:
        try:
            found = float(soundfile.info(str(track.path)).duration)
        except (RuntimeError, OSError):
            return DEFAULT_DURATION_S
    return max(0.0, found - (track.start_s or 0.0))


def _chunk_seconds(
    encoder: FrozenEncoder, protocol: Protocol, last_layer: int, device: str, samples: int
) -> float:
    model = encoder.build(last_layer).to(device)
    bfloat16 = protocol.precision != "fp32" and may_use_bfloat16(encoder.width, device)
    pooler = encoder.backbone.pooler(model, bfloat16=bfloat16)
    wave = torch.randn(1, samples, generator=torch.Generator().manual_seed(0)).to(device)

    pooler(wave).cpu()
    work = functools.partial(_repeated, lambda: pooler(wave).cpu(), MEASURED_CHUNKS)
    return _timed(work) / MEASURED_CHUNKS


def _probe_seconds(protocol: Protocol, chunks: int, layers: int, width: int) -> float:
    """Return the seconds of one probe: of ridge regression, or of all epochs at most."""
    rows = max(2, min(chunks, MOST_ROWS))
    generator = torch.Generator().manual_seed(0)
    shape = (rows, layers, width) if layers > 1 else (rows, width)
    features = torch.randn(*shape, generator=generator)
    targets = (torch.rand(rows, OUTPUTS, generator=generator) < 0.5).float()
    share = chunks / rows
    if protocol.estimator == "ridge":
        return share * _timed(lambda: fit_ridge(features, targets, protocol.penalties))
    short = protocol.model_copy(update={"max_epochs": MEASURED_EPOCHS, "select": None})
    try:
        seconds = _timed(lambda: train_probe(features, targets, lambda head: 0.0, short, 0))
    except InputError:  # noise makes a wild learning rate diverge
        return 0.0
    return share * seconds / MEASURED_EPOCHS * protocol.max_epochs


def _repeated(work: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        work()


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return round(time.perf_counter() - started, 6)
