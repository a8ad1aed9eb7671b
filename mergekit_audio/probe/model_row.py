"""A row of results: a model, what its features depend on, and how to get them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mergekit_audio.backbones.base import Backbone
from mergekit_audio.errors import InputError
from mergekit_audio.files import canonical_json, sha256_of_text
from mergekit_audio.probe.encoders import FrozenEncoder
from mergekit_audio.probe.features import Features
from mergekit_audio.probe.scoring import SCORED_SPLITS, ProbeResult
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.weights.checkpoint import Checkpoint


@dataclass(frozen=True)
class ModelRow:
    """One row of results.

    Parameters
    ----------
    name
        The row's name, unique in a table.
    kind
        ``model``, ``base``, ``culture``, ``compare`` or ``merge``.
    digest
        The digest of the weights.
    key
        The digest of weights and config: what features depend on.
    encoder
        The weights; built only where features are missing, as deep as they are needed.
    scale
        λ of a merge, 0 for a sweep's base.
    weight_average
        Whether this row is weight averaging.
    in_grid
        Whether this row is a point of the λ curve.
    tune
        Of an encoder that is tuned for each task instead of probed: scores a task with a seed, and
        is told how to say that some steps of all are done.
    facts
        More of the row for the summary.
    settings
        What a point of a tuned row says in the place of the probe's layer and learning rate.
    features
        Of a row that brings its own features, such as interpolated ones: those of a task; the
        encoder is not asked.
    splits
        What is scored. A row without ``test`` needs a key of its own.
    """

    name: str
    kind: str
    digest: str
    key: str
    encoder: FrozenEncoder
    scale: float | None = None
    weight_average: bool = False
    in_grid: bool = False
    tune: Callable[[PreparedTask, int, Callable[[int, int], None]], ProbeResult] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    features: Callable[[PreparedTask], Features] | None = None
    splits: tuple[str, ...] = SCORED_SPLITS


def checkpoint_row(
    name: str,
    kind: str,
    checkpoint: Checkpoint,
    backbone: Backbone,
    *,
    scale: float | None = None,
    in_grid: bool = False,
) -> ModelRow:
    """Return the row of a checkpoint; its weights are read only when features are missing."""
    config = require_config(checkpoint)
    digest = checkpoint.digest()
    return ModelRow(
        name=name,
        kind=kind,
        digest=digest,
        key=model_key(digest, config),
        encoder=FrozenEncoder.of_checkpoint(checkpoint, backbone),
        scale=scale,
        in_grid=in_grid,
    )


def model_key(digest: str, config: Mapping[str, Any]) -> str:
    """Return the digest of weights and config together."""
    return sha256_of_text(canonical_json({"weights": digest, "config": dict(config)}))


def require_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the checkpoint's ``config.json``, or raise ``InputError`` when it has none."""
    if checkpoint.config is None:
        raise InputError(
            f"{checkpoint.folder}: no config.json, so the encoder can't be built",
            "put the model's config.json beside its weights",
        )
    return checkpoint.config
