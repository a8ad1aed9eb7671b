"""Extract a LoRA adapter from a tuned model: its task vector to low rank, and what that loses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from mergekit_audio.cores import core_count
from mergekit_audio.errors import InputError
from mergekit_audio.files import require_free, sha256_of_file, staged_folder, write_json
from mergekit_audio.lock import Lock, LockedInput, make_lock, write_lock
from mergekit_audio.merge._low_rank import LowRank, factorise
from mergekit_audio.merge.extraction_plan import DEFAULT_RANK, ExtractPlan, is_embedding
from mergekit_audio.merge.parallel import ordered_map
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.report.adapter_card import AdapterFacts, write_adapter_card
from mergekit_audio.report.card import CARD_NAME, CardInput, read_license
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.dtypes import is_floating
from mergekit_audio.weights.writer import TensorSpec, write_tensors

REPORT_NAME = "extraction.json"
_ELEMENTS_AT_ONCE = 1 << 18
_ELEMENTS_AHEAD = 1 << 23


def extract(
    plan: ExtractPlan,
    *,
    force: bool = False,
    progress: Progress = silent,
    output: Path | None = None,
    command: str = "",
) -> Extraction:
    """Write the adapter's folder: factors, config, report, card and lock.

    peft loads it: ``PeftModel.from_pretrained(base, folder)`` adds B·A to each factored weight.
    α = r, so that the scaling is 1. The folder appears when all of it is there.

    Parameters
    ----------
    force
        Replace an output that exists.
    output
        Another folder than the settings'.
    command
        The command line, kept in the lock.

    Raises
    ------
    InputError
        The output exists (without ``force``), holds an input, or can't be written; an input has a
        value that is not finite; the model equals the base in every tensor that is factored.
    """
    target = plan.output if output is None else Path(output)
    require_free(target, force=force)
    _refuse_inputs_inside(plan, target)
    with threadpool_limits(limits=1, user_api="blas"):  # the same bits for any number of threads
        factors = dict(_factors(plan, progress))
        if not factors:
            raise InputError(
                f"{plan.model.source}: equals {plan.base.source} in every tensor to be factored",
                "there is nothing to extract: check which of the two is the tuned model",
            )
        report = _report(plan, factors)
    with staged_folder(target, force=force) as staging:
        _write_factors(plan, staging, factors)
        write_json(staging / "adapter_config.json", _config(plan, factors))
        write_json(staging / REPORT_NAME, report)
        inputs = _inputs(plan)
        write_adapter_card(staging, _card_facts(plan, target.name, report, inputs))
        lock = make_lock(
            staging,
            target=target,
            recipe=plan.settings.model_dump(mode="json"),
            root=plan.root,
            inputs=inputs,
            command=command,
        )
        write_lock(staging, lock)
    return Extraction(lock, report)


@dataclass(frozen=True)
class Extraction:
    """What an extraction wrote: the lock, and the report that is also ``extraction.json``."""

    lock: Lock
    report: dict[str, Any]


def _refuse_inputs_inside(plan: ExtractPlan, target: Path) -> None:
    place = target.resolve()
    for checkpoint in (plan.base, plan.model):
        folder = checkpoint.folder.resolve()
        if folder == place or place in folder.parents:
            raise InputError(
                f"{target}: the output would replace the input {checkpoint.source}",
                "choose another output",
            )


def _factors(plan: ExtractPlan, progress: Progress) -> Iterator[tuple[str, LowRank]]:
    settings = plan.settings
    rank = settings.rank or (DEFAULT_RANK if settings.energy is None else None)

    def factored(name: str) -> LowRank | None:
        delta = plan.model.array(name).astype(np.float64) - plan.base.array(name)
        if not delta.any():
            return None
        turned = delta.T if is_embedding(name) or plan.fan_in_fan_out else delta
        return factorise(turned, rank=rank, energy=settings.energy)

    found = ordered_map(
        factored,
        plan.factored,
        lambda name: math.prod(plan.base.index[name].shape),
        workers=core_count(),
        window=_ELEMENTS_AHEAD,
    )
    total = len(plan.factored)
    for done, (name, each) in enumerate(zip(plan.factored, found, strict=True)):
        progress(ProgressEvent("factor tensors", done, total, name))
        if each is not None:
            yield name, each
    progress(ProgressEvent("factor tensors", total, total))


def _write_factors(plan: ExtractPlan, staging: Path, factors: Mapping[str, LowRank]) -> None:
    tensors: dict[str, np.ndarray] = {}
    for name, each in factors.items():
        module = "base_model.model." + plan.base.index[name].stored_name.removesuffix(".weight")
        form = "lora_embedding_{}" if is_embedding(name) else "lora_{}.weight"
        tensors[f"{module}.{form.format('A')}"] = each.a
        tensors[f"{module}.{form.format('B')}"] = each.b
    names = sorted(tensors)
    write_tensors(
        staging,
        [TensorSpec(name, tensors[name].shape, "float32") for name in names],
        ((name, tensors[name]) for name in names),
        max_shard_bytes=1 << 62,
        stem="adapter_model",
    )


def _config(plan: ExtractPlan, factors: Mapping[str, LowRank]) -> dict[str, Any]:
    ranks = {
        plan.base.index[name].stored_name.removesuffix(".weight"): each.rank
        for name, each in factors.items()
    }
    rank = max(ranks.values())
    # peft takes the first pattern that fits the end of a module's name: the longest come first, and
    # none is left out, so that each module meets its own.
    longest_first = sorted(ranks, key=lambda module: (-len(module), module))
    pattern = {name: ranks[name] for name in longest_first} if set(ranks.values()) != {rank} else {}
    source, _, revision = plan.settings.base.partition("@")
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": source,
        "revision": revision or None,
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": pattern,
        "alpha_pattern": pattern,
        "target_modules": sorted(ranks),
        "fan_in_fan_out": plan.fan_in_fan_out,
        "use_rslora": False,
        "use_dora": False,
        "bias": "none",
        "modules_to_save": None,
        "lora_dropout": 0.0,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _report(plan: ExtractPlan, factors: Mapping[str, LowRank]) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    for name, each in factors.items():
        row = {"name": name, "shape": list(plan.base.index[name].shape), "rank": each.rank}
        rows.append(row | _measures(each.norm, each.error))
    left = [_left_row(plan, name, factors) for name in plan.base.index if name not in factors]
    norm = math.hypot(*(row["norm"] for row in [*rows, *left]))
    error = math.hypot(*(row["error"] for row in rows), *(row["norm"] for row in left))
    inside = math.hypot(*(row["norm"] for row in rows))
    return {
        "model": plan.settings.model,
        "base": plan.settings.base,
        "parameters": sum(each.a.size + each.b.size for each in factors.values()),
        "total": _measures(norm, error),
        "factored": _measures(inside, math.hypot(*(row["error"] for row in rows))),
        "tensors": rows,
        "left_out": left,
    }


def _measures(norm: float, error: float) -> dict[str, float]:
    relative = error / norm if norm else 0.0
    return {
        "norm": norm,
        "error": error,
        "relative_error": relative,
        "energy_kept": 1.0 - relative * relative,
    }


def _left_row(plan: ExtractPlan, name: str, factors: Mapping[str, LowRank]) -> dict[str, Any]:
    """Return a tensor that the adapter leaves as the base has it, and how far that is off."""
    floating = is_floating(plan.base.index[name].dtype)
    tuned, base = (each.array(name).reshape(-1) for each in (plan.model, plan.base))
    squares, differing = [], 0
    for start in range(0, tuned.size, _ELEMENTS_AT_ONCE):
        part = slice(start, start + _ELEMENTS_AT_ONCE)
        differing += int(np.count_nonzero(tuned[part] != base[part]))
        if floating:
            squares.append(float(np.sum(np.square(tuned[part].astype(np.float64) - base[part]))))
    reason = plan.left_out.get(name, "unchanged")
    norm = math.sqrt(math.fsum(squares))
    return {"name": name, "because": reason, "norm": norm, "values_that_differ": differing}


def _inputs(plan: ExtractPlan) -> list[LockedInput]:
    return [
        LockedInput(
            name=name,
            source=source,
            content_digest=checkpoint.digest(),
            files={
                path.relative_to(checkpoint.folder).as_posix(): sha256_of_file(path)
                for path in [*checkpoint.files(), *_card_of(checkpoint)]
            },
        )
        for name, source, checkpoint in (
            ("base", plan.settings.base, plan.base),
            ("model", plan.settings.model, plan.model),
        )
    ]


def _card_of(checkpoint: Checkpoint) -> list[Path]:
    card = checkpoint.folder / CARD_NAME
    return [card] if card.is_file() else []


def _card_facts(
    plan: ExtractPlan, title: str, report: Mapping[str, Any], inputs: Sequence[LockedInput]
) -> AdapterFacts:
    folders = (plan.base.folder, plan.model.folder)
    return AdapterFacts(
        title=title,
        inputs=tuple(
            CardInput(
                role=entry.name,
                source=entry.source,
                content_digest=entry.content_digest,
                license=read_license(folder, entry.source),
                on_hub=not (plan.root / Path(entry.source).expanduser()).exists(),
            )
            for entry, folder in zip(inputs, folders, strict=True)
        ),
        report=report,
    )
