"""Run a comparison of corpora and write tables, figure and lock: ``cmerge similarity``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mergekit_audio.audio.prepared import PreparedCorpus
from mergekit_audio.audio.store import Store
from mergekit_audio.cores import core_count
from mergekit_audio.errors import InputError
from mergekit_audio.files import (
    require_free,
    require_outside,
    sha256_of_file,
    staged_folder,
    write_json,
    write_text,
)
from mergekit_audio.lock import Lock, LockedInput, make_lock, write_lock
from mergekit_audio.locked import locked_corpus
from mergekit_audio.pretrain.objective import device_name
from mergekit_audio.pretrain.targets import TargetCache
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.recipe.similarity import SimilarityRecipe
from mergekit_audio.report.similarity import matrix_csv, similarity_markdown
from mergekit_audio.report.similarity_figure import write_similarity_figure
from mergekit_audio.similarity.compare import compare, gain_correlation, suggested_scales
from mergekit_audio.similarity.counts import Tokens, count_tokens, read_tokens
from mergekit_audio.similarity.planner import SUMMARY_NAME, SimilarityPlan
from mergekit_audio.teachers._frames import SAMPLE_RATE_HZ


def run(
    plan: SimilarityPlan,
    *,
    force: bool = False,
    progress: Progress = silent,
    output: Path | None = None,
    command: str = "",
    overrides: Sequence[str] = (),
) -> Lock:
    """Make what tokens are missing, compare the corpora, and write the results.

    ``summary.json``, ``similarity.md``, a CSV a measure, ``similarity.png``, ``.svg`` and
    ``cmerge.lock.json``. Tokens are kept in the store as they are made, so that the same call goes
    on where a killed one stopped.

    Parameters
    ----------
    plan
        What ``plan`` returned.
    force
        Replace an output that exists.
    progress
        Told of every recording and segment.
    output
        Another folder than the recipe's.
    command, overrides
        The command line and its ``--set`` values, kept in the lock.

    Raises
    ------
    InputError
        The output exists (without ``force``), recordings or codebooks are missing, or the results
        that gains are read from have other names.
    """
    recipe = plan.recipe
    target = Path(plan.output if output is None else output)
    require_free(target, force=force)
    places = {entry.name: plan.root / entry.corpus for entry in recipe.corpora}
    places |= {"the recipe's own folder": plan.root, "the prepared store": plan.store}
    require_outside(target, places)
    gains = None if plan.results is None else _gains(recipe, plan.results)
    tokens = _tokens(plan, progress)
    progress(ProgressEvent("compare", 0, 1))
    counts = count_tokens(tokens, recipe.codebooks, joint=recipe.joint)
    found = compare(counts, resamples=recipe.resamples, seed=recipe.seed)
    progress(ProgressEvent("compare", 1, 1))
    cultures = [entry.name for entry in recipe.corpora if not entry.western]
    summary: dict[str, Any] = {
        "kind": recipe.kind,
        "corpora": [_facts(entry.name, entry.western, tokens) for entry in recipe.corpora],
        "teacher": recipe.teacher.model_dump(mode="json"),
        "codebooks": counts[found.names[0]].shape[1],
        "joint": recipe.joint,
        "resamples": recipe.resamples,
        "measures": found.as_dict(),
        "suggested_scales": {
            "temperature": recipe.temperature,
            "scale": recipe.scale,
            "targets": suggested_scales(
                found, cultures, temperature=recipe.temperature, scale=recipe.scale
            ),
        },
        "gains": None if gains is None else gain_correlation(found, gains),
    }
    with staged_folder(target, force=force) as staging:
        write_json(staging / SUMMARY_NAME, summary)
        write_text(staging / "similarity.md", similarity_markdown(summary))
        for measure in summary["measures"]:
            write_text(staging / f"{measure}.csv", matrix_csv(summary, measure))
        write_similarity_figure(summary, staging)
        lock = make_lock(
            staging,
            target=target,
            recipe=recipe.model_dump(mode="json"),
            root=plan.root,
            inputs=_locked(plan, {name: each.corpus for name, each in tokens.items()}),
            overrides=overrides,
            command=command,
        )
        write_lock(staging, lock)
    return lock


def _tokens(plan: SimilarityPlan, progress: Progress) -> dict[str, Tokens]:
    recipe = plan.recipe
    workers = recipe.num_threads or core_count()
    store = Store(plan.store)
    with torch.random.fork_rng(devices=[]):
        teacher = recipe.teacher.open(plan.fitted, root=plan.root, device=device_name())
    cache = TargetCache(plan.store, recipe.teacher.name, teacher, device_name())
    found = {}
    for place, entry in enumerate(recipe.corpora):
        corpus = store.prepare(
            plan.root / entry.corpus,
            sample_rate_hz=SAMPLE_RATE_HZ,
            workers=workers,
            progress=progress,
        )
        ids = sorted(track.id for track in plan.tracks[entry.name])
        if recipe.tracks is not None and recipe.tracks < len(ids):
            generator = np.random.default_rng([recipe.seed, 0, place])
            ids = sorted(generator.choice(ids, recipe.tracks, replace=False).tolist())
        found[entry.name] = read_tokens(corpus, ids, cache, progress, workers=workers)
    return found


def _facts(name: str, western: bool, tokens: Mapping[str, Tokens]) -> dict[str, Any]:
    own = tokens[name]
    frames = sum(len(each) for each in own.codes)
    return {
        "name": name,
        "western": western,
        "tracks": len(own.track_ids),
        "frames": frames,
        "left_out": own.corpus.report.counts(),
    }


def _gains(recipe: SimilarityRecipe, path: Path) -> dict[str, dict[str, float]]:
    """Return the test scores of the cultures' models minus the base's, by model and task."""
    assert recipe.gains is not None
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        rows = {row["name"]: row["scores"] for row in summary["rows"]}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not a summary of an evaluation or a sweep ({error!r})",
            "gains.results names the output folder of `cmerge evaluate` or `cmerge sweep-lambda`",
        ) from error
    names = [entry.name for entry in recipe.corpora]
    models = [entry.name for entry in recipe.corpora if entry.name in rows]
    if recipe.gains.base not in rows or not models:
        raise InputError(
            f"{path}: its rows are {', '.join(rows)}; expected {recipe.gains.base} and one or more "
            f"of {', '.join(names)}",
            "name the corpora like the models of their cultures, and set gains.base",
        )
    base, metric = rows[recipe.gains.base], recipe.gains.metric
    return {
        model: {
            task: rows[model][task]["test"][metric]["mean"] - base[task]["test"][metric]["mean"]
            for task in names
            if task in base and metric in base[task]["test"]
        }
        for model in models
    }


def _locked(plan: SimilarityPlan, corpora: Mapping[str, PreparedCorpus]) -> list[LockedInput]:
    entries = [
        entry
        for name, corpus in corpora.items()
        for entry in locked_corpus(f"corpora.{name}", corpus, plan.root)
    ]
    for label, path in (("fitted", plan.fitted), ("gains", plan.results)):
        if path is not None:
            digest = sha256_of_file(path)
            source = os.path.relpath(path, plan.root)
            entries.append(
                LockedInput(
                    name=label, source=source, content_digest=digest, files={path.name: digest}
                )
            )
    return entries
