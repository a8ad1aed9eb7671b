"""The named probing protocols of the literature: what each sets, its seeds, what it leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Preset = Literal["culturemert", "marble-v1", "marble-grid", "petl-probe", "screen"]


@dataclass(frozen=True)
class PresetFacts:
    """A named protocol.

    Parameters
    ----------
    settings
        What it sets; everything else has the default of a protocol.
    seeds
        The probes' seeds where a recipe names none.
    source
        Where the settings come from.
    unknown
        Settings that the source does not state; ours stand in the result.
    """

    settings: Mapping[str, Any]
    seeds: tuple[int, ...]
    source: str
    unknown: tuple[str, ...] = ()


_MARBLE_V1: dict[str, Any] = {
    "chunk_s": 30.0,
    "overlap": 0.0,
    "last_chunk": "keep",
    "min_last_chunk_s": 1.0,
    "normalize": True,
    "standardize": False,
    "standardize_values": False,
    "layer": "weighted",
    "weighted_over": "transformer",
    "layer_start": "random",
    "hidden_size": 512,
    "dropout": 0.2,
    "dropout_place": "after_relu",
    "learning_rate": 1e-3,
    "batch_size": 64,
    "max_epochs": 100,
    "patience": 10,
    "plateau_patience": 3,
    "plateau_factor": 0.5,
    "monitor": "roc_auc",
    "aggregate": "mean_logit",
}

PRESETS: Mapping[str, PresetFacts] = {
    "culturemert": PresetFacts(
        settings={
            **_MARBLE_V1,
            "last_chunk": "drop",
            "standardize_values": True,
            "weighted_over": "all",
            "layer_start": "equal",
            "aggregate": "mean_probability",
        },
        seeds=(0, 1, 2, 3, 4),
        source="CultureMERT, arXiv 2506.17818, section 4.2; what it leaves open is MARBLE's",
        unknown=(
            "layer",
            "overlap",
            "last_chunk",
            "aggregate (probabilities or logits)",
            "learning_rate",
            "dropout",
            "batch_size",
            "monitor",
            "the number of seeds",
        ),
    ),
    "marble-v1": PresetFacts(
        settings=_MARBLE_V1,
        seeds=(1234,),
        source="MARBLE, arXiv 2306.10548, the first repository's MagnaTagATune probe of MERT",
    ),
    "marble-grid": PresetFacts(
        settings={
            **_MARBLE_V1,
            "select": {
                "layers": "all",
                "learning_rates": [5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 1e-2],
                "by": "probe",
            },
        },
        seeds=(1234,),
        source="MARBLE, arXiv 2306.10548, the constrained track's search",
    ),
    "petl-probe": PresetFacts(
        settings={
            "chunk_s": 5.0,
            "overlap": 0.0,
            "last_chunk": "drop",
            "normalize": False,
            "layer": 6,
            "hidden_size": "features",
            "dropout": 0.5,
            "dropout_place": "before_relu",
            "learning_rate": 1e-4,
            "batch_size": 16,
            "gradient_clip": 1.0,
            "max_epochs": 1000,
            "max_steps": 60_000,
            "patience": None,
            "plateau_patience": None,
            "monitor": "average_precision",
            "aggregate": "mean_probability",
        },
        seeds=(321,),
        source="Ding and Lerch, parameter-efficient transfer learning for music foundation models",
    ),
    "screen": PresetFacts(
        settings={"estimator": "ridge", "standardize": True},
        seeds=(0,),
        source="ridge regression on standardised features",
    ),
}
"""The presets by name. `petl-probe` differs from its source in two things: it trains on every
segment of a clip where the source draws one of 5 s at random, and its features are those of a model
in evaluation mode, validated on whole clips. Its 60,000 steps are those of MagnaTagATune."""
