"""Plan a merge: open base and models, compare their layouts, and decide for every tensor."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from mergekit_audio.errors import Fault, InputError, LayoutError, RecipeError
from mergekit_audio.recipe.merge import MergeRecipe, ModelEntry, Scale
from mergekit_audio.registry import did_you_mean
from mergekit_audio.weights.checkpoint import Checkpoint, TensorInfo
from mergekit_audio.weights.globs import matches, validate_glob

T = TypeVar("T")


def plan(recipe: MergeRecipe, root: Path) -> MergePlan:
    """Open the K+1 checkpoints and decide what happens to each tensor; nothing is written.

    The models are ordered by (content digest, weight, source), whatever their order in the recipe,
    so that sums have one order and the output one set of bytes.

    Parameters
    ----------
    recipe
        The validated recipe.
    root
        The folder that the recipe's relative paths are relative to.

    Raises
    ------
    InputError
        A checkpoint can't be read; all that can't are listed.
    LayoutError
        Models do not hold the tensors of the base; every difference of every model is listed.
    RecipeError
        A glob matches no tensor, or the method can't use the weights.
    """
    recipe.method.check_weights([entry.weight for entry in recipe.models])
    base, *models = _each(
        [recipe.base, *(entry.model for entry in recipe.models)],
        lambda source: Checkpoint.open(source, root=root, allow_nonfinite=recipe.allow_nonfinite),
        InputError,
    )
    _each(models, base.require_same_layout, LayoutError)
    rows = _rows(recipe, base)
    digests = _digests([base, *models])
    order = sorted(
        range(len(models)),
        key=lambda i: (digests[i + 1], recipe.models[i].weight, recipe.models[i].model),
    )
    models = [models[i] for i in order]
    entries = [recipe.models[i] for i in order]
    return MergePlan(
        recipe=recipe.model_copy(update={"models": entries}),
        root=Path(root),
        base=base,
        models=tuple(models),
        rows=rows,
        notes=(*_idle_overrides(recipe, rows), *_notes(base, models, entries, rows)),
    )


@dataclass(frozen=True)
class PlanRow:
    """What happens to one tensor.

    Parameters
    ----------
    name, stored_name
        The tensor's canonical name and the base's own spelling, in which it is written.
    shape, dtype
        Shape, and dtype in the output.
    action
        ``merge``: base + scale · Δ; ``copy``: the base's values.
    reason
        Why it is copied; empty for ``merge``.
    scale
        λ of this tensor, 0 where it is copied.
    override
        The glob of ``scale.overrides`` that set λ; None: it is the default.
    fixed
        It is copied at every λ (not floating point, or excluded).
    """

    name: str
    stored_name: str
    shape: tuple[int, ...]
    dtype: str
    action: Literal["merge", "copy"]
    reason: str
    scale: float
    override: str | None
    fixed: bool


@dataclass(frozen=True)
class MergePlan:
    """A merge that can run: open checkpoints in their final order and one row for each tensor."""

    recipe: MergeRecipe
    root: Path
    base: Checkpoint
    models: tuple[Checkpoint, ...]
    rows: tuple[PlanRow, ...]
    notes: tuple[str, ...]

    @property
    def weights(self) -> tuple[float, ...]:
        """The models' weights, in the models' order."""
        return tuple(entry.weight for entry in self.recipe.models)

    @property
    def output(self) -> Path:
        """The folder that the recipe asks to write."""
        return self.root / self.recipe.output

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values, for ``--dry-run --json``."""
        recipe = self.recipe.model_dump(mode="json")
        entries = zip(self.models, self.recipe.models, strict=True)
        return {
            "kind": "merge",
            "base": {"source": self.recipe.base, "digest": self.base.digest()},
            "models": [
                {"source": entry.model, "weight": entry.weight, "digest": model.digest()}
                for model, entry in entries
            ],
            "method": recipe["method"],
            "scale": recipe["scale"],
            "output": self.recipe.output,
            "output_exists": self.output.is_dir() and any(self.output.iterdir()),
            "merged_tensors": sum(row.action == "merge" for row in self.rows),
            "copied_tensors": sum(row.action == "copy" for row in self.rows),
            "notes": list(self.notes),
            "tensors": [
                {
                    "name": row.stored_name,
                    "shape": list(row.shape),
                    "dtype": row.dtype,
                    "action": row.action,
                    "reason": row.reason,
                    "scale": row.scale,
                }
                for row in self.rows
            ],
        }


def _each(items: Sequence[Any], work: Callable[[Any], T], kind: type[InputError]) -> list[T]:
    """Do the work for every item, then raise one error with the messages of all that failed."""
    results: list[T] = []
    errors: list[InputError] = []
    for item in items:
        try:
            results.append(work(item))
        except kind as error:
            errors.append(error)
    if errors:
        messages = dict.fromkeys(error.message for error in errors)
        raise type(errors[0])("\n".join(messages), errors[0].hint) from errors[0]
    return results


