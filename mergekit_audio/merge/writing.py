"""Run a merge: stream the tensors into a new folder and leave a card and a lock with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from mergekit_audio.errors import InputError
from mergekit_audio.files import require_free, sha256_of_file, staged_folder, write_json
from mergekit_audio.lock import Lock, LockedInput, make_lock, write_lock
from mergekit_audio.merge.arithmetic import merged_tensors
from mergekit_audio.merge.planner import MergePlan
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.recipe.merge import Scale
from mergekit_audio.report.card import CARD_NAME, CardFacts, CardInput, read_license, write_card
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.writer import TensorSpec, copy_side_files, write_tensors


def run(
    plan: MergePlan,
    *,
    force: bool = False,
    progress: Progress = silent,
    output: Path | None = None,
    command: str = "",
    overrides: Sequence[str] = (),
) -> Lock:
    """Write the merged model folder: weights, configs, ``README.md`` and ``cmerge.lock.json``.

    The folder appears under its name when all of it is there; an error or Ctrl-C leaves nothing.

    Parameters
    ----------
    plan
        What ``plan`` returned.
    force
        Replace an output that exists.
    output
        Another folder than the recipe's.
    command, overrides
        The command line and its ``--set`` values, kept in the lock.

    Raises
    ------
    InputError
        The output exists (without ``force``), holds an input, or can't be written; an input has a
        value that is not finite.
    """
    target = plan.output if output is None else Path(output)
    require_free(target, force=force)
    _refuse_inputs_inside(plan, target)
    executor = ThreadPoolExecutor(1)
    try:
        hashing = _start_hashing(plan, executor)
        with staged_folder(target, force=force) as staging:
            _write_weights(plan, staging, progress)
            copy_side_files(plan.base, staging)
            _set_config_dtype(plan, staging)
            write_card(staging, _card_facts(plan))
            progress(ProgressEvent("hash inputs and outputs", 0, 1))
            lock = make_lock(
                staging,
                target=target,
                recipe=plan.recipe.model_dump(mode="json"),
                root=plan.root,
                inputs=_locked_inputs(plan, hashing),
                overrides=overrides,
                command=command,
            )
            write_lock(staging, lock)
            progress(ProgressEvent("hash inputs and outputs", 1, 1))
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
    return lock


def _refuse_inputs_inside(plan: MergePlan, target: Path) -> None:
    place = target.resolve()
    if place == plan.root.resolve() or place in plan.root.resolve().parents:
        raise InputError(
            f"{target}: the output would replace the recipe's own folder",
            "choose another output (--set output=…)",
        )
    for checkpoint in (plan.base, *plan.models):
        folder = checkpoint.folder.resolve()
        if folder == place or place in folder.parents:
            raise InputError(
                f"{target}: the output would replace the input {checkpoint.source}",
                "choose another output (--set output=…)",
            )


def _write_weights(plan: MergePlan, staging: Path, progress: Progress) -> None:
    write_tensors(
        staging,
        [TensorSpec(row.stored_name, row.shape, row.dtype) for row in plan.rows],
        merged_tensors(plan, progress),
        max_shard_bytes=int(plan.recipe.max_shard_size_mb * 1_000_000),
    )


def _set_config_dtype(plan: MergePlan, staging: Path) -> None:
    """Let ``config.json`` name the output's dtype where it named the base's."""
    path = staging / "config.json"
    if plan.recipe.dtype is None or not path.is_file():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    stale = [
        key
        for key in ("torch_dtype", "dtype")
        if config.get(key) is not None and config[key] != plan.recipe.dtype
    ]
    if stale:
        write_json(path, {**config, **dict.fromkeys(stale, plan.recipe.dtype)})


def _start_hashing(plan: MergePlan, executor: ThreadPoolExecutor) -> list[dict[str, Future[str]]]:
    """Hash the files of base and models, in this order, while the merge reads the same files."""
    return [
        {name: executor.submit(sha256_of_file, path) for name, path in _files(checkpoint)}
        for checkpoint in (plan.base, *plan.models)
    ]


def _files(checkpoint: Checkpoint) -> list[tuple[str, Path]]:
    """Return the files that were read, the input's card with its licence among them."""
    files = {path.relative_to(checkpoint.folder).as_posix(): path for path in checkpoint.files()}
    card = checkpoint.folder / CARD_NAME
    if card.is_file():
        files[CARD_NAME] = card
    return sorted(files.items())


