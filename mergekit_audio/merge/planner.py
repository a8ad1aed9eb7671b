"""Plan a merge: open base and models, compare their layouts, and decide for every tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from mergekit_audio.cores import core_count
from mergekit_audio.errors import InputError
from mergekit_audio.files import canonical_json
from mergekit_audio.merge.inputs import MergeModel, open_model
from mergekit_audio.merge.layout import compare_layouts
from mergekit_audio.merge.measured import check_statistics
from mergekit_audio.merge.preflight import check_descent
from mergekit_audio.merge.rows import PlanRow, idle_settings, make_rows
from mergekit_audio.merge.settings import check_methods, check_recipe
from mergekit_audio.recipe.merge import Group, MergeRecipe, ModelEntry, Scale, StackSlice
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.depth import main_stack
from mergekit_audio.weights.digest_cache import DigestCache
from mergekit_audio.weights.dtypes import is_floating

T = TypeVar("T")


def plan(recipe: MergeRecipe, root: Path) -> MergePlan:
    """Open the K+1 checkpoints and decide what happens to each tensor; nothing is written.

    Where all formulas are symmetric the models are ordered by (content digest, weight, settings,
    source), whatever their order in the recipe, so that sums have one order and the output one set
    of bytes; otherwise they keep the recipe's order.

    Parameters
    ----------
    recipe
        The validated recipe.
    root
        The folder that the recipe's relative paths are relative to.

    Raises
    ------
    InputError
        A checkpoint can't be read, or was not trained from the base; all such are listed.
    LayoutError
        Models do not hold the tensors of the base; every difference of every model is listed.
    RecipeError
        A glob matches no tensor, or a method can't use what the recipe gives it.
    """
    check_recipe(recipe)

    def opened(source: str) -> Checkpoint:
        return Checkpoint.open(source, root=root, allow_nonfinite=recipe.allow_nonfinite)

    base_source = recipe.models[0].model if recipe.base is None else recipe.base
    base = _each([base_source], opened, InputError)[0]
    models = _each(recipe.models, lambda entry: open_model(entry, base, root, opened), InputError)
    _digest_all([base, *(model.checkpoint for model in models)])
    check_statistics(recipe, models)
    descent = _descent_notes(recipe, base, models)
    layout = compare_layouts(recipe, base, [model.checkpoint for model in models])
    rows = make_rows(recipe, base, [model.checkpoint for model in models], layout)
    check_methods(recipe, rows)
    order = _order(recipe, models)
    if order != sorted(order):
        recipe = _reordered(recipe, order)
        models = [models[i] for i in order]
        layout.sources = [layout.sources[i] for i in order]
        rows = make_rows(recipe, base, [model.checkpoint for model in models], layout)
    return MergePlan(
        recipe=recipe,
        root=Path(root),
        base=base,
        base_source=base_source,
        models=tuple(models),
        rows=rows,
        notes=(
            *descent,
            *layout.notes,
            *idle_settings(recipe, rows),
            *_notes(base, models, rows),
        ),
    )


@dataclass(frozen=True)
class MergePlan:
    """A merge that can run: open checkpoints in their final order and one row for each tensor.

    Parameters
    ----------
    recipe
        The recipe with its models in their final order.
    root
        The folder that its paths are relative to.
    base, base_source
        The base's checkpoint and where it came from: the first model's where the recipe has none.
    models
        The models in their final order.
    rows
        The tensors of the output, sorted by their names in the file.
    notes
        What the user should know before the work starts.
    """

    recipe: MergeRecipe
    root: Path
    base: Checkpoint
    base_source: str
    models: tuple[MergeModel, ...]
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

    @property
    def layer_counts(self) -> tuple[int, int] | None:
        """The layers of the base's main stack and of the output's; None where they are the same."""
        before = main_stack(self.base.index)
        if not self.recipe.stack or before is None:
            return None
        return before.count, sum(part.base.last - part.base.first + 1 for part in self.recipe.stack)

    def at_scale(self, scale: float, output: str) -> MergePlan:
        """Return the plan of the same merge at another λ, into another folder."""
        given = self.recipe.scale
        changed = given.model_copy(update={"default": scale}) if isinstance(given, Scale) else scale
        recipe = self.recipe.model_copy(update={"scale": changed, "output": output})
        return replace(self, recipe=recipe, rows=tuple(row.at_scale(scale) for row in self.rows))

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values, for ``--dry-run --json``."""
        recipe = self.recipe.model_dump(mode="json")
        entries = zip(self.models, self.recipe.models, strict=True)
        return {
            "kind": "merge",
            "base": {"source": self.base_source, "digest": self.base.digest()},
            "models": [
                {
                    "name": model.label,
                    "source": entry.model,
                    "weight": entry.weight,
                    "digest": model.digest,
                }
                for model, entry in entries
            ],
            "method": recipe["method"],
            "scale": recipe["scale"],
            "groups": recipe["groups"],
            "output": self.recipe.output,
            "output_exists": self.output.is_dir() and any(self.output.iterdir()),
            "output_bytes": sum(row.nbytes for row in self.rows),
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
                    "method": row.method.name if row.action == "merge" else None,
                    "scale": row.scale,
                    "group": row.group,
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


def _digest_all(checkpoints: Sequence[Checkpoint]) -> None:
    """Know what names the content of all tensors: as remembered, or read once, on all cores."""
    cache = DigestCache.of_user()
    for checkpoint in checkpoints:
        checkpoint.remember_digests(cache)
    jobs = [(checkpoint, name) for checkpoint in checkpoints for name in checkpoint.index]
    with ThreadPoolExecutor(core_count()) as executor:
        futures = [executor.submit(checkpoint.tensor_digest, name) for checkpoint, name in jobs]
        _each(futures, Future.result, InputError)
    for checkpoint in checkpoints:
        checkpoint.save_digests(cache)
    cache.save()


def _descent_notes(
    recipe: MergeRecipe, base: Checkpoint, models: Sequence[MergeModel]
) -> list[str]:
    """Say which models do not look as if they were trained from the base; refuse if asked to."""
    if recipe.base is None:
        return []
    try:
        check_descent(base, [model.checkpoint for model in models])
    except InputError as error:
        if recipe.unrelated == "error":
            raise
        return error.message.splitlines()
    return []


def _order(recipe: MergeRecipe, models: Sequence[MergeModel]) -> list[int]:
    methods = [recipe.method, *(group.method for group in recipe.groups if group.method)]
    places = list(range(len(models)))
    if not all(method.symmetric for method in methods):
        return places
    return sorted(
        places, key=lambda i: (models[i].digest, recipe.models[i].weight, _settings_key(recipe, i))
    )


def _settings_key(recipe: MergeRecipe, place: int) -> str:
    """Return all that the recipe says of one model, so that equal contents have an order too."""
    entry = recipe.models[place]
    return canonical_json(
        [
            entry.parameters,
            [group.weights and group.weights[place] for group in recipe.groups],
            [group.parameters and group.parameters[place] for group in recipe.groups],
            [
                part.models[place] and part.models[place].model_dump()  # type: ignore[union-attr]
                for part in recipe.stack
            ],
            [entry.model, entry.adapter, entry.statistics, entry.name],
        ]
    )


def _reordered(recipe: MergeRecipe, order: Sequence[int]) -> MergeRecipe:
    def permuted(values: list[Any] | None) -> list[Any] | None:
        return None if values is None else [values[i] for i in order]

    groups: list[Group] = [
        group.model_copy(
            update={
                "weights": permuted(group.weights),
                "parameters": permuted(group.parameters),
            }
        )
        for group in recipe.groups
    ]
    stack: list[StackSlice] = [
        part.model_copy(update={"models": permuted(part.models)}) for part in recipe.stack
    ]
    entries: list[ModelEntry] | None = permuted(recipe.models)
    return recipe.model_copy(update={"models": entries, "groups": groups, "stack": stack})


def _notes(
    base: Checkpoint, models: Sequence[MergeModel], rows: Sequence[PlanRow]
) -> Iterator[str]:
    seen: dict[str, str] = {}
    for place, model in enumerate(models):
        if model.digest == base.digest() and model.source != base.source:
            yield f"{model.source} holds the same tensors as the base: its task vector is zero"
        elif model.digest in seen:
            yield f"{model.source} holds the same tensors as {seen[model.digest]}"
        seen[model.digest] = model.source
        yield from _changed_buffers(base, model, place, rows)


def _changed_buffers(
    base: Checkpoint, model: MergeModel, place: int, rows: Sequence[PlanRow]
) -> Iterator[str]:
    checkpoint = model.checkpoint
    for row in rows:
        if is_floating(base.index[row.base_name].dtype):
            continue
        name = next((source.name for source in row.sources if source.model == place), None)
        if name is None or name not in checkpoint.index:
            continue
        mine, theirs = base.bits(row.base_name), checkpoint.bits(name)
        if mine.dtype != theirs.dtype or mine.shape != theirs.shape or (mine != theirs).any():
            yield f"{model.source}: {row.stored_name} ({row.dtype}) is another; the base's is kept"
