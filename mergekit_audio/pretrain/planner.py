"""Plan a training: open the base, name what each stage trains, and find faults early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mergekit_audio.audio.corpus import Track
from mergekit_audio.errors import DependencyError, InputError
from mergekit_audio.pretrain.checks import culture_notes, load_corpora, require_apart
from mergekit_audio.pretrain.groups import count_by_group
from mergekit_audio.pretrain.heads import (
    FITTED_FOLDER,
    require_fitting_heads,
    row_notes,
    with_special_rows,
    with_warmup,
)
from mergekit_audio.pretrain.notes import frozen_notes, hour_notes, plan_notes
from mergekit_audio.pretrain.objective import require_mask_vector
from mergekit_audio.pretrain.parameters import require_matches, require_trained, trainable_names
from mergekit_audio.pretrain.processes import clips_per_step, with_steps
from mergekit_audio.pretrain.timing import hours_of
from mergekit_audio.recipe.train import PresetBase, Stage, TrainRecipe
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.keys import canonical_name
from mergekit_audio.weights.side_files import side_files

Shapes = Mapping[str, tuple[int, ...]]


def plan(recipe: TrainRecipe, root: Path) -> TrainPlan:
    """Open what a training starts from and decide what each stage trains; nothing is written.

    Parameters
    ----------
    recipe
        The validated recipe.
    root
        The folder that the recipe's relative paths are relative to.

    Raises
    ------
    InputError
        The base, a corpus, a teacher or the base's heads can't be used.
    RecipeError
        A stage's glob matches no parameter; all of them are listed.
    DependencyError
        ``precision: fp16`` without a GPU.
    """
    root = Path(root)
    recipe = with_steps(recipe)
    if recipe.arguments.precision == "fp16" and not torch.cuda.is_available():
        raise DependencyError(
            "arguments.precision: fp16 needs a CUDA GPU and there is none",
            "use bf16 or fp32 (--set arguments.precision=bf16)",
        )
    base = None if isinstance(recipe.base, PresetBase) else Checkpoint.open(recipe.base, root=root)
    if base is not None and base.fairseq is None:
        side_files(base.folder)  # what the output carries over from it: refuse gaps before the work
    config = _config(recipe, base)
    recipe.backbone.check(config)
    written, recipe = recipe, with_warmup(recipe)
    shapes = _backbone_shapes(recipe, base, config)
    require_mask_vector(shapes)
    fitted = _fitted(recipe, base)
    asked = _head_shapes(recipe, root, int(config["hidden_size"]), fitted)
    recipe, heads = with_special_rows(recipe, base, asked)
    imported = tuple(require_fitting_heads(recipe, base, heads))
    names = {**shapes, **{f"heads.{name}": shape for name, shape in _flat(heads).items()}}
    pending = tuple(name for name, found in heads.items() if found is None)
    require_matches(recipe, names, heads_unknown=bool(pending))
    require_trained(recipe, names, heads_unknown=bool(pending))
    sources = {f"corpus.{name}": source for name, source in recipe.corpora().items()}
    if recipe.replay is not None:
        sources["replay"] = recipe.replay
    tracks = load_corpora(sources, root)
    require_apart(recipe, root, tracks)
    return TrainPlan(
        recipe=recipe,
        written=written,
        root=root,
        base=base,
        config=config,
        shapes=names,
        pending_teachers=pending,
        fitted=fitted,
        imported_heads=imported,
        tracks=tracks,
        notes=(
            *row_notes(written, recipe),
            *plan_notes(recipe, imported, pending),
            *frozen_notes(recipe, names),
            *culture_notes(recipe, root),
        ),
    )


@dataclass(frozen=True)
class TrainPlan:
    """A training that can run.

    Parameters
    ----------
    recipe, root
        The recipe with what the base decides (rows of heads, a warm-up stage), and the folder that
        its paths are relative to.
    written
        The recipe as it was given.
    base
        The open checkpoint; None when the base is a preset with random weights.
    config
        The model's ``config.json``.
    shapes
        Shape of every parameter by the name that recipes use; heads of teachers that are not yet
        fitted are missing.
    pending_teachers
        The teachers that this training has to fit first.
    fitted
        The base's fitted teachers that are used again, by name.
    imported_heads
        The teachers whose heads come from the base.
    tracks
        The recordings of each corpus, by its key in the recipe (``corpus.makam``, ``replay``).
    notes
        What the user should know.
    """

    recipe: TrainRecipe
    written: TrainRecipe
    root: Path
    base: Checkpoint | None
    config: Mapping[str, Any]
    shapes: Shapes
    pending_teachers: tuple[str, ...]
    fitted: Mapping[str, Path]
    imported_heads: tuple[str, ...]
    tracks: Mapping[str, tuple[Track, ...]]
    notes: tuple[str, ...]

    @property
    def output(self) -> Path:
        """The folder that the recipe asks to write."""
        return self.root / self.recipe.output

    @property
    def store(self) -> Path:
        """The prepared store."""
        return self.root / (self.recipe.store or ".cmerge_store")

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values, for ``--dry-run --json``; hours are read from headers."""
        hours = {name: hours_of(tracks) for name, tracks in self.tracks.items()}
        return {
            "kind": "train",
            "culture": self.recipe.culture,
            "base": self._base_as_dict(),
            "parameters": sum(_count(shape) for shape in self.shapes.values()),
            "teachers": [self._teacher_as_dict(each.name) for each in self.recipe.teachers],
            "corpora": {
                name: {
                    "source": self._source(name),
                    "tracks": len(self.tracks[name]),
                    "hours": None if hours[name] is None else round(hours[name] or 0.0, 4),
                }
                for name in sorted(self.tracks)
            },
            "stages": [self._stage_as_dict(stage) for stage in self.recipe.stages],
            "output": self.recipe.output,
            "output_exists": self.output.is_dir() and any(self.output.iterdir()),
            "notes": [*self.notes, *(hour_notes(self.recipe, hours))],
        }

    def _base_as_dict(self) -> dict[str, Any]:
        if self.base is None:
            return {"preset": self.recipe.base.preset, "init": "random"}  # type: ignore[union-attr]
        return {"source": self.base.source, "digest": self.base.digest()}

    def _teacher_as_dict(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "head": "imported" if name in self.imported_heads else "random",
            "fitted": "from the base"
            if name in self.fitted
            else ("fitted first" if name in self.pending_teachers else "not needed"),
        }

    def _source(self, name: str) -> str:
        if name == "replay":
            return self.recipe.replay or ""
        return self.recipe.corpora()[name.removeprefix("corpus.")]

    def _stage_as_dict(self, stage: Stage) -> dict[str, Any]:
        arguments = self.recipe.arguments
        chosen = trainable_names(self.recipe, stage, self.shapes)
        sizes = self.recipe.transfer.trained_sizes(self.shapes, chosen)
        trainable = sum(sizes.values())
        clips = stage.steps * clips_per_step(arguments)
        return {
            "name": stage.name,
            "train": list(stage.train),
            "trainable_tensors": len(sizes),
            "trainable_parameters": trainable,
            "trainable_by_group": count_by_group(self.recipe, sizes),
            "frozen_parameters": sum(_count(shape) for shape in self.shapes.values())
            - sum(_count(self.shapes[name]) for name in chosen if name in sizes),
            "steps": stage.steps,
            "warmup_steps": stage.warmup_steps,
            "peak_lr": stage.peak_lr,
            "min_lr": stage.min_lr,
            "decay": stage.decay,
            "clips": clips,
            "hours_heard": round(clips * arguments.crop_s / 3600, 4),
            "replay_share": stage.replay_share,
        }


