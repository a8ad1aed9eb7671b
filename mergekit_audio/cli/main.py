"""The entry point `cmerge`: builds the command tree, and turns errors into text and exit codes."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from mergekit_audio import __version__
from mergekit_audio.cli import (
    ablation,
    data,
    demo,
    evaluate,
    extraction,
    inspection,
    measure,
    merge,
    recipes,
    release,
    similarity,
    sweep,
    train,
)
from mergekit_audio.cli.output import error_text
from mergekit_audio.errors import CmergeError, DependencyError, InputError, UsageError

DONE, INTERRUPTED = 0, 130
_WAIT_S = 10.0
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
_INTERRUPTED_TEXT = (
    "interrupted: unfinished output was removed; the same command goes on from what is finished\n"
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `cmerge` and leave the process with a documented exit code.

    0 done, 1 a bug, 2 usage, 3 recipe, 4 input, 5 verification, 6 dependency or hardware,
    130 interrupted. ``--traceback`` may stand anywhere on the line; ``CMERGE_DEBUG=1`` is the same.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    words, wants_traceback = _take_traceback(given)
    _prepare_process(wants_traceback)
    code = _run(words, wants_traceback)
    with contextlib.suppress(ValueError):
        code = _flush(code)
    sys.exit(code)


app = typer.Typer(
    name="cmerge",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: cmerge recipe cp culturemert_ta; cmerge merge culturemert_ta.yaml --dry-run",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"cmerge {__version__}\n")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
    show_traceback: Annotated[
        bool,
        typer.Option("--traceback", help="On an error show the traceback too (CMERGE_DEBUG=1)."),
    ] = False,
) -> None:
    """Continual pre-training, merging and probing of music models across musical traditions."""


app.command("demo", rich_help_panel="Start")(demo.demo)
app.add_typer(data.app, name="data", rich_help_panel="Start")
app.add_typer(recipes.app, name="recipe", rich_help_panel="Start")
app.command("train-culture", rich_help_panel="Train")(train.train_culture)
app.command("train-multi", rich_help_panel="Train")(train.train_multi)
app.command("ablation", rich_help_panel="Train")(ablation.ablation)
app.command("merge", rich_help_panel="Merge")(merge.merge)
app.command("sweep-lambda", rich_help_panel="Merge")(sweep.sweep_lambda)
app.command("measure", rich_help_panel="Merge")(measure.measure)
app.command("inspect", rich_help_panel="Merge")(inspection.inspect)
app.command("extract-lora", rich_help_panel="Merge")(extraction.extract_lora)
app.command("evaluate", rich_help_panel="Evaluate")(evaluate.evaluate)
app.command("similarity", rich_help_panel="Evaluate")(similarity.similarity)
app.command("verify", rich_help_panel="Release")(release.verify)


def _run(words: Sequence[str], wants_traceback: bool) -> int:
    """Return the exit code of one command line; errors are written to stderr."""
    try:
        _require_one_process(words)
        status = app(args=list(words), prog_name="cmerge", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except BrokenPipeError:
        _close_stdout()
        return DONE
    except Exception as error:
        explained = _explained(error)
        if _is_left_to_another():
            return _await_end(explained.exit_code)
        if wants_traceback:
            traceback.print_exc()
        sys.stderr.write(error_text(explained))
        return explained.exit_code
    if status == INTERRUPTED:
        return _interrupted()
    return status if isinstance(status, int) else DONE


def _require_one_process(words: Sequence[str]) -> None:
    """Raise ``UsageError`` when torchrun started many processes for what only one can do."""
    count = os.environ.get("WORLD_SIZE", "1")
    if count != "1" and not {"train-culture", "train-multi", "--help"} & set(words):
        raise UsageError(
            f"started as {count} processes, and only trainings run in more than one",
            "leave out torchrun; train first with torchrun -m mergekit_audio train-culture …",
        )


def _is_left_to_another() -> bool:
    """Whether another process says the same error: all find it that did not train together yet.

    The first process of each machine speaks, since a file may be missing on one machine alone.
    """
    distributed = sys.modules.get("torch.distributed")
    together = distributed is not None and distributed.is_initialized()
    return not together and os.environ.get("LOCAL_RANK", "0") != "0"


def _await_end(code: int) -> int:
    """Let the first process speak: torchrun ends all processes when one is gone."""
    with contextlib.suppress(KeyboardInterrupt):
        time.sleep(_WAIT_S)
    return code


def _interrupted() -> int:
    if os.environ.get("LOCAL_RANK", "0") == "0":
        sys.stderr.write(_INTERRUPTED_TEXT)
    return INTERRUPTED


def _explained(error: Exception) -> CmergeError:
    """Return the error for people: its own words if it has any, else what kind of thing it is."""
    if isinstance(error, CmergeError):
        return error
    if (usage := _usage_error(error)) is not None:
        return usage
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return InputError(
            f"{error.filename or 'output'}: {os.strerror(error.errno)}",
            "free some space, check the folder's permissions, or write somewhere else",
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return DependencyError(
            f"out of memory: {error}".rstrip(": "),
            "use a smaller batch (--set arguments.batch_size=1), or a machine with more memory",
        )
    if isinstance(error, ModuleNotFoundError) and error.name and "mergekit_audio" not in error.name:
        return DependencyError(
            f"the package {error.name!r} is not installed", f"pip install {error.name}"
        )
    return CmergeError(
        f"internal error: {type(error).__name__}: {error}",
        "this is a bug of mergekit_audio: run the command again with --traceback and report it",
    )


def _usage_error(error: Exception) -> UsageError | None:
    """Return Typer's own complaint about a command line (its class differs between versions)."""
    describe = getattr(error, "format_message", None)
    if describe is None or getattr(error, "exit_code", None) != UsageError.exit_code:
        return None
    context: Any = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "cmerge"
    message = str(describe())
    if not message:
        message = f"{command}: a command is missing"
    return UsageError(message, f"`{command} --help` shows what it takes")


def _take_traceback(words: Sequence[str]) -> tuple[list[str], bool]:
    """Take ``--traceback`` out of a command line, wherever it stands before ``--``."""
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != "--traceback"]
    wanted = len(kept) < end or os.environ.get("CMERGE_DEBUG", "") not in ("", "0")
    return [*kept, *words[end:]], wanted


def _prepare_process(wants_traceback: bool) -> None:
    """Let a plain kill clean up like Ctrl-C, write any text anywhere, keep libraries quiet."""
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if not wants_traceback:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def _interrupt(signal_number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _flush(code: int) -> int:
    """Flush stdout; a reader that went away (``| head``) is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _close_stdout()
    return code


def _close_stdout() -> None:
    """Point stdout to nothing, so that Python's own flush at exit says nothing either."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
