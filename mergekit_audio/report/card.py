"""The model card: README.md with the hub's metadata, made from plain facts, always the same."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from mergekit_audio.files import write_text

CARD_NAME = "README.md"

LICENSES = (
    "cc0-1.0",
    "unlicense",
    "mit",
    "bsd-2-clause",
    "bsd-3-clause",
    "apache-2.0",
    "cc-by-3.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "gpl-3.0",
    "cc-by-nd-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nc-nd-4.0",
)
"""From the loosest to the strictest; the order is ours and is no legal advice."""

_KNOWN_REPOSITORIES = {
    "m-a-p/MERT-": "cc-by-nc-4.0",
    "ntua-slp/CultureMERT-": "cc-by-nc-4.0",
}
_RESPONSIBLE_USE = """\
A model reflects the recordings it learnt from, and no corpus stands for a whole tradition: \
schools, regions, instruments and performers are missing from each of them. "Western" and \
"non-Western" are shorthand for which corpora a score comes from. They lump together traditions \
that have little in common, cut apart ones that have much, and say nothing about how music is made \
or heard. A score that carries over from one corpus to another is a fact about these models and \
corpora, not evidence that two musical cultures are alike. Before a use that touches performers or \
communities, ask whose music it is, whether its terms allow the use, and whether they agree."""


@dataclass(frozen=True)
class CardInput:
    """One row of the table of what went in; ``license=None`` means that it is not known."""

    role: str
    source: str
    content_digest: str
    license: str | None
    on_hub: bool = False
    weight: float | None = None


@dataclass(frozen=True)
class CardCorpus:
    """One corpus with its licence and terms; ``license=None`` means that it is not known."""

    name: str
    source: str
    license: str | None = None
    terms: str = ""


@dataclass(frozen=True)
class CardFacts:
    """All that a card says.

    Parameters
    ----------
    title
        The model's name.
    relation
        What the model is to its base, in the hub's words; None for a model without a base.
    summary
        What it is, as one paragraph.
    inputs
        Base and models.
    method
        How it was made, in Markdown.
    recipe
        The recipe as JSON values, shown as YAML.
    tags
        Tags beside ``music``.
    corpora
        What was heard in training.
    scores
        Rows of a table, all with the same keys in the same order.
    sections
        More sections, (heading, Markdown), before the licence.
    metadata
        More metadata of the hub.
    """

    title: str
    relation: Literal["merge", "finetune"] | None
    summary: str
    inputs: tuple[CardInput, ...]
    method: str
    recipe: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    corpora: tuple[CardCorpus, ...] = ()
    scores: tuple[Mapping[str, str], ...] = ()
    sections: tuple[tuple[str, str], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


def write_card(folder: Path, facts: CardFacts) -> Path:
    """Write ``README.md`` and return its path."""
    path = folder / CARD_NAME
    write_text(path, card_text(facts))
    return path


def card_text(facts: CardFacts) -> str:
    """Return the card: YAML metadata between ``---`` lines, then Markdown."""
    header = yaml.safe_dump(_metadata(facts), sort_keys=False, allow_unicode=True)
    parts = [f"---\n{header}---", f"# {facts.title}", facts.summary]
    if facts.inputs:
        parts += ["## What went in", _table(_input_rows(facts.inputs))]
    parts += ["## How it was made", facts.method, _fenced("yaml", _dump(facts.recipe))]
    if facts.scores:
        parts += ["## Scores", _table(facts.scores)]
    if facts.corpora:
        parts += ["## Corpora", _table([_corpus_row(corpus) for corpus in facts.corpora])]
    for heading, text in facts.sections:
        parts += [f"## {heading}", text]
    parts += ["## Load", _fenced("python", _load_example(facts.title))]
    parts += ["## Verify", _verify_text(facts.title)]
    parts += ["## Licence", _license_text(facts)]
    parts += ["## Responsible use", _RESPONSIBLE_USE]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def read_license(folder: Path, source: str) -> str | None:
    """Return the licence that an input declares: in its own card, or as a repository we know.

    Parameters
    ----------
    folder
        The input's folder, whose ``README.md`` may have metadata.
    source
        The input as the recipe writes it.
    """
    card = folder / CARD_NAME
    if card.is_file():
        match = re.match(
            r"---\n(.*?\n)---", card.read_text(encoding="utf-8", errors="replace"), re.S
        )
        try:
            metadata = yaml.safe_load(match[1]) if match else None
        except yaml.YAMLError:
            metadata = None
        declared = metadata.get("license") if isinstance(metadata, dict) else None
        if isinstance(declared, str) and declared not in ("", "unknown"):
            return declared.lower()
    for prefix, license_name in _KNOWN_REPOSITORIES.items():
        if source.startswith(prefix):
            return license_name
    return None


def strictest_license(licenses: Sequence[str | None]) -> str:
    """Return the licence that a work made of all these must carry.

    The last of ``LICENSES`` among them; ``unknown`` when one of them is not known (None), and
    ``other`` when one of them is not in the list, for then the order does not decide it.
    """
    if not licenses or None in licenses:
        return "unknown"
    names = [name for name in licenses if name is not None]
    if any(name not in LICENSES for name in names):
        return names[0] if len(set(names)) == 1 else "other"
    return max(names, key=LICENSES.index)


def _metadata(facts: CardFacts) -> dict[str, Any]:
    values: dict[str, Any] = {"license": strictest_license(_licenses(facts))}
    bases = [entry.source.partition("@")[0] for entry in facts.inputs if entry.on_hub]
    if bases:
        values["base_model"] = list(dict.fromkeys(bases))
    if facts.relation:
        values["base_model_relation"] = facts.relation
    values["library_name"] = "transformers"
    values["pipeline_tag"] = "feature-extraction"
    values["tags"] = list(dict.fromkeys([*facts.tags, "music"]))
    return {**values, **facts.metadata}


def _licenses(facts: CardFacts) -> list[str | None]:
    return [license_name for _, license_name in _sources(facts)]


def _sources(facts: CardFacts) -> list[tuple[str, str | None]]:
    inputs = [(entry.source, entry.license) for entry in facts.inputs]
    return inputs + [(corpus.source, corpus.license) for corpus in facts.corpora]


def _license_text(facts: CardFacts) -> str:
    licenses = _licenses(facts)
    result = strictest_license(licenses)
    if not licenses:
        return "Nothing with a licence of its own went in; none is chosen for this model."
    if result not in ("unknown", "other"):
        return f"The strictest licence of what went in: **{result}**."
    named = _sources(facts)
    unknown = [source for source, name in named if name is None]
    ranked = [name for _, name in named if name in LICENSES]
    lines = []
    if unknown:
        lines.append(f"The licence of {_listed(unknown)} is not known.")
    if special := sorted({name for _, name in named if name and name not in LICENSES}):
        lines.append(f"Terms of their own apply: {_listed(special)}.")
    if ranked:
        strictest = max(ranked, key=LICENSES.index)
        lines.append(f"The strictest of the others is {strictest}; it applies at the least.")
    lines.append("Find out before you share this model.")
    return " ".join(lines)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in dict.fromkeys(names))


def _input_rows(inputs: Sequence[CardInput]) -> list[dict[str, str]]:
    weighted = any(entry.weight is not None for entry in inputs)
    rows = []
    for entry in inputs:
        row = {"role": entry.role, "source": f"`{entry.source}`"}
        if weighted:
            row["weight"] = "" if entry.weight is None else f"{entry.weight:g}"
        row["licence"] = entry.license or "not known"
        row["content (sha256)"] = f"`{entry.content_digest}`"
        rows.append(row)
    return rows


def _corpus_row(corpus: CardCorpus) -> dict[str, str]:
    return {
        "corpus": corpus.name,
        "source": f"`{corpus.source}`",
        "licence": corpus.license or "not known",
        "terms": corpus.terms or "not given",
    }


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    heads = list(rows[0])
    lines = [heads, ["---"] * len(heads)]
    lines += [[row[head].replace("|", r"\|") for head in heads] for row in rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _dump(value: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True)
    return text


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _load_example(title: str) -> str:
    return (
        "from transformers import AutoFeatureExtractor, HubertModel\n\n"
        f'model = HubertModel.from_pretrained("{title}")\n'
        f'extractor = AutoFeatureExtractor.from_pretrained("{title}")  # where the base has one\n'
    )


def _verify_text(title: str) -> str:
    return (
        "`cmerge.lock.json` holds the sha256 of every file, of the inputs and of the recipe. "
        f"`cmerge verify {title}` compares them; `cmerge verify {title} --rebuild` runs the recipe "
        "again and compares the bytes."
    )
