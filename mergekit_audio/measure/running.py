"""Run a measurement and write statistics and lock: ``cmerge measure``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mergekit_audio.errors import InputError
from mergekit_audio.files import (
    canonical_json,
    require_free,
    staged_folder,
    write_json,
)
from mergekit_audio.lock import Lock, LockedInput, make_lock, write_lock
from mergekit_audio.locked import locked_checkpoint, locked_corpus
from mergekit_audio.measure.encoder import (
    build_encoder,
    device_name,
    require_mask_vector,
    threads,
)
from mergekit_audio.measure.fisher import diagonal_fisher
from mergekit_audio.measure.grams import gram_matrices
from mergekit_audio.measure.layerwise import KIND, merged_grams
from mergekit_audio.measure.planner import MeasurePlan, Subject
from mergekit_audio.measure.sound import Sound, prepare_sound
from mergekit_audio.methods.regmean_plus_plus import RegmeanPlusPlus
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.weights.statistics import FACTS_KEY, FACTS_NAME, STATISTICS_STEM
from mergekit_audio.weights.writer import TensorSpec, write_tensors

Values = dict[str, npt.NDArray[np.float32]]
_ONE_FILE_BYTES = 1 << 62


def run(
    plan: MeasurePlan,
    *,
    force: bool = False,
    progress: Progress = silent,
    output: Path | None = None,
    command: str = "",
    overrides: Sequence[str] = (),
) -> Lock:
    """Measure and write ``statistics.safetensors``, ``measure.json`` and ``cmerge.lock.json``.

    A model measured alone has its statistics in the folder itself; those of the models of a merge
    have a folder each in it, of the model's name. The folder appears when all of it is there.

    Parameters
    ----------
    plan
        What ``plan`` returned.
    force
        Replace an output that exists.
    progress
        Told of every recording, batch and clip.
    output
        Another folder than the recipe's.
    command, overrides
        The command line and its ``--set`` values, kept in the lock.

    Raises
    ------
    InputError
        The output exists (without ``force``) or holds an input, no recording can be used, or a
        statistic is not finite.
    """
    target = Path(plan.output if output is None else output)
    require_free(target, force=force)
    _refuse_inputs_inside(plan, target)
    sounds = [prepare_sound(plan, subject, progress) for subject in plan.subjects]
    with threads(plan.recipe.num_threads):
        if plan.recipe.is_joint:
            measured = _measure_jointly(plan, sounds, progress)
        else:
            measured = [_measure_alone(plan, sounds[0], progress)]
    with staged_folder(target, force=force) as staging:
        for subject, sound, values in zip(plan.subjects, sounds, measured, strict=True):
            folder = staging / subject.name if subject.name else staging
            folder.mkdir(exist_ok=True)
            progress(ProgressEvent("write", 0, 1, str(target / subject.name)))
            _write(folder, values, _facts(plan, subject, sound))
        lock = make_lock(
            staging,
            target=target,
            recipe=plan.recipe.model_dump(mode="json"),
            root=plan.root,
            inputs=_locked_inputs(plan, sounds),
            overrides=overrides,
            command=command,
        )
        write_lock(staging, lock)
        progress(ProgressEvent("write", 1, 1, str(target)))
    return lock


def _measure_alone(plan: MeasurePlan, sound: Sound, progress: Progress) -> Values:
    recipe, device = plan.recipe, device_name()
    checkpoint = plan.subjects[0].checkpoint
    model = build_encoder(recipe.backbone, checkpoint, device)
    values: Values = {}
    if "gram" in recipe.statistics:
        grams = gram_matrices(model, sound, recipe.batch_size, progress)
        values |= {f"gram/{name}": each for name, each in grams.items()}
    if "fisher" in recipe.statistics:
        if plan.heads is not None:
            require_mask_vector(model, checkpoint.source)
        found = diagonal_fisher(
            model,
            None if plan.heads is None else plan.heads.build(device),
            sound,
            recipe.fisher,
            frame_count=recipe.backbone.frame_count(sound.samples),
            seed=recipe.seed,
            progress=progress,
        )
        values |= {f"fisher/{name}": each for name, each in found.items()}
    return values


def _measure_jointly(
    plan: MeasurePlan, sounds: Sequence[Sound], progress: Progress
) -> list[Values]:
    recipe, device = plan.recipe, device_name()
    assert plan.base is not None
    grams = merged_grams(
        build_encoder(recipe.backbone, plan.base, device),
        [build_encoder(recipe.backbone, each.checkpoint, device) for each in plan.subjects],
        sounds,
        [each.weight for each in plan.subjects],
        RegmeanPlusPlus(alpha=recipe.merge_alpha),
        batch_size=recipe.batch_size,
        progress=progress,
    )
    return [{f"{KIND}/{name}": each for name, each in own.items()} for own in grams]


def _facts(plan: MeasurePlan, subject: Subject, sound: Sound) -> dict[str, Any]:
    recipe = plan.recipe
    facts: dict[str, Any] = {
        "model_digest": subject.checkpoint.digest(),
        "corpus_digest": sound.corpus.digest,
        "statistics": list(recipe.statistics),
        "backbone": recipe.backbone.model_dump(mode="json"),
        "examples": recipe.examples,
        "crop_s": recipe.crop_s,
        "seed": recipe.seed,
    }
    if "fisher" in recipe.statistics:
        facts["fisher"] = recipe.fisher.model_dump(mode="json")
        if plan.heads is not None:
            facts["fisher"]["temperatures"] = dict(sorted(plan.heads.temperatures.items()))
    if plan.base is not None:
        facts["base_digest"] = plan.base.digest()
        facts["alpha"] = recipe.merge_alpha
        facts["models"] = [
            {"digest": each.checkpoint.digest(), "weight": each.weight} for each in plan.subjects
        ]
    return facts


def _write(folder: Path, values: Values, facts: Mapping[str, Any]) -> None:
    for name, each in values.items():
        if not np.isfinite(each).all():
            raise InputError(
                f"{name} of the model is not finite",
                "look at the model's weights with `cmerge inspect`",
            )
    names = sorted(values)
    specs = [TensorSpec(name, values[name].shape, "float32") for name in names]
    write_tensors(
        folder,
        specs,
        ((name, values[name]) for name in names),
        max_shard_bytes=_ONE_FILE_BYTES,
        metadata={"format": "pt", FACTS_KEY: canonical_json(facts)},
        stem=STATISTICS_STEM,
    )
    write_json(folder / FACTS_NAME, facts)


def _locked_inputs(plan: MeasurePlan, sounds: Sequence[Sound]) -> list[LockedInput]:
    entries: list[LockedInput] = []
    if plan.base is not None:
        entries.append(locked_checkpoint("base", plan.base.source, plan.base))
    for i, (subject, sound) in enumerate(zip(plan.subjects, sounds, strict=True)):
        place = f"models[{i}]." if subject.name else ""
        heads = () if plan.heads is None else plan.heads.files
        model = subject.checkpoint
        entries.append(locked_checkpoint(f"{place}model", model.source, model, heads))
        entries += locked_corpus(f"{place}corpus", sound.corpus, plan.root)
    return entries


def _refuse_inputs_inside(plan: MeasurePlan, target: Path) -> None:
    place = target.resolve()
    inputs = [plan.root, *(plan.root / subject.corpus for subject in plan.subjects)]
    inputs += [subject.checkpoint.folder for subject in plan.subjects]
    inputs += [plan.base.folder] if plan.base is not None else []
    for path in inputs:
        if place == path.resolve() or place in path.resolve().parents:
            raise InputError(
                f"{target}: the output would replace an input ({path})",
                "choose another output (--set output=…)",
            )
