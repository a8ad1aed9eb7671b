"""The model card of an extracted adapter: what it is, what it loses, how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mergekit_audio.files import write_text
from mergekit_audio.report.card import CARD_NAME, CardInput, strictest_license


@dataclass(frozen=True)
class AdapterFacts:
    """All that the card says; ``inputs`` are base and model, ``report`` the extraction's."""

    title: str
    inputs: tuple[CardInput, ...]
    report: Mapping[str, Any]


def write_adapter_card(folder: Path, facts: AdapterFacts) -> Path:
    """Write ``README.md`` and return its path."""
    path = folder / CARD_NAME
    write_text(path, adapter_card_text(facts))
    return path


def adapter_card_text(facts: AdapterFacts) -> str:
    """Return the card: YAML metadata between ``---`` lines, then Markdown."""
    header = yaml.safe_dump(_metadata(facts), sort_keys=False, allow_unicode=True)
    report = facts.report
    total, inside = report["total"], report["factored"]
    ranks = [row["rank"] for row in report["tensors"]]
    span = f"{min(ranks)}" if min(ranks) == max(ranks) else f"{min(ranks)} to {max(ranks)}"
    parts = [
        f"---\n{header}---",
        f"# {facts.title}",
        f"A LoRA adapter: the task vector of `{report['model']}` against `{report['base']}`, to "
        f"rank {span} in {len(ranks)} tensors ({report['parameters']:,} parameters). "
        f"Relative error ‖τ − B·A‖ / ‖τ‖: {inside['relative_error']:.4g} over these tensors "
        f"({inside['energy_kept']:.2%} of their energy kept), {total['relative_error']:.4g} over "
        f"the whole model ({total['energy_kept']:.2%}); {len(report['left_out'])} tensors stay as "
        "the base has them.",
        "## What went in",
        _inputs_table(facts.inputs),
        "## How it was made",
        "Truncated singular value decomposition of τ = θ − θ_base of each tensor, in float64, "
        "factors B = U√Σ and A = √ΣVᵀ in float32, scaling 1 (LoRA: arXiv 2106.09685). Errors "
        "tensor by tensor are in `extraction.json`.",
        "## Load",
        _load_example(facts),
        "## Verify",
        f"`cmerge verify {facts.title}` compares the files, and those that went in, with "
        "`cmerge.lock.json`.",
        "## Licence",
        _license_text(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(facts: AdapterFacts) -> dict[str, Any]:
    values: dict[str, Any] = {"license": _license(facts)}
    if bases := [entry.source.partition("@")[0] for entry in facts.inputs[:1] if entry.on_hub]:
        values["base_model"] = bases
    values["base_model_relation"] = "adapter"
    values["library_name"] = "peft"
    values["tags"] = ["lora", "music"]
    return values


def _license(facts: AdapterFacts) -> str:
    return strictest_license([entry.license for entry in facts.inputs])


def _license_text(facts: AdapterFacts) -> str:
    result = _license(facts)
    if result in ("unknown", "other"):
        return "The licence that follows from what went in is not known: find out before you share."
    return f"The strictest of what went in: **{result}**."


def _inputs_table(inputs: tuple[CardInput, ...]) -> str:
    lines = ["| role | source | licence | content |", "| --- | --- | --- | --- |"]
    for entry in inputs:
        source = entry.source.replace("|", r"\|")
        cells = (entry.role, f"`{source}`", entry.license or "not known")
        lines.append(f"| {' | '.join(cells)} | `{entry.content_digest}` |")
    return "\n".join(lines)


def _load_example(facts: AdapterFacts) -> str:
    base = facts.inputs[0].source.partition("@")[0]
    return (
        "```python\n"
        "from peft import PeftModel\n"
        "from transformers import HubertModel  # or the base's own class\n\n"
        f'base = HubertModel.from_pretrained("{base}")\n'
        f'model = PeftModel.from_pretrained(base, "{facts.title}").merge_and_unload()\n'
        "```"
    )
