"""What a model card says of a training: plain facts for the report layer."""

from __future__ import annotations

import json

from mergekit_audio.pretrain.corpora import TrainingAudio, corpus_places, left_out
from mergekit_audio.pretrain.planner import TrainPlan
from mergekit_audio.recipe.train import Stage
from mergekit_audio.report.card import CardCorpus, CardFacts, CardInput, read_license
from mergekit_audio.transfers.base import Transfer


def card_facts(plan: TrainPlan, audio: TrainingAudio, log_lines: str) -> CardFacts:
    """Return what the model's card says.

    Parameters
    ----------
    audio
        The prepared corpora.
    log_lines
        The whole ``log.jsonl``.
    """
    recipe = plan.recipe
    start = "random weights" if plan.base is None else f"`{recipe.base}`"
    teachers = ", ".join(f"`{teacher.name}`" for teacher in recipe.teachers)
    inputs: tuple[CardInput, ...] = ()
    if plan.base is not None:
        inputs = (
            CardInput(
                role="base",
                source=str(recipe.base),
                content_digest=plan.base.digest(),
                license=read_license(plan.base.folder, str(recipe.base)),
                on_hub=not (plan.root / str(recipe.base)).exists(),
            ),
        )
    return CardFacts(
        title=recipe.output.rstrip("/").rsplit("/", 1)[-1],
        relation=None if plan.base is None else "finetune",
        summary=(
            f"A `{recipe.backbone.name}` model of {recipe.culture} music, "  # type: ignore[attr-defined]
            f"{'pre-trained' if plan.base is None else 'continually pre-trained'} from {start} by "
            f"masked prediction of {teachers}."
        ),
        inputs=inputs,
        method="\n".join(
            [
                "| stage | trains | steps | learning rate | replay |",
                "| --- | --- | --- | --- | --- |",
            ]
            + [_stage_row(stage) for stage in recipe.stages]
            + _transfer_lines(recipe.transfer)
        ),
        recipe=recipe.model_dump(mode="json"),
        tags=("continual-pre-training",) if plan.base is not None else ("pre-training",),
        corpora=tuple(_corpus(plan, audio, key) for key in audio.corpora),
        sections=(
            ("Recordings", _recordings(audio)),
            ("Course of the loss", _losses(log_lines)),
            (
                "Heads",
                "`heads.safetensors` holds the pre-training heads (`<teacher>.<parameter>`) and "
                "`teachers/` what the teachers were fitted to: training can go on from here.",
            ),
        ),
    )


def _transfer_lines(transfer: Transfer) -> list[str]:
    """Return what is to be said of a transfer other than the training of the weights themselves."""
    settings = transfer.model_dump(mode="json")
    name = settings.pop("name")
    if name in ("full", "finetune"):
        return []
    told = ", ".join(f"{key} {value}" for key, value in settings.items())
    return [
        "",
        f"Of the encoder only what the transfer `{name}`{f' ({told})' if told else ''} puts on its "
        "layers was trained, and folded into these weights.",
    ]


def _stage_row(stage: Stage) -> str:
    trains = ", ".join(f"`{glob}`" for glob in stage.train)
    rate = f"{stage.warmup_steps} steps up to {stage.peak_lr:g}, cosine down to {stage.min_lr:g}"
    return f"| {stage.name} | {trains} | {stage.steps} | {rate} | {stage.replay_share:.0%} |"


def _corpus(plan: TrainPlan, audio: TrainingAudio, key: str) -> CardCorpus:
    place = corpus_places(plan)[key]
    folder = place if place.is_dir() else place.parent
    source = (
        plan.recipe.replay if key == "replay" else plan.recipe.corpora()[audio.sources[key].name]
    )
    return CardCorpus(
        audio.sources[key].name, str(source), license=read_license(folder, str(source))
    )


def _recordings(audio: TrainingAudio) -> str:
    lines = ["| corpus | training segments | hours | left out |", "| --- | --- | --- | --- |"]
    for key, corpus in audio.corpora.items():
        segments = audio.sources[key].segments
        hours = sum(each.stop - each.start for each in segments) / corpus.sample_rate_hz / 3600
        lines.append(
            f"| {audio.sources[key].name} | {len(segments)} | {hours:.3f} | "
            f"{', '.join(left_out(corpus, segments)) or 'none'} |"
        )
    return "\n".join(lines)


def _losses(log_lines: str) -> str:
    rows: dict[str, list[dict[str, float]]] = {}
    for text in log_lines.splitlines():
        line = json.loads(text)
        if "loss" in line:
            rows.setdefault(line["stage"], []).append(line)
    table = ["| stage | first logged loss | last logged loss |", "| --- | --- | --- |"]
    table += [
        f"| {stage} | {lines[0]['loss']:.4f} (step {lines[0]['step']}) | "
        f"{lines[-1]['loss']:.4f} (step {lines[-1]['step']}) |"
        for stage, lines in rows.items()
    ]
    return "\n".join(table)
