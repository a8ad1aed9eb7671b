"""Say what to do next: the recipe of the chosen merge, and what would make the answer surer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from mergekit_audio.report.page.headline import use_words
from mergekit_audio.report.page.markup import Markup, Section, element, joined, steps
from mergekit_audio.report.page.reading import (
    Summary,
    average_effect,
    chosen_row,
    effects,
    listed,
    reference_row,
    verdicts,
)

Made = Mapping[str, Any]


def advice_section(summary: Summary, made: Made | None) -> Section | None:
    """Return numbered steps; an evaluation has none.

    Parameters
    ----------
    made
        The lock's ``recipe`` and ``inputs``, where they are known.
    """
    chosen = chosen_row(summary)
    if chosen is None:
        return None
    items: list[object] = []
    if chosen["kind"] in ("base", "culture"):
        items.append(f"{use_words(summary)}: there is nothing to merge.")
    else:
        items.append(_merge_step(summary, made))
    items += _mixture(summary) + _surer(summary)
    return Section("next", "What to do next", steps(items))


def merge_recipe(summary: Summary, made: Made) -> dict[str, Any] | None:
    """Return the recipe of ``cmerge merge`` that makes the chosen model; ``None`` if none does.

    Its paths are relative to the folder of the sweep's recipe.
    """
    recipe, chosen = made["recipe"], chosen_row(summary)
    sources = {entry["name"]: entry["source"] for entry in made["inputs"]}
    if chosen is None or chosen["kind"] != "merge" or not recipe.get("cultures"):
        return None
    scales = chosen.get("scales") or {"λ": chosen["scale"]}
    space = recipe.get("space", "shared")
    models = []
    for culture in recipe["cultures"]:
        name = culture["name"]
        weight = culture["weight"] * (scales[name] if space == "per_culture" else 1.0)
        source = sources.get(f"cultures.{name}") or culture["model"]
        models.append({"model": source, "name": name, "weight": weight})
    found: dict[str, Any] = {
        "kind": "merge",
        "seed": recipe["seed"],
        "base": recipe["base"],
        "models": models,
        "method": {**recipe["method"], **(chosen.get("parameters") or {})},
        "scale": {"shared": chosen["scale"], "per_culture": 1.0, "groups": 0.0}[space],
    }
    if space == "groups":
        found["groups"] = [
            {
                "match": group["match"],
                **({"layers": group["layers"]} if group["layers"] else {}),
                "scale": scales[group["name"]],
            }
            for group in recipe["groups"]
        ]
    return {**found, "output": f"{recipe['output']}_best"}


def _merge_step(summary: Summary, made: Made | None) -> Markup:
    again = "run the sweep's command again with <code>--set write_best=true --force</code>"
    if made is None:
        return Markup(
            f"To write this model: {again}; scores that are known are not computed again."
        )
    if made["recipe"].get("write_best"):
        folder = element("code", f"{made['recipe']['output']}/best")
        return Markup(f"This model is written already: {folder}, seen from the sweep's recipe.")
    recipe = merge_recipe(summary, made)
    if recipe is None:
        return Markup(f"To write this model: {again}.")
    shown = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
    return joined(
        [
            Markup(
                "Write this model: save these lines as <code>best.yaml</code> beside the sweep's "
                "recipe, then <code>cmerge merge best.yaml</code>. "
                f"Or {again}."
            ),
            element("pre", element("code", shown)),
        ]
    )


def _mixture(summary: Summary) -> list[object]:
    """Return the chosen λ read as a training mixture, where there is a recipe of it."""
    found = summary.get("suggested_mixture") or {}
    if not found.get("recipe") or found.get("equal"):
        return []
    shares = ", ".join(
        f"{each['name']} {100 * each['share']:.0f} %" for each in found["cultures"] if each["share"]
    )
    told = element("span", f"Or train one model on all cultures at these shares: {shares}. ")
    command = element("code", f"cmerge train-multi {found['recipe']}")
    return [Markup(f"{told}{command} (the recipe lies beside this report).")]


def _surer(summary: Summary) -> list[object]:
    """Return what would answer what this sweep leaves open, most important first."""
    items: list[object] = []
    selection = summary["selection"]
    base = reference_row(summary)["name"]
    curve = [point for point in selection["curve"] if point["scale"] is not None]
    if curve and not selection["inside_maximum"] and selection["row"] != base:
        highest = curve[-1]["scale"]
        if selection["scale"] == highest:
            items.append(
                _command(
                    f"The best λ is the largest that was tried, {highest:g}: look further",
                    f'--set "scales={_wider(curve)}"',
                )
            )
    name = str(selection["row"])
    effect = None if name == base else average_effect(effects(summary, name))
    if effect is not None and effect.level != "better":
        items.append(
            "Make it surer before you rely on it: more tracks in the validation and test splits "
            "narrow every interval; more seeds only steady the probes."
        )
    if len(summary["seeds"]) == 1:
        items.append(_command("Probe with more than one seed", '--set "seeds=[0, 1, 2, 3, 4]"'))
    if summary.get("differences") is None:
        items.append(_command("Get intervals of the differences", "--set resamples=10000"))
    hurt = (
        [] if name == base else [t for t, (v, _) in verdicts(summary, name).items() if v == "worse"]
    )
    plain = [task for task in hurt if re.fullmatch(r"\w+", task)]
    if plain:
        kept = " and ".join(f"{task} >= base - 0.5" for task in plain)
        items.append(
            _command(
                f"It hurts {listed(hurt)}. To choose the best λ that does not",
                f'--set "select.objective=mean(all) subject to {kept}"',
            )
        )
    for found in summary.get("interpolation") or []:
        if not found["accepted"]:
            items.append(
                "Interpolation was not accurate enough here, so that fewer λ were evaluated, each "
                "directly: a smaller range of λ interpolates better."
            )
            break
    space = summary.get("space") or {}
    if space.get("kind") == "shared" and len(summary.get("cultures") or []) > 1:
        items.append(
            _command(
                "One λ for all cultures is a compromise. To look at one λ a culture",
                '--set space=per_culture --set "interpolate={points: 200}"',
            )
        )
    return items


def _command(why: str, options: str) -> Markup:
    told = element("span", f"{why}: run the sweep again into another output with ")
    return Markup(f"{told}{element('code', options)}.")


def _wider(curve: list[Mapping[str, Any]]) -> str:
    highest = curve[-1]["scale"]
    more = [round(highest * factor, 6) for factor in (0.5, 1.0, 1.25, 1.5, 2.0)]
    return "[" + ", ".join(f"{value:g}" for value in [0.0, *more]) + "]"
