"""Commands of the group `data`: ls, info and import of public corpora, prepare."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from mergekit_audio.cli import datasets
from mergekit_audio.cli.options import DryRun, Json, NoProgress, Quiet
from mergekit_audio.cli.output import Output, outline, shown
from mergekit_audio.cli.progress import reporting
from mergekit_audio.progress import ProgressEvent

DEFAULT_STORE = Path(".cmerge_store")
"""The name that recipes use when they give no `store`."""

app = typer.Typer(no_args_is_help=True, help="Import public corpora; decode recordings once.")
app.command("ls")(datasets.list_datasets)
app.command("info")(datasets.info)
app.command("import")(datasets.import_dataset)


@app.callback()
def group() -> None:
    """Import public corpora; decode recordings once, for training and probing."""


@app.command()
def prepare(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR_OR_MANIFEST",
            help="A folder of recordings (wav, flac, ogg, mp3), or a JSONL or CSV manifest.",
            show_default=False,
        ),
    ],
    store: Annotated[
        Path, typer.Option(help="The prepared store; recipes look beside their own file.")
    ] = DEFAULT_STORE,
    sample_rate_hz: Annotated[
        int, typer.Option("--sample-rate", min=1, help="Samples a second; MERT takes 24000.")
    ] = 24_000,
    workers: Annotated[int, typer.Option(min=1, help="Files decoded side by side.")] = 1,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Decode and resample recordings into a store, and list what can't be used.

    A second call does not decode anything again. Files that can't be used are listed, and do not
    stop the run.

    Example: cmerge data prepare recordings/makam --workers 4
    """
    from mergekit_audio.audio.corpus import load_tracks

    started = time.monotonic()
    output = Output(as_json, quiet)
    findings: list[str] = []
    with reporting(enabled=not (quiet or no_progress)) as progress:
        if dry_run:
            progress(ProgressEvent("read the list of recordings", 0, 1, str(source)))
            value = _listing(load_tracks(source), source, store)
            progress(ProgressEvent("read the list of recordings", 1, 1))
        else:
            from mergekit_audio.audio.store import Store

            corpus = Store(store).prepare(
                source, sample_rate_hz=sample_rate_hz, workers=workers, progress=progress
            )
            value = {
                "source": str(source),
                "store": str(store),
                "sample_rate_hz": corpus.sample_rate_hz,
                "tracks": len(corpus.tracks),
                "hours": corpus.hours,
                "digest": corpus.digest,
                "counts": corpus.report.counts(),
                "report": corpus.report.as_dict(),
            }
            findings = corpus.report.lines()
    facts = {key: item for key, item in value.items() if key != "report"}
    output.data("\n".join([outline(facts).rstrip(), *findings]), value)
    if dry_run:
        output.talk("dry run: nothing was decoded")
        return
    output.closing(
        f"prepared {value['tracks']} recordings, {value['hours']:.2f} h",
        store,
        time.monotonic() - started,
        f"give {shown(source)} as `corpus` and {shown(store)} as `store` in a train recipe",
    )


def _listing(tracks: list[Any], source: Path, store: Path) -> dict[str, Any]:
    return {
        "source": str(source),
        "store": str(store),
        "tracks": len(tracks),
        "splits": sorted({track.split for track in tracks if track.split}),
        "tracks_without_tags": sum(not track.tags for track in tracks),
        "ids": [track.id for track in tracks],
    }
