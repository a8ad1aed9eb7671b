"""Rows of λ that were found without labels: by the pre-training loss, or by how corpora sound."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mergekit_audio import merge
from mergekit_audio.audio.prepared import PreparedCorpus
from mergekit_audio.audio.store import Store
from mergekit_audio.errors import InputError
from mergekit_audio.files import sha256_of_file
from mergekit_audio.lock import LockedInput
from mergekit_audio.locked import locked_corpus
from mergekit_audio.merge import plan as plan_merge
from mergekit_audio.methods.task_arithmetic import TaskArithmetic
from mergekit_audio.pretrain.heads import FITTED_FOLDER, heads_file
from mergekit_audio.probe.encoders import FrozenEncoder
from mergekit_audio.probe.model_row import ModelRow, model_key, require_config
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.progress import Progress
from mergekit_audio.recipe.label_free import SimilarityScales
from mergekit_audio.recipe.merge import MergeRecipe, ModelEntry
from mergekit_audio.recipe.spaces import even_values
from mergekit_audio.sweep.merges import state_digest
from mergekit_audio.sweep.planner import SweepPlan
from mergekit_audio.sweep.unlabelled.search import LabelFreeResult, search_label_free
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.keys import canonical_name

LABEL_FREE, SIMILARITY = "label_free", "similarity"
CURVE_POINTS = 11
SUMMARY_NAME = "summary.json"


def search_without_labels(
    planned: SweepPlan,
    models: Mapping[str, Checkpoint],
    tasks: Sequence[PreparedTask],
    corpora: Mapping[str, PreparedCorpus],
    store: Store,
    progress: Progress,
) -> LabelFreeResult | None:
    """Minimise the pre-training loss over λ, as the recipe's ``label_free`` says; None without it.

    The loss along one shared λ is computed where the sweep has one.

    Parameters
    ----------
    planned, models, store
        The sweep, its checkpoints by name, and the prepared store.
    tasks
        Their corpora are heard where the recipe names none.
    corpora
        From ``unlabelled_corpora``.
    progress
        Told of every round.

    Raises
    ------
    InputError
        The models have no pre-training heads, or a corpus can't be used.
    """
    settings = planned.recipe.label_free
    if settings is None:
        return None
    assert planned.space is not None
    box = planned.space.box
    is_shared = planned.space.kind == "shared"
    return search_label_free(
        settings,
        base=models["base"],
        cultures={each.name: (models[each.name], each.weight) for each in planned.recipe.cultures},
        corpora=corpora or {task.task.name: task.corpus for task in tasks},
        store=store.root,
        scales=even_values(box.low[0], box.high[0], CURVE_POINTS) if is_shared else (),
        seed=planned.recipe.seed,
        progress=progress,
    )


def unlabelled_corpora(
    planned: SweepPlan, store: Store, progress: Progress
) -> dict[str, PreparedCorpus]:
    """Prepare the corpora that the recipe's ``label_free`` names; none where it names none.

    Raises
    ------
    InputError
        A corpus can't be read.
    """
    settings = planned.recipe.label_free
    named = {} if settings is None else settings.corpora or {}
    rate = planned.recipe.backbone.sample_rate_hz
    return {
        name: store.prepare(planned.root / source, sample_rate_hz=rate, progress=progress)
        for name, source in sorted(named.items())
    }


def locked_without_labels(
    planned: SweepPlan, corpora: Mapping[str, PreparedCorpus]
) -> list[LockedInput]:
    """Return the lock's entries of what λ without labels were made of.

    The corpora of ``label_free`` (those of the tasks stand in the lock already), and the summary of
    ``cmerge similarity``.
    """
    entries = [
        entry
        for name, corpus in corpora.items()
        for entry in locked_corpus(f"label_free.{name}", corpus, planned.root)
    ]
    settings = planned.recipe.similarity
    if settings is not None:
        digest = sha256_of_file(planned.root / settings.results / SUMMARY_NAME)
        entries.append(
            LockedInput(
                name="similarity",
                source=settings.results,
                content_digest=digest,
                files={SUMMARY_NAME: digest},
            )
        )
    return entries


def pretraining_files(planned: SweepPlan, checkpoint: Checkpoint) -> list[Path]:
    """Return what a search without labels reads of a model beside its weights: heads, teachers."""
    if planned.recipe.label_free is None:
        return []
    found = [heads_file(checkpoint), *(checkpoint.folder / FITTED_FOLDER).glob("*.safetensors")]
    known = {path.resolve() for path in checkpoint.files()}
    return sorted(path for path in found if path is not None and path.resolve() not in known)


def label_free_rows(
    found: LabelFreeResult, planned: SweepPlan, base: Checkpoint
) -> Iterator[ModelRow]:
    """Yield the row of each space's λ, scored on validation and test like a marked point."""
    for each in found.found:
        state = {canonical_name(name): value for name, value in each.state.items()}
        facts = {"scales": {name: _mean(own) for name, own in each.descent.scales.items()}}
        name = f"label-free ({each.space.replace('_', ' ')})"
        yield _row(planned, base, state, name, LABEL_FREE, facts)


