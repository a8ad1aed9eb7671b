"""Plan a measurement: open the models, their heads and their corpora, and find faults early."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergekit_audio.audio.corpus import Track, load_tracks
from mergekit_audio.errors import Fault, InputError, RecipeError
from mergekit_audio.measure.heads import CodeHeads, read_heads
from mergekit_audio.recipe.measure import MeasureRecipe
from mergekit_audio.weights.checkpoint import Checkpoint


@dataclass(frozen=True)
class Subject:
    """A model that is measured, and on what.

    Parameters
    ----------
    name
        The folder of its statistics; empty for a model that is measured alone.
    checkpoint, corpus, tracks
        The open model, its corpus as the recipe writes it, and the recordings there.
    weight
        Its weight in the merge.
    """

    name: str
    checkpoint: Checkpoint
    corpus: str
    tracks: tuple[Track, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class MeasurePlan:
    """What will be measured.

    Parameters
    ----------
    recipe, root
        The recipe and the folder that its paths are relative to.
    subjects
        One model, or the models of a merge.
    base
        The base of the merge; None for a model that is measured alone.
    heads
        The heads that the Fisher's labels are drawn from; None where none are.
    """

    recipe: MeasureRecipe
    root: Path
    subjects: tuple[Subject, ...]
    base: Checkpoint | None
    heads: CodeHeads | None

    @property
    def output(self) -> Path:
        """The folder that the recipe asks to write."""
        return self.root / self.recipe.output

    @property
    def store(self) -> Path:
        """The prepared store."""
        return Path(os.path.normpath(self.root / (self.recipe.store or ".cmerge_store")))

    @property
    def crop_samples(self) -> int:
        """Samples of a clip."""
        return round(self.recipe.crop_s * self.recipe.backbone.sample_rate_hz)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for ``--dry-run``."""
        recipe = self.recipe
        value: dict[str, Any] = {
            "kind": recipe.kind,
            "models": [
                {
                    "model": each.checkpoint.source,
                    "digest": each.checkpoint.digest(),
                    "corpus": each.corpus,
                    "tracks": len(each.tracks),
                }
                for each in self.subjects
            ],
            "statistics": list(recipe.statistics),
            "clips": recipe.examples,
            "seconds_heard": round(recipe.examples * recipe.crop_s, 3),
        }
        if self.base is not None:
            value |= {"base": self.base.source, "alpha": recipe.merge_alpha}
        if "fisher" in recipe.statistics:
            value["fisher"] = {
                "distribution": recipe.fisher.distribution,
                "heads": [] if self.heads is None else sorted(self.heads.temperatures),
            }
        return value | {
            "store": str(self.store),
            "output": recipe.output,
            "output_exists": self.output.is_dir() and any(self.output.iterdir()),
        }


def plan(recipe: MeasureRecipe, root: Path) -> MeasurePlan:
    """Open what a measurement reads; nothing is written.

    Raises
    ------
    InputError
        A model or corpus can't be opened, a model has no config, another layout than the base, or
        no heads to draw labels from.
    RecipeError
        A clip is shorter than one frame, or holds too few frames for a masked span.
    """
    root = Path(root)
    subjects = _subjects(recipe, root)
    base = None if recipe.base is None else Checkpoint.open(recipe.base, root=root)
    for checkpoint in [*(each.checkpoint for each in subjects), *([base] if base else [])]:
        _require_config(checkpoint)
    if base is not None:
        for each in subjects:
            base.require_same_layout(each.checkpoint)
    heads = None
    if "fisher" in recipe.statistics and recipe.fisher.distribution == "codes":
        heads = read_heads(subjects[0].checkpoint, recipe.fisher.temperature)
    planned = MeasurePlan(recipe, root, subjects, base, heads)
    _require_frames(planned)
    return planned


def _subjects(recipe: MeasureRecipe, root: Path) -> tuple[Subject, ...]:
    if not recipe.is_joint:
        assert recipe.model is not None
        assert recipe.corpus is not None
        entries = [("", recipe.model, recipe.corpus, 1.0)]
    else:
        entries = [(each.name, each.model, each.corpus, each.weight) for each in recipe.models]
    return tuple(
        Subject(
            name,
            Checkpoint.open(model, root=root),
            corpus,
            tuple(load_tracks(root / corpus)),
            weight,
        )
        for name, model, corpus, weight in entries
    )


def _require_config(checkpoint: Checkpoint) -> None:
    if checkpoint.config is None:
        raise InputError(
            f"{checkpoint.folder}: no config.json, so the encoder can't be built",
            "put the model's config.json beside its weights",
        )


def _require_frames(planned: MeasurePlan) -> None:
    recipe = planned.recipe
    frames = recipe.backbone.frame_count(planned.crop_samples)
    least = recipe.fisher.masking.mask_length + 1 if planned.heads is not None else 1
    if frames < least:
        problem = f"{recipe.crop_s:g} s has {max(frames, 0)} frames; at least {least} are needed"
        raise RecipeError([Fault("", 0, 0, "crop_s", problem)], "measure longer clips")
