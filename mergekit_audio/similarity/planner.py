"""Plan a comparison of corpora: read the lists of recordings and check what is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergekit_audio.audio.corpus import Track, load_tracks
from mergekit_audio.errors import InputError
from mergekit_audio.recipe.similarity import SimilarityRecipe

FITTED_FOLDER = "teachers"
SUMMARY_NAME = "summary.json"


@dataclass(frozen=True)
class SimilarityPlan:
    """What will be compared.

    Parameters
    ----------
    recipe, root
        The recipe and the folder that its paths are relative to.
    tracks
        The recordings of each corpus by name, of the recipe's split where it has one.
    fitted
        The file of a teacher that was fitted, or None.
    results
        The ``summary.json`` that gains are read from, or None.
    """

    recipe: SimilarityRecipe
    root: Path
    tracks: Mapping[str, tuple[Track, ...]]
    fitted: Path | None
    results: Path | None

    @property
    def output(self) -> Path:
        """The folder that the recipe asks to write."""
        return self.root / self.recipe.output

    @property
    def store(self) -> Path:
        """The prepared store."""
        return Path(os.path.normpath(self.root / (self.recipe.store or ".cmerge_store")))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for ``--dry-run``."""
        recipe = self.recipe
        return {
            "kind": recipe.kind,
            "corpora": [
                {
                    "name": entry.name,
                    "corpus": entry.corpus,
                    "tracks": len(self.tracks[entry.name]),
                    "drawn": min(recipe.tracks or len(self.tracks[entry.name]), len(found)),
                }
                for entry in recipe.corpora
                for found in (self.tracks[entry.name],)
            ],
            "teacher": recipe.teacher.model_dump(mode="json"),
            "codebooks": recipe.codebooks or "all",
            "joint": recipe.joint,
            "resamples": recipe.resamples,
            "store": str(self.store),
            "output": recipe.output,
        }


def plan(recipe: SimilarityRecipe, root: Path) -> SimilarityPlan:
    """Read the lists of recordings and find the teacher's file.

    Raises
    ------
    InputError
        A corpus can't be read or has fewer than two tracks of the split, a fitted teacher or the
        results for gains are missing.
    """
    root = Path(root)
    tracks = {}
    for entry in recipe.corpora:
        every = load_tracks(root / entry.corpus)
        found = tuple(each for each in every if recipe.split in (None, each.split))
        if len(found) < 2:
            of = f" of the split {recipe.split}" if recipe.split else ""
            raise InputError(
                f"{root / entry.corpus}: {len(found)} of {len(every)} tracks are{of} usable, and a "
                "comparison needs two or more",
                "take another split, or leave `split` out",
            )
        tracks[entry.name] = found
    results = None if recipe.gains is None else root / recipe.gains.results / SUMMARY_NAME
    if results is not None and not results.is_file():
        raise InputError(
            f"{results}: there is no such file",
            "gains.results names the output folder of `cmerge evaluate` or `cmerge sweep-lambda`",
        )
    return SimilarityPlan(recipe, root, tracks, _fitted(recipe, root), results)


def _fitted(recipe: SimilarityRecipe, root: Path) -> Path | None:
    teacher = recipe.teacher
    if not teacher.needs_fit:
        return None
    if recipe.fitted is None:
        raise InputError(
            f"teacher {teacher.name} has to be fitted, and `fitted` names no model folder",
            f"give the output of a training with this teacher (it has {FITTED_FOLDER}/"
            f"{teacher.name}.safetensors)",
        )
    path = root / recipe.fitted / FITTED_FOLDER / f"{teacher.name}.safetensors"
    if not path.is_file():
        raise InputError(
            f"{path}: there is no such file",
            f"`fitted` names the output of a training with the teacher {teacher.name}",
        )
    return path
