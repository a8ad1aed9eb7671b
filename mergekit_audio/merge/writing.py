"""Run a merge: stream the tensors into new folders and leave a card and a lock with them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mergekit_audio.cores import core_count
from mergekit_audio.errors import InputError
from mergekit_audio.files import (
    require_free,
    require_space,
    staged_folder,
    write_json,
)
from mergekit_audio.lock import Lock, make_lock, write_lock
from mergekit_audio.merge.arithmetic import merged_parts
from mergekit_audio.merge.describe import card_facts
from mergekit_audio.merge.parallel import keep_freed_memory
from mergekit_audio.merge.planner import MergePlan
from mergekit_audio.merge.read_files import inputs_of, locked_inputs, start_hashing
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.report.card import write_card
from mergekit_audio.weights.digest_cache import DigestCache
from mergekit_audio.weights.fairseq import write_fairseq_configs
from mergekit_audio.weights.side_files import copy_side_files
from mergekit_audio.weights.writer import TensorSpec, TensorWriter, open_writer

_LAYER_COUNTS = (
    "num_hidden_layers",
    "num_layers",
    "n_layer",
    "n_layers",
    "encoder_layers",
    "decoder_layers",
)


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
        The output exists (without ``force``), holds an input, can't be written, is being written by
        another process or does not fit the disk; an input has a value that is not finite.
    """
    target = plan.output if output is None else Path(output)
    return _run([plan], [target], [None], force, progress, command, overrides)[0]


def run_scales(
    plan: MergePlan,
    scales: Sequence[float],
    *,
    force: bool = False,
    progress: Progress = silent,
    command: str = "",
    overrides: Sequence[str] = (),
) -> dict[Path, Lock]:
    """Write one model folder for each λ, ``<output>/scale_<λ>``, reading the inputs once.

    Each is what ``run`` of the recipe with this ``scale`` and ``output`` would write, to the byte
    of the weights; each has its own lock. Overrides and groups keep their λ.

    Parameters
    ----------
    plan
        What ``plan`` returned.
    scales
        λ, at least one, all different.

    Raises
    ------
    InputError
        As ``run``.
    ValueError
        A λ comes twice.
    """
    names = [f"{plan.recipe.output}/scale_{scale:g}" for scale in scales]
    if len(set(names)) < len(names):
        raise ValueError("a scale comes twice")
    plans = [plan.at_scale(scale, name) for scale, name in zip(scales, names, strict=True)]
    targets = [each.output for each in plans]
    locks = _run(plans, targets, list(scales), force, progress, command, overrides)
    return dict(zip(targets, locks, strict=True))


def _run(
    plans: Sequence[MergePlan],
    targets: Sequence[Path],
    scales: Sequence[float | None],
    force: bool,
    progress: Progress,
    command: str,
    overrides: Sequence[str],
) -> list[Lock]:
    plan = plans[0]
    keep_freed_memory()
    for target in targets:
        require_free(target, force=force)
        _refuse_inputs_inside(plan, target)
    require_space(targets[0], len(plans) * sum(row.nbytes for row in plan.rows))
    executor = ThreadPoolExecutor(core_count())
    try:
        inputs = list(inputs_of(plan))
        cache = DigestCache.of_user()
        hashing = start_hashing(inputs, executor, cache)
        with contextlib.ExitStack() as stack:
            stagings = [stack.enter_context(staged_folder(each, force=force)) for each in targets]
            written = _write_weights(plan, stagings, scales, progress, executor)
            progress(ProgressEvent("write configs, cards and locks", 0, len(plans)))
            locked = locked_inputs(inputs, hashing)
            cache.save()
            locks = []
            for each, staging, target, known in zip(plans, stagings, targets, written, strict=True):
                if plan.base.fairseq is None:
                    copy_side_files(plan.base.folder, staging)
                else:
                    write_fairseq_configs(plan.base.fairseq.config, staging)
                _adapt_config(each, staging)
                write_card(staging, card_facts(each))
                lock = make_lock(
                    staging,
                    target=target,
                    recipe=each.recipe.model_dump(mode="json"),
                    root=plan.root,
                    inputs=locked,
                    overrides=overrides,
                    command=command,
                    known=known,
                )
                write_lock(staging, lock)
                locks.append(lock)
                progress(ProgressEvent("write configs, cards and locks", len(locks), len(plans)))
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
    return locks


def _refuse_inputs_inside(plan: MergePlan, target: Path) -> None:
    place = target.resolve()
    if place == plan.root.resolve() or place in plan.root.resolve().parents:
        raise InputError(
            f"{target}: the output would replace the recipe's own folder",
            "choose another output (--set output=…)",
        )
    for each in inputs_of(plan):
        folders = {path.parent.resolve() for path in each.files.values()}
        if any(folder == place or place in folder.parents for folder in folders):
            raise InputError(
                f"{target}: the output would replace the input {each.source}",
                "choose another output (--set output=…)",
            )


def _write_weights(
    plan: MergePlan,
    stagings: Sequence[Path],
    scales: Sequence[float | None],
    progress: Progress,
    executor: ThreadPoolExecutor,
) -> list[Mapping[str, str]]:
    """Write the weights into each folder, and return the sha256 of each folder's files."""
    specs = [TensorSpec(row.stored_name, row.shape, row.dtype) for row in plan.rows]
    limit = int(plan.recipe.max_shard_size_mb * 1_000_000)
    with contextlib.ExitStack() as stack:
        writers: list[TensorWriter] = [
            stack.enter_context(open_writer(folder, specs, max_shard_bytes=limit))
            for folder in stagings
        ]
        for part in merged_parts(plan, scales, writers[0].order, progress):
            name, start = part.row.stored_name, part.start
            if len(writers) == 1:
                writers[0].write(name, part.bits[0], start)
                continue
            jobs = [
                executor.submit(writer.write, name, bits, start)
                for writer, bits in zip(writers, part.bits, strict=True)
            ]
            for job in jobs:
                job.result()
        list(executor.map(TensorWriter.finish, writers))
    return [writer.digests for writer in writers]


def _adapt_config(plan: MergePlan, staging: Path) -> None:
    """Let ``config.json`` name the output's dtype and number of layers where it named the base's.

    ``stack`` changes the number of layers: every count in the config that was the base's.
    """
    path = staging / "config.json"
    if not path.is_file():
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    changes: dict[str, object] = {}
    if plan.recipe.dtype is not None:
        changes |= dict.fromkeys(("torch_dtype", "dtype"), plan.recipe.dtype)
    if (counts := plan.layer_counts) is not None:
        keys = [key for key in _LAYER_COUNTS if config.get(key) == counts[0]]
        changes |= dict.fromkeys(keys, counts[1])
    changed = {
        key: value
        for key, value in changes.items()
        if config.get(key) is not None and config[key] != value
    }
    if changed:
        write_json(path, {**config, **changed})
