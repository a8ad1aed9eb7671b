"""Say what the results were made of, and what they cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from mergekit_audio import __version__
from mergekit_audio.lock import LockedInput, environment, recipe_digest
from mergekit_audio.report.page.markup import (
    Markup,
    Section,
    details,
    element,
    joined,
    pairs,
    paragraph,
    table,
    words_head,
)
from mergekit_audio.report.page.reading import Summary


def made_of(recipe: Mapping[str, Any], inputs: Iterable[LockedInput]) -> dict[str, Any]:
    """Return what a lock will say of an output, before its files are there.

    Parameters
    ----------
    recipe
        The validated recipe as JSON values.
    inputs
        The lock's entries.
    """
    return {
        "tool_version": __version__,
        "recipe": dict(recipe),
        "recipe_digest": recipe_digest(recipe),
        "inputs": [
            {"name": each.name, "source": each.source, "content_digest": each.content_digest}
            for each in inputs
        ],
        "environment": environment(),
    }


def made_section(
    summary: Summary, made: Mapping[str, Any] | None, facts: Mapping[str, str] | None
) -> Section:
    """Return the cost in counts, the lock's digests and versions, and the recipe itself.

    Parameters
    ----------
    made
        A lock's content, or what ``made_of`` returned.
    facts
        More lines: wall time, folders.
    """
    parts: list[str] = [pairs({**cost(summary), **(facts or {})})]
    if made is not None:
        output = str(made["recipe"].get("output", ""))
        versions = ", ".join(f"{name} {value}" for name, value in made["environment"].items())
        parts += [
            paragraph(
                Markup(
                    f"The lock of these results, {_code(output + '/cmerge.lock.json')} seen from "
                    "the recipe's folder, holds digests of every file that was read and written; "
                    f"{_code('cmerge verify ' + output)} checks them."
                )
            ),
            pairs(
                {
                    "recipe digest": _code(made["recipe_digest"]),
                    "mergekit_audio": made["tool_version"],
                    "versions": versions,
                }
            ),
            table(
                "What was read",
                ["name", words_head("source"), words_head("sha256 of the content")],
                [
                    [each["name"], _left(each["source"]), _left(_code(each["content_digest"]))]
                    for each in made["inputs"]
                ],
            ),
            details(
                "The recipe, with all defaults",
                element(
                    "pre",
                    element(
                        "code",
                        yaml.safe_dump(dict(made["recipe"]), sort_keys=False, allow_unicode=True),
                    ),
                ),
            ),
        ]
    return Section("made", "This run", joined(parts))


def cost(summary: Summary) -> dict[str, str]:
    """Return what was computed, as counts; the results hold no times."""
    rows, tasks, seeds = summary["rows"], summary["tasks"], summary["seeds"]
    between = [row for row in rows if row.get("interpolated")]
    nodes = {
        tuple(scales) for found in summary.get("interpolation") or [] for scales in found["nodes"]
    }
    placed = {
        tuple((row.get("scales") or {}).values()) for row in rows if not row.get("interpolated")
    }
    extracted = len(rows) - len(between) + len(nodes - placed)
    facts = {
        "features extracted": f"{extracted} models and merges, each on {len(tasks)} "
        f"task{'s' if len(tasks) > 1 else ''}",
        "probes trained": f"{len(rows) * len(tasks) * len(seeds)} "
        f"({len(rows)} rows × {len(tasks)} tasks × {len(seeds)} seeds)",
    }
    if between:
        facts["features interpolated"] = f"{len(between)} points"
    search = summary.get("search")
    if search:
        facts["search"] = f"{search['sampler']}, {len(search['trials'])} trials"
    if summary.get("diverged"):
        facts["left out"] = f"{len(summary['diverged'])} points whose features are not finite"
    return facts


def _code(value: object) -> Markup:
    return element("code", value)


def _left(value: object) -> Markup:
    return element("td", value, class_="words")
