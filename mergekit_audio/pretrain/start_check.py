"""Do imported heads fit the audio? Their masked accuracy before the first step, against chance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mergekit_audio.files import staged_file
from mergekit_audio.pretrain.objective import PretrainModel
from mergekit_audio.pretrain.stage_log import StageLog
from mergekit_audio.pretrain.work import StageFolder
from mergekit_audio.progress import remark

if TYPE_CHECKING:
    from mergekit_audio.pretrain.job import StageJob

_BATCHES = 4
_TIMES_CHANCE = 3.0


def start_log(folder: StageFolder) -> Path:
    """Return where a stage's line of step 0 stands, if it has one."""
    return folder.folder / "start.jsonl"


def check_start(model: PretrainModel, job: StageJob) -> None:
    """Measure the imported heads on the first micro-batches, log it as step 0, and warn.

    A codebook of C rows whose masked accuracy is below 3 / C predicts about as well as chance: its
    rows are in another order than the teacher's codes, or the codec or the sound is another.

    Parameters
    ----------
    model
        The model as it enters the first stage.
    job
        The first stage; its progress is told of the accuracies and of what is wrong with them.
        Nothing is done when its folder holds the line.
    """
    path = start_log(job.folder)
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with staged_file(path) as staging:
        log = StageLog(
            staging,
            stage=job.stage.name,
            every=1,
            steps=1,
            weights=job.weights,
            feature_penalty=job.arguments.feature_penalty,
        )
        _measure(model, job, log)
        log.end_step(0, 0.0, None)
        line: dict[str, Any] = json.loads(staging.read_text(encoding="utf-8"))
    for note in start_notes(line, _rows(model)):
        job.progress(remark("heads", note))


def start_notes(line: Mapping[str, Any], rows: Mapping[str, int]) -> Iterator[str]:
    """Say how well the heads of each codebook teacher predict before the first step.

    Parameters
    ----------
    line
        The log's line of step 0.
    rows
        C, the rows of a codebook, by teacher.
    """
    for teacher, count in sorted(rows.items()):
        mark = f"{teacher}/accuracy_"
        accuracies = [value for name, value in line.items() if name.startswith(mark)]
        if not accuracies:
            continue
        told = ", ".join(f"{value:.2%}" for value in accuracies)
        yield f"{teacher}: masked accuracy of the imported heads {told} (chance {1 / count:.2%})"
        poor = [k for k, value in enumerate(accuracies) if value < _TIMES_CHANCE / count]
        if poor:
            yield (
                f"warning: {teacher}: the imported heads of codebook {', '.join(map(str, poor))} "
                f"predict no better than chance (below {_TIMES_CHANCE / count:.2%}): their rows "
                "may be in another order, or the codec or the sound is another than the base's; "
                "check special_rows and the teacher's model, or set heads: warmup"
            )


@torch.no_grad()
def _measure(model: PretrainModel, job: StageJob, log: StageLog) -> None:
    model.eval()
    clips, batch_size = job.clips, job.arguments.batch_size
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[]):  # layer drop draws a number even when it does nothing
        for first in range(0, min(len(clips), _BATCHES * batch_size), batch_size):
            last = min(first + batch_size, len(clips))
            batch = job.collate([clips[position] for position in range(first, last)])
            targets = {name: codes.to(device) for name, codes in batch["codes"].items()}
            for name, teacher in model.teachers.items():
                if name not in targets:
                    targets[name] = teacher.targets(batch["clean"].to(device))
            log.add(model(batch["wave"].to(device), batch["mask"].to(device), targets))


def _rows(model: PretrainModel) -> dict[str, int]:
    tables = {
        name: getattr(model.heads[name], "label_embs", None) for name in sorted(model.teachers)
    }
    return {name: int(table.shape[1]) for name, table in tables.items() if table is not None}
