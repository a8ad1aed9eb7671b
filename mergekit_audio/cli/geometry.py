"""What `inspect` prints of models beside their base: tables for people."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_audio.cli.output import outline
from mergekit_audio.report.geometry_figure import short_names

LARGEST_TABLE = 8
"""A table has one column a model or pair up to so many of them, and means beyond."""


def geometry_text(value: Mapping[str, Any], *, tensors: bool = False) -> str:
    """Return the facts of ``inspect_geometry`` as tables, one row a model, part, layer, tensor."""
    relations, pairs = value["relations"], value["pairs"]
    names = short_names(relations["models"])
    text: dict[str, Any] = {
        "base": relations["base"],
        "models": [_model_row(relations, pairs, place) for place in range(len(names))],
    }
    if len(names) > 1:
        for key in ("cosine", "sign_conflict"):
            text[key] = [
                {"model": name, **dict(zip(names, map(_short, row), strict=True))}
                for name, row in zip(names, relations[key], strict=True)
            ]
        text["sum_norm"] = relations["sum_norm"]
        text["sum_to_mean_norm"] = relations["sum_to_mean_norm"]
        text["sign_disagreement"] = relations["sign_disagreement"]
    if chosen := relations.get("chosen", []):
        text["relative norm by group"] = _rows(pairs, chosen, "chosen", names)
    text["relative norm by part"] = _rows(pairs, relations["parts"], "parts", names)
    order = {group: place for place, group in enumerate(relations["layer_order"])}
    layers = sorted(relations["groups"], key=lambda group: order[group["name"]])
    text["relative norm by layer"] = _rows(pairs, layers, "groups", names)
    if len(names) > 2 and len(names) * (len(names) - 1) // 2 <= LARGEST_TABLE:
        for key, title in (("cosine", "cosine"), ("sign_conflict", "opposite signs")):
            if chosen:
                text[f"{title} by group"] = _pair_rows(chosen, names, key)
            text[f"{title} by part"] = _pair_rows(relations["parts"], names, key)
            text[f"{title} by layer"] = _pair_rows(layers, names, key)
    if tensors:
        by_tensor = [{"name": tensor["name"]} for tensor in pairs[0]["tensors"]]
        text["relative norm by tensor"] = _rows(pairs, by_tensor, "tensors", names)
    return outline(text) + _suggestion_text(value["suggestion"])


def _model_row(
    relations: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]], place: int
) -> dict[str, Any]:
    total = pairs[place]["total"]
    row = {
        "model": relations["models"][place],
        "norm": total["norm"],
        "relative_norm": total["relative_norm"],
        "max_abs": total["max_abs"],
        "changed_share": total["changed_share"],
        "same_content": pairs[place]["same_content"],
    }
    if len(pairs) > 1:
        row["growth"] = _short(relations["growth"][place])
    if _with_ranks(pairs):
        row["effective_rank"] = _short(total["effective_rank"])
        row["of_full"] = _short(total["effective_rank_share"])
        row["stable_rank"] = _short(total["stable_rank"])
    return row


def _rows(
    pairs: Sequence[Mapping[str, Any]],
    relations: Sequence[Mapping[str, Any]],
    level: str,
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """Return one row a part, layer or tensor: relative norms, growth, conflicts, mean rank."""
    found = [{entry["name"]: entry for entry in pair[level]} for pair in pairs]
    rows = []
    for relation in relations:
        name = relation["name"]
        entries = [entry[name] for entry in found]
        norms = [entry["relative_norm"] for entry in entries]
        row: dict[str, Any] = {"name": name, "elements": entries[0]["elements"]}
        if len(names) == 1:
            row["relative_norm"] = norms[0]
            row["norm"] = entries[0]["norm"]
        elif len(names) <= LARGEST_TABLE:
            row.update(
                {
                    label if label not in _KEYS else f"{label} (model)": _short(norm)
                    for label, norm in zip(names, norms, strict=True)
                }
            )
        else:
            row["mean_relative_norm"] = _short(_mean(norms))
        if len(names) > 1 and "sum_to_mean_norm" in relation:
            row["growth"] = _short(relation["sum_to_mean_norm"])
            row["mean_cosine"] = _short(_pair_mean(relation["cosine"]))
            row["conflict"] = _short(_pair_mean(relation["sign_conflict"]))
        if _with_ranks(pairs):
            row["rank_of_full"] = _short(_mean([each["effective_rank_share"] for each in entries]))
        rows.append(row)
    return rows


def _pair_rows(
    relations: Sequence[Mapping[str, Any]], names: Sequence[str], key: str
) -> list[dict[str, Any]]:
    """Return one row a part or layer, with a column for each pair of models."""
    pairs = list(itertools.combinations(range(len(names)), 2))
    return [
        {
            "name": entry["name"],
            **{f"{names[i]} · {names[j]}": _short(entry[key][i][j]) for i, j in pairs},
        }
        for entry in relations
    ]


_KEYS = ("name", "elements", "growth", "mean_cosine", "conflict", "rank_of_full")


def _suggestion_text(suggestion: Mapping[str, Any]) -> str:
    """Return the range of λ, a line for each reason, and a line for each caution."""
    if suggestion["low"] is None:
        return outline({"suggested λ": suggestion["reasons"][0]})
    low, high, start = (f"{suggestion[key]:.3g}" for key in ("low", "high", "start"))
    lines = [f"suggested λ: {low} to {high}, start at {start}\n"]
    grid = ", ".join(f"{scale:g}" for scale in suggestion["grid"])
    lines.append(f"  for a sweep: scales: [{grid}]\n")
    lines += [f"  because: {reason}\n" for reason in suggestion["reasons"]]
    lines += [f"  caution: {caution}\n" for caution in suggestion["cautions"]]
    return "".join(lines)


def _with_ranks(pairs: Sequence[Mapping[str, Any]]) -> bool:
    return any(pair["total"]["effective_rank"] is not None for pair in pairs)


def _pair_mean(table: Sequence[Sequence[float | None]]) -> float | None:
    return _mean([table[i][j] for j in range(len(table)) for i in range(j)])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _short(value: float | None) -> float | None:
    """Return three digits: a table of shares and ratios reads better so."""
    return None if value is None else float(f"{value:.3g}")
