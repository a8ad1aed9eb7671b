"""Go through a file of ``torch.save`` within bounds before ``torch.load`` reads it without any."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from mergekit_audio.errors import InputError
from mergekit_audio.weights._pickle_machine import Function, ordered_dict, run_program
from mergekit_audio.weights._pickled_tensor import DAMAGED
from mergekit_audio.weights._placeholder import PlaceholderClass, shown
from mergekit_audio.weights._restricted_pickle import (
    LEGACY_MAGIC,
    PROGRAM_LIMIT,
    ZIP_START,
    content_of,
)

_LEGACY_PICKLES = 5
_CALLED_BY_TORCH = ("Counter", "bytearray", "complex", "encode", "set")
_WIDEST = 64


def require_tame(path: Path) -> None:
    """Go through a file of ``torch.save`` as ``torch.load`` would, building nothing.

    ``weights_only`` keeps code from running; but a tuple nested deeply enough, as a key, ends the
    process, and chosen keys, sets or compressed parts cost hours or all memory.

    Raises
    ------
    InputError
        The file is damaged or goes beyond what tensors need.
    """
    try:
        with open(path, "rb") as stream:
            if stream.read(len(ZIP_START)) == ZIP_START:
                program = io.BytesIO(_tame_program(path))
                _go_through(program)
                return
            stream.seek(0)
            if _go_through(stream) != LEGACY_MAGIC:
                return  # torch reads this far and refuses it
            for _ in range(_LEGACY_PICKLES - 1):
                _go_through(stream)
    except (OSError, InputError):
        raise
    except Exception as error:  # a damaged pickle can raise anything
        first = shown((str(error).splitlines() or [""])[0], 200)
        raise InputError(
            f"{path}: damaged, or not a PyTorch checkpoint of plain tensors "
            f"({type(error).__name__}: {first})",
            DAMAGED,
        ) from error


def _tame_program(path: Path) -> bytes:
    """Return the one program of an archive in which nothing is compressed."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        size = path.stat().st_size
        if any(
            each.compress_type != zipfile.ZIP_STORED or each.file_size > size for each in entries
        ):
            raise pickle.UnpicklingError("a part that is compressed or larger than the file")
        # torch finds its parts whatever the case of their names
        programs = [each for each in entries if each.filename.lower().endswith("data.pkl")]
        if len(programs) != 1:
            raise pickle.UnpicklingError(f"{len(programs)} parts data.pkl, expected one")
        return content_of(archive, programs[0], PROGRAM_LIMIT)


def _names() -> Callable[[str, str], Any]:
    """Return what says what stands for a name: torch.load tells which names it refuses."""
    used: dict[int, Any] = {}

    def ordered_dict_once(pairs: Any = None) -> Any:
        """Torch would copy a list that is given again and again, and each copy costs its length."""
        if pairs is not None and id(pairs) in used:
            raise pickle.UnpicklingError("items that are used twice")
        used[id(pairs)] = pairs
        return ordered_dict(pairs)

    def find(module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return Function(ordered_dict_once)
        if not module.startswith("torch") and name in _CALLED_BY_TORCH:
            raise pickle.UnpicklingError(f"{name}, which no tensor needs")
        return PlaceholderClass(f"{module}.{name}")

    return find


def _go_through(stream: BinaryIO | io.BytesIO) -> Any:
    return run_program(stream, _names(), lambda identity: None, widest=_WIDEST)