def _rows(recipe: MergeRecipe, base: Checkpoint) -> tuple[PlanRow, ...]:
    _check_globs(recipe, base)
    scale = recipe.scale if isinstance(recipe.scale, Scale) else Scale(default=recipe.scale)
    rows = (_row(recipe, scale, name, info) for name, info in base.index.items())
    return tuple(sorted(rows, key=lambda row: row.stored_name))


def _row(recipe: MergeRecipe, scale: Scale, name: str, info: TensorInfo) -> PlanRow:
    override = next((each for each in scale.overrides if _matches(each.match, name, info)), None)
    factor = override.scale if override else scale.default
    excluded = next((glob for glob in recipe.exclude if _matches(glob, name, info)), None)
    floating = info.dtype.startswith(("float", "bfloat"))
    if not floating:
        reason = f"{info.dtype}, not floating point"
    elif excluded is not None:
        reason = f"excluded by {excluded!r}"
    else:
        reason = "" if factor else "scale 0"
    return PlanRow(
        name=name,
        stored_name=info.stored_name,
        shape=info.shape,
        dtype=(recipe.dtype or info.dtype) if floating else info.dtype,
        action="copy" if reason else "merge",
        reason=reason,
        scale=0.0 if reason else factor,
        override=override.match if override else None,
        fixed=not floating or excluded is not None,
    )


def _matches(glob: str, name: str, info: TensorInfo) -> bool:
    return matches(glob, name) or matches(glob, info.stored_name)


def _check_globs(recipe: MergeRecipe, base: Checkpoint) -> None:
    overrides = recipe.scale.overrides if isinstance(recipe.scale, Scale) else []
    globs = [(f"scale.overrides[{i}].match", each.match) for i, each in enumerate(overrides)]
    globs += [(f"exclude[{i}]", glob) for i, glob in enumerate(recipe.exclude)]
    faults: list[Fault] = []
    for key, glob in globs:
        try:
            validate_glob(glob)
        except InputError as error:
            faults.append(Fault("", 0, 0, key, error.message))
            continue
        if not any(_matches(glob, name, info) for name, info in base.index.items()):
            near = did_you_mean(glob, _groups(base.index))
            problem = f"{glob!r} matches no tensor of {recipe.base}"
            faults.append(Fault("", 0, 0, key, f"{problem}; {near}" if near else problem))
    if faults:
        raise RecipeError(faults, f"cmerge inspect {recipe.base} lists the tensors")


def _groups(names: Iterable[str]) -> list[str]:
    """Return the names and, for each module above them, the glob of all that is below it."""
    groups: dict[str, None] = {}
    for name in names:
        groups[name] = None
        parts = name.split(".")
        for depth in range(1, len(parts)):
            groups[".".join(parts[:depth]) + ".*"] = None
    return list(groups)


def _digests(checkpoints: Sequence[Checkpoint]) -> list[str]:
    workers = min(len(checkpoints), os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as executor:
        jobs = [executor.submit(checkpoint.digest) for checkpoint in checkpoints]
    return _each(jobs, Future.result, InputError)


def _idle_overrides(recipe: MergeRecipe, rows: Sequence[PlanRow]) -> Iterator[str]:
    """Say which overrides set the λ of no tensor, though their globs match some."""
    overrides = recipe.scale.overrides if isinstance(recipe.scale, Scale) else []
    used = {row.override for row in rows if not row.fixed}
    seen: set[str] = set()
    for i, each in enumerate(overrides):
        if each.match not in used or each.match in seen:
            reason = "earlier overrides, `exclude` and integer tensors leave it none"
            yield f"scale.overrides[{i}] ({each.match!r}) sets λ of no tensor: {reason}"
        seen.add(each.match)


def _notes(
    base: Checkpoint,
    models: Sequence[Checkpoint],
    entries: Sequence[ModelEntry],
    rows: Sequence[PlanRow],
) -> Iterator[str]:
    seen: dict[str, str] = {}
    for model, entry in zip(models, entries, strict=True):
        digest = model.digest()
        if digest == base.digest():
            yield f"{entry.model} holds the same tensors as the base: its task vector is zero"
        elif digest in seen:
            yield f"{entry.model} holds the same tensors as {seen[digest]}"
        seen[digest] = entry.model
        yield from _changed_buffers(base, model, entry.model, rows)


def _changed_buffers(
    base: Checkpoint, model: Checkpoint, source: str, rows: Sequence[PlanRow]
) -> Iterator[str]:
    for row in rows:
        if base.index[row.name].dtype.startswith(("float", "bfloat")):
            continue
        if not base.tensor(row.name).equal(model.tensor(row.name)):
            yield f"{source}: {row.stored_name} ({row.dtype}) is another; the base's is kept"
