"""A training recipe for a mixture: the corpora of the cultures, with the settings of a template."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergekit_audio.recipe.load import load
from mergekit_audio.recipe.shipped import shipped_recipe
from mergekit_audio.recipe.train import TrainRecipe
from mergekit_audio.sweep.planner import SweepPlan

MIXTURE_NAME = "suggested_mixture.yaml"
TEMPLATE = "train/multi_24gb"


@dataclass(frozen=True)
class Template:
    """A training recipe to take teachers, stages and settings from.

    Parameters
    ----------
    recipe, folder
        The recipe and the folder that its paths are relative to.
    name
        What to call it.
    is_shipped
        Whether it comes with the package, so that its corpora mean nothing here.
    """

    recipe: TrainRecipe
    folder: Path
    name: str
    is_shipped: bool


@dataclass(frozen=True)
class Source:
    """Where a culture's audio lies.

    Parameters
    ----------
    places
        Folders or manifests.
    told_by
        ``training``, ``task``, or "" where nobody says so.
    """

    places: tuple[Path, ...]
    told_by: str


def mixture_recipe(
    planned: SweepPlan,
    summary: Mapping[str, Any],
    template: Template,
    sources: Mapping[str, Source],
) -> str:
    """Return a recipe for ``train-multi`` as text; its paths are relative to the sweep's output.

    Parameters
    ----------
    planned
        The sweep.
    summary
        The mixture: ``row`` and ``cultures`` with ``name``, ``share``, ``hours``.
    template
        Where teachers, stages and settings come from.
    sources
        The audio of each culture that has a share.
    """
    import yaml

    folder = planned.root / planned.recipe.output
    entries: list[dict[str, Any]] = []
    corpora: dict[str, str] = {}
    for each in summary["cultures"]:
        places = sources[each["name"]].places if each["share"] > 0 else ()
        for number, place in enumerate(places, 1):
            name = each["name"] if len(places) == 1 else f"{each['name']}-{number}"
            corpora[name] = _relative(place, folder)
            entries.append({"dataset": name, "hours": rounded(each["hours"] / len(places))})
    value = template.recipe.model_dump(mode="json", exclude_unset=True)
    value |= {
        "base": _moved(planned.recipe.base, planned.root, folder),
        "backbone": planned.recipe.backbone.model_dump(mode="json"),
        "culture": "multi",
        "corpus": corpora,
        "stages": [
            {
                **{key: held for key, held in stage.items() if key != "balance"},
                "mixture": [dict(entry) for entry in entries],
            }
            for stage in value["stages"]
        ],
        "store": _relative(planned.root / (planned.recipe.store or ".cmerge_store"), folder),
        "output": f"../{folder.name}_mixture",
    }
    value = _with_paths(value, planned, template, folder)
    head = _head(summary, template, sources)
    return head + str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def template_of(planned: SweepPlan, shares: Mapping[str, float]) -> Template:
    """Return the training recipe of the culture with the largest share that has one, or ours."""
    known = {each.name: each for each in planned.trainings if each.name in shares}
    if known:
        chosen = known[max(known, key=lambda name: shares[name])]
        return Template(chosen.recipe, chosen.path.parent, chosen.path.name, False)
    path = shipped_recipe(TEMPLATE)
    loaded = load(path, kind="train").recipe
    assert isinstance(loaded, TrainRecipe)
    return Template(loaded, path.parent, f"the shipped {TEMPLATE}", True)


def source_of(planned: SweepPlan, culture: str) -> Source:
    """Return where a culture's audio lies: as its training says, or a task of its name.

    A culture that was trained on several corpora keeps them all.
    """
    for each in planned.trainings:
        if each.name == culture:
            found = [each.path.parent / text for text in each.recipe.corpora().values()]
            return Source(tuple(found), "training")
    for task in planned.recipe.tasks:
        if task.name == culture:
            return Source((planned.root / task.corpus,), "task")
    return Source((planned.root / "corpora" / culture,), "")


def rounded(value: float) -> float:
    """Return a number with six digits."""
    return float(f"{value:.6g}")


def _with_paths(
    value: dict[str, Any], planned: SweepPlan, template: Template, folder: Path
) -> dict[str, Any]:
    """Return the recipe with what the template names beside its corpora, seen from the output."""
    western = [task.corpus for task in planned.recipe.tasks if task.western]
    replay = value.pop("replay", None)
    if replay is not None and not template.is_shipped:
        value["replay"] = _relative(template.folder / replay, folder)
    elif western:
        value["replay"] = _relative(planned.root / western[0], folder)
    else:
        value["stages"] = [{**stage, "replay_share": 0.0} for stage in value["stages"]]
    for teacher in value["teachers"]:
        if "model" in teacher:
            teacher["model"] = _moved(teacher["model"], template.folder, folder)
    if value.get("avoid"):
        value["avoid"] = [_relative(template.folder / each, folder) for each in value["avoid"]]
    if value.get("forgetting") and value["forgetting"].get("corpora"):
        value["forgetting"]["corpora"] = {
            name: _relative(template.folder / place, folder)
            for name, place in value["forgetting"]["corpora"].items()
        }
    return value


def _head(
    summary: Mapping[str, Any],
    template: Template,
    sources: Mapping[str, Source],
) -> str:
    told = ", ".join(f"{each['name']} {100 * each['share']:.1f} %" for each in summary["cultures"])
    lines = [
        f"The mixture that the λ of a sweep suggest ({summary['row']}): {told}.",
        f"cmerge train-multi {MIXTURE_NAME}      (--dry-run tells time and memory on this machine)",
        "hardware, time, result: not measured",
        "source: λ of a merge as ratios of a mixture (OptiMer, arXiv 2603.28858); teachers, stages",
        f"        and settings from {template.name}",
    ]
    from_tasks = [name for name, source in sources.items() if source.told_by == "task"]
    missing = [name for name, source in sources.items() if not source.told_by]
    if from_tasks:
        lines.append(
            f"fill in: corpus of {', '.join(from_tasks)} is the probing task's, of which the "
            "training split is heard; name what the culture's model was trained on"
        )
    if missing:
        lines.append(f"fill in: corpus of {', '.join(missing)} is not known to the sweep")
    if template.is_shipped:
        lines.append("fill in: stages, steps and batch are those of MERT-v1-95M on 24 GB")
    return "".join(f"# {line}\n" for line in lines)


def _moved(source: str, root: Path, folder: Path) -> str:
    """Return a checkpoint as seen from a folder; what is no path here (a hub repo id) as it is."""
    place = root / Path(source).expanduser()
    return _relative(place, folder) if place.exists() else source


def _relative(place: Path, folder: Path) -> str:
    return Path(os.path.relpath(place, folder)).as_posix()