def _config(recipe: TrainRecipe, base: Checkpoint | None) -> dict[str, Any]:
    if isinstance(recipe.base, PresetBase):
        return recipe.backbone.preset(recipe.base.preset)
    assert base is not None
    if base.config is None:
        raise InputError(
            f"{base.folder}: there is no config.json beside the weights",
            "copy the config.json of the model that these weights belong to into the folder",
        )
    if not isinstance(base.config.get("hidden_size"), int):
        raise InputError(
            f"{base.folder / 'config.json'}: hidden_size is {base.config.get('hidden_size')!r}, "
            "expected a whole number",
            "compare it with the model's published config",
        )
    return dict(base.config)


def _backbone_shapes(
    recipe: TrainRecipe, base: Checkpoint | None, config: Mapping[str, Any]
) -> dict[str, tuple[int, ...]]:
    if base is not None:
        return {name: info.shape for name, info in base.index.items()}
    model = recipe.backbone.build(config, None, training=False, seed=recipe.seed)
    shapes = {canonical_name(name): tuple(each.shape) for name, each in model.named_parameters()}
    return dict(sorted(shapes.items()))


def _fitted(recipe: TrainRecipe, base: Checkpoint | None) -> dict[str, Path]:
    if base is None:
        return {}
    places = {
        each.name: base.folder / FITTED_FOLDER / f"{each.name}.safetensors"
        for each in recipe.teachers
        if each.needs_fit
    }
    return {name: path for name, path in places.items() if path.is_file()}


def _head_shapes(
    recipe: TrainRecipe, root: Path, hidden_size: int, fitted: Mapping[str, Path]
) -> dict[str, dict[str, tuple[int, ...]] | None]:
    """Return the shapes of each teacher's head, None where the teacher has to be fitted first."""
    found: dict[str, dict[str, tuple[int, ...]] | None] = {}
    for teacher in recipe.teachers:
        if teacher.needs_fit and teacher.name not in fitted:
            found[teacher.name] = None
            continue
        opened = teacher.open(fitted.get(teacher.name), root=root)
        with torch.random.fork_rng(devices=[]):
            head = opened.head(hidden_size)
        found[teacher.name] = {name: tuple(each.shape) for name, each in head.named_parameters()}
    return found


def _flat(
    heads: Mapping[str, Mapping[str, tuple[int, ...]] | None],
) -> dict[str, tuple[int, ...]]:
    return {
        f"{teacher}.{name}": shape
        for teacher, shapes in heads.items()
        for name, shape in (shapes or {}).items()
    }


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total
