"""Say on the model card what a merge did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mergekit_audio.merge.inputs import MergeModel
from mergekit_audio.merge.planner import MergePlan
from mergekit_audio.recipe.merge import Scale
from mergekit_audio.report.card import CardFacts, CardInput, read_license
from mergekit_audio.weights.checkpoint import Checkpoint


def card_facts(plan: MergePlan) -> CardFacts:
    """Return what the card of a merge says: inputs, method, λ, what was copied and why."""
    recipe = plan.recipe
    count = f"{len(plan.models)} model" + ("s" if len(plan.models) > 1 else "")
    return CardFacts(
        title=Path(recipe.output).name,
        relation="merge",
        summary=(
            f"{count} merged into `{plan.base_source}` by {recipe.method.name} at "
            f"{_scale_text(plan)}. {_actions_text(plan)}"
        ),
        inputs=(
            _card_input(plan, "base", plan.base_source, plan.base, plan.base.digest(), None),
            *(
                _model_input(plan, model, entry.weight)
                for entry, model in zip(recipe.models, plan.models, strict=True)
            ),
        ),
        method=(
            f"θ = θ_base + λ · Δ with Δ by `{recipe.method.name}`: {_first_line(recipe.method)} "
            f"Source: {type(recipe.method).reference}. Computed in float64, then cast."
            f"{_groups_text(plan)}"
        ),
        recipe=recipe.model_dump(mode="json"),
        tags=("merge", recipe.method.name.replace("_", "-")),
        sections=tuple(_sections(plan)),
    )


def _model_input(plan: MergePlan, model: MergeModel, weight: float) -> CardInput:
    return _card_input(plan, "model", model.source, model.checkpoint, model.digest, weight)


def _card_input(
    plan: MergePlan,
    role: str,
    source: str,
    checkpoint: Checkpoint,
    digest: str,
    weight: float | None,
) -> CardInput:
    return CardInput(
        role=role,
        source=source,
        content_digest=digest,
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


def _groups_text(plan: MergePlan) -> str:
    """Return what the groups do otherwise, a sentence each."""
    texts = []
    for i, group in enumerate(plan.recipe.groups):
        globs = [group.match] if isinstance(group.match, str) else group.match
        where = ", ".join(f"`{glob}`" for glob in globs[:4]) + (", …" if len(globs) > 4 else "")
        method = (group.method or plan.recipe.method).name
        scale = "" if group.scale is None else f" at λ = {group.scale:g}"
        count = sum(row.group == i and row.action == "merge" for row in plan.rows)
        texts.append(f" Group {i} ({where}, {count} tensors): {method}{scale}.")
    return "".join(texts)


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