def similarity_rows(planned: SweepPlan, base: Checkpoint) -> Iterator[ModelRow]:
    """Yield a row a target: ``θ = base + Σ λ_i w_i τ_i`` with the λ of ``cmerge similarity``.

    Raises
    ------
    InputError
        The results are missing, or name other cultures or targets.
    """
    settings = planned.recipe.similarity
    if settings is None:
        return
    for target, scales in _suggested(settings, planned).items():
        made = _sum_of(planned, scales)
        state = merge.apply_delta(made, merge.compute_delta(made), 1.0)
        facts = {"scales": scales}
        yield _row(planned, base, state, f"similarity ({target})", SIMILARITY, facts)


def label_free_notes(found: LabelFreeResult | None) -> list[str]:
    """Return what a reader must know of the search without labels."""
    if found is None:
        return []
    notes = []
    for each in found.found:
        first = each.descent.history[0][0]
        told = ", ".join(
            f"{culture} {_mean(own):.3f}" for culture, own in each.descent.scales.items()
        )
        of = " (means over layers)" if each.space == "per_layer" else ""
        notes.append(
            f"Label-free λ, {each.space.replace('_', ' ')}: {told}{of}; pre-training loss "
            f"{first:.3f} at its start, {each.descent.loss:.3f} at its best."
        )
    return notes


def _row(
    planned: SweepPlan,
    base: Checkpoint,
    state: Mapping[str, torch.Tensor],
    name: str,
    kind: str,
    facts: Mapping[str, Any],
) -> ModelRow:
    config = require_config(base)
    digest = state_digest(state)
    return ModelRow(
        name=name,
        kind=kind,
        digest=digest,
        key=model_key(digest, config),
        encoder=FrozenEncoder.of_state(state, config, planned.recipe.backbone),
        facts=facts,
    )


def _sum_of(planned: SweepPlan, scales: Mapping[str, float]) -> merge.MergePlan:
    recipe, sources = planned.recipe, dict(planned.sources())
    made = MergeRecipe(
        kind="merge",
        seed=recipe.seed,
        base=recipe.base,
        models=[
            ModelEntry(
                model=sources[each.name], name=each.name, weight=scales[each.name] * each.weight
            )
            for each in recipe.cultures
        ],
        method=TaskArithmetic(),
        scale=1.0,
        output=recipe.output,
    )
    return plan_merge(made, planned.root)


def _suggested(settings: SimilarityScales, planned: SweepPlan) -> dict[str, dict[str, float]]:
    path = planned.root / settings.results / SUMMARY_NAME
    names = [each.name for each in planned.recipe.cultures]
    try:
        targets = json.loads(path.read_text(encoding="utf-8"))["suggested_scales"]["targets"]
        wanted = settings.targets or list(targets)
        return {target: {name: float(targets[target][name]) for name in names} for target in wanted}
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}",
            "similarity.results names the output of `cmerge similarity`",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: no λ for the cultures {', '.join(names)} and the targets "
            f"{', '.join(settings.targets or ['it has'])} ({error!r})",
            "compare corpora that are named like the sweep's cultures",
        ) from error


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)
