"""Commands of the group `data` that concern public corpora: ls, info, import."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer

from mergekit_audio.cli.options import DryRun, Json, NoProgress, Quiet
from mergekit_audio.cli.output import Output, outline, shown, table
from mergekit_audio.cli.progress import reporting
from mergekit_audio.errors import UsageError

if TYPE_CHECKING:
    from mergekit_audio.datasets._findings import Report
    from mergekit_audio.datasets.base import Dataset, PublicDataset


def _complete_name(incomplete: str) -> list[str]:
    from mergekit_audio.registry import names

    return [name for name in names("datasets") if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A dataset that `cmerge data ls` lists.",
        autocompletion=_complete_name,
        show_default=False,
    ),
]


def list_datasets(as_json: Json = False) -> None:
    """List the public corpora that can be imported, and the synthetic one.

    Example: cmerge data ls
    """
    from mergekit_audio.registry import discover

    rows = [_row(name, dataset) for name, dataset in discover("datasets").items()]
    Output(as_json).data(table(rows), rows)


def info(name: Name, as_json: Json = False) -> None:
    """Say what a corpus is, under which terms, what to fetch from where, and its labels.

    Example: cmerge data info makam
    """
    from mergekit_audio.datasets.base import PublicDataset
    from mergekit_audio.registry import lookup

    dataset = lookup("datasets", name)
    if issubclass(dataset, PublicDataset):
        value = _public_facts(dataset.model_validate({}))
        readable: dict[str, Any] = {**value, "fetch": _readable_sources(value["fetch"])}
    else:
        value = readable = _common_facts(name, dataset)
    Output(as_json).data(outline(readable), value)


def import_dataset(
    name: Name,
    raw: Annotated[
        Path,
        typer.Argument(
            metavar="RAW_FOLDER",
            help="What you downloaded, laid out as `cmerge data info NAME` says.",
            show_default=False,
        ),
    ],
    folder: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Gets manifest.jsonl and report.json; the audio stays where it is.",
            show_default=False,
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A setting of the dataset, e.g. label=pitch; `data info` lists them. Repeatable.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Files looked at side by side.")] = 1,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Bring a downloaded corpus into a folder that recipes take as `corpus`; nothing is downloaded.

    Missing and unreadable audio, unlabelled recordings and every difference from the published
    splits, counts and labels are listed, and do not stop the import. The same command resumes.

    Example: cmerge data import makam downloads/makam -o data/makam
    """
    from mergekit_audio.datasets._findings import Report
    from mergekit_audio.progress import ProgressEvent

    started = time.monotonic()
    output = Output(as_json, quiet)
    dataset = _public(name, settings or [])
    with reporting(enabled=not (quiet or no_progress)) as progress:
        if dry_run:
            task = f"read the metadata of {name}"
            progress(ProgressEvent(task, 0, 1, str(raw)))
            report = dataset.survey(raw)
            progress(ProgressEvent(task, 1, 1))
        else:
            manifest = dataset.import_from(raw, folder, progress, workers)
            report = Report.load(manifest.parent / "report.json")
    output.data(_text(report), {"folder": str(folder), **report.as_dict()})
    if dry_run:
        output.talk("dry run: no recording was opened, nothing was written")
        return
    output.closing(
        f"imported {report.usable} recordings",
        folder,
        time.monotonic() - started,
        f"read {shown(folder / 'report.json')}; give {shown(folder)} as `corpus` of a task",
    )


def _public(name: str, settings: list[str]) -> PublicDataset:
    from mergekit_audio.datasets.base import PublicDataset
    from mergekit_audio.registry import discover, lookup

    dataset = lookup("datasets", name)
    if not issubclass(dataset, PublicDataset):
        public = [
            each for each, kind in discover("datasets").items() if issubclass(kind, PublicDataset)
        ]
        raise UsageError(
            f"{name} is made, not imported (cmerge demo makes it)",
            f"the corpora to import are {', '.join(public)}",
        )
    return _configured(name, dataset, settings)


def _configured(name: str, dataset: type[PublicDataset], texts: list[str]) -> PublicDataset:
    """Return the dataset with the settings of ``--set``; every fault is told at once."""
    from pydantic import ValidationError

    from mergekit_audio.recipe.overrides import parse
    from mergekit_audio.registry import did_you_mean

    known = _settings(dataset)
    values = {".".join(map(str, change.path)): change.value for change in parse(texts)}
    faults = [
        f"--set {key}: no such setting"
        + (f"; {near}" if (near := did_you_mean(key, known)) else "")
        for key in values
        if key not in known
    ]
    if not faults:
        try:
            return dataset.model_validate(values)
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                key = ".".join(map(str, fault["loc"]))
                faults.append(f"--set{' ' if key else ''}{key}: {fault['msg']}")
    hint = f"the settings of {name} are {', '.join(known)}" if known else f"{name} has no settings"
    raise UsageError("\n".join(faults), hint)


def _settings(dataset: type[PublicDataset]) -> dict[str, str]:
    """Return what each setting says; a field that takes one value only is none."""
    return {
        name: " ".join((field.description or "").split())
        for name, field in dataset.model_fields.items()
        if name != "raw"
        and not (get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1)
    }


def _row(name: str, dataset: type[Dataset]) -> dict[str, Any]:
    from mergekit_audio.datasets.base import PublicDataset

    if not issubclass(dataset, PublicDataset):
        return {
            "name": name,
            "culture": "several",
            "kind": "tagging",
            "recordings": None,
            "labels": None,
            "licence": dataset.license,
        }
    one = dataset.model_validate({})
    return {
        "name": name,
        "culture": one.culture,
        "kind": one.kind,
        "recordings": sum(one.splits.values()) or None,
        "labels": len(one.labels()) or None,
        "licence": one.license,
    }


def _common_facts(name: str, dataset: type[Dataset]) -> dict[str, Any]:
    return {
        "name": name,
        "about": (dataset.__doc__ or "").strip().partition("\n")[0],
        "license": dataset.license,
        "terms": dataset.terms_url,
        "citation": dataset.citation,
    }


def _public_facts(dataset: PublicDataset) -> dict[str, Any]:
    name = str(dataset.model_dump()["name"])
    return {
        **_common_facts(name, type(dataset)),
        "title": dataset.title,
        "culture": dataset.culture,
        "western": dataset.western,
        "kind": dataset.kind,
        "splits": dict(dataset.splits),
        "max_duration_s": dataset.max_duration_s,
        "notes": dataset.notes,
        "settings": _settings(type(dataset)),
        "fetch": [
            {
                "what": source.what,
                "from": source.fetch,
                "place": source.place,
                "note": source.note,
            }
            for source in dataset.sources
        ],
        "sha256": dict(dataset.checksums),
        "labels": list(dataset.labels()),
        "import": f"cmerge data import {name} RAW_FOLDER -o FOLDER",
    }


def _readable_sources(sources: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    readable: dict[str, dict[str, str]] = {}
    for number, source in enumerate(sources, start=1):
        facts = {key: source[key] for key in ("from", "place", "note") if source[key]}
        readable[f"{number}. {source['what']}"] = facts
    return readable


def _text(report: Report) -> str:
    rows = [{"split": split, **counts} for split, counts in report.splits.items()]
    facts = {key: report.facts[key] for key in ("dataset", "license", "terms_url")}
    lines = report.lines()
    return "".join([outline(facts), table(rows), *(f"{line}\n" for line in lines)])