def _locked_inputs(
    plan: MergePlan, hashing: Sequence[Mapping[str, Future[str]]]
) -> list[LockedInput]:
    sources = [("base", plan.recipe.base, plan.base)]
    for i, (entry, model) in enumerate(zip(plan.recipe.models, plan.models, strict=True)):
        sources.append((f"models[{i}]", entry.model, model))
    return [
        LockedInput(
            name=name,
            source=source,
            content_digest=checkpoint.digest(),
            files={file: digest.result() for file, digest in files.items()},
        )
        for (name, source, checkpoint), files in zip(sources, hashing, strict=True)
    ]


def _card_facts(plan: MergePlan) -> CardFacts:
    recipe = plan.recipe
    count = f"{len(plan.models)} model" + ("s" if len(plan.models) > 1 else "")
    return CardFacts(
        title=Path(recipe.output).name,
        relation="merge",
        summary=(
            f"{count} merged into `{recipe.base}` by {recipe.method.name} at {_scale_text(plan)}. "
            f"{_actions_text(plan)}"
        ),
        inputs=(
            _card_input(plan, "base", recipe.base, plan.base, None),
            *(
                _card_input(plan, "model", entry.model, model, entry.weight)
                for entry, model in zip(recipe.models, plan.models, strict=True)
            ),
        ),
        method=(
            f"θ = θ_base + λ · Δ with Δ by `{recipe.method.name}`: {_first_line(recipe.method)} "
            f"Source: {type(recipe.method).reference}. Computed in float64 and rounded once."
        ),
        recipe=recipe.model_dump(mode="json"),
        tags=("merge", recipe.method.name.replace("_", "-")),
        sections=tuple(_sections(plan)),
    )


def _card_input(
    plan: MergePlan, role: str, source: str, checkpoint: Checkpoint, weight: float | None
) -> CardInput:
    return CardInput(
        role=role,
        source=source,
        content_digest=checkpoint.digest(),
        license=read_license(checkpoint.folder, source),
        on_hub=not (plan.root / Path(source).expanduser()).exists(),
        weight=weight,
    )


def _scale_text(plan: MergePlan) -> str:
    scale = plan.recipe.scale
    if not isinstance(scale, Scale):
        return f"λ = {scale:g}"
    parts = [f"{each.scale:g} for `{each.match}`" for each in scale.overrides]
    return ", ".join([f"λ = {scale.default:g}", *parts])


def _actions_text(plan: MergePlan) -> str:
    merged = sum(row.action == "merge" for row in plan.rows)
    parts = [
        f"{len(names)} copied from the base ({reason})" for reason, names in _copied(plan).items()
    ]
    return f"Tensors: {', '.join([f'{merged} merged', *parts])}."


def _sections(plan: MergePlan) -> Iterator[tuple[str, str]]:
    if copied := _copied(plan):
        lines = [f"- {reason}: {_listed(names)}" for reason, names in copied.items()]
        yield "Copied from the base", "\n".join(lines)
    if plan.notes:
        yield "Notes", "\n".join(f"- {note}" for note in plan.notes)


def _copied(plan: MergePlan) -> dict[str, list[str]]:
    """Return the names of the copied tensors by the reason why, sorted."""
    names: dict[str, list[str]] = {}
    for row in plan.rows:
        if row.action == "copy":
            names.setdefault(row.reason, []).append(row.stored_name)
    return dict(sorted(names.items()))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _first_line(method: object) -> str:
    return (type(method).__doc__ or "").strip().splitlines()[0]
