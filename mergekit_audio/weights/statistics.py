"""Read what was measured of a model on audio: Gram matrices and Fisher information by tensor."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_audio.errors import InputError
from mergekit_audio.registry import did_you_mean
from mergekit_audio.weights.keys import canonical_name

if TYPE_CHECKING:
    import numpy as np

STATISTICS_STEM = "statistics"
STATISTICS_NAME = f"{STATISTICS_STEM}.safetensors"
FACTS_KEY = "measured"
"""The metadata entry that holds, as JSON, what the numbers were measured of and how."""
FACTS_NAME = "measure.json"
"""The same for people, beside the numbers."""
_HINT = "make it again: cmerge measure RECIPE --force"


@dataclass(frozen=True)
class Statistics:
    """The statistics of one model.

    Parameters
    ----------
    path
        The file that holds them.
    model_digest
        The content digest of the model that they were measured of.
    kinds
        What there is: ``fisher``, ``gram``, ``gram_merged``; sorted.
    facts
        What they were measured of and how, as ``measure.json`` says.
    names
        The canonical tensor names of each kind, sorted.
    """

    path: Path
    model_digest: str
    kinds: tuple[str, ...]
    facts: Mapping[str, Any]
    names: Mapping[str, tuple[str, ...]]

    def read(self, kind: str, name: str) -> np.ndarray | None:
        """Return the statistic of one tensor, float32, or None where there is none.

        ``fisher`` has the tensor's shape, a Gram ``[in, in]``.

        Parameters
        ----------
        kind
            One of ``kinds``.
        name
            The tensor's name, in either spelling of a weight norm.

        Raises
        ------
        InputError
            The file is damaged, or a value is not finite.
        """
        import numpy as np

        canonical = canonical_name(name)
        if canonical not in self.names.get(kind, ()):
            return None
        with _opened(self.path) as file:
            values: np.ndarray = file.get_tensor(f"{kind}/{canonical}")
        if not np.isfinite(values).all():
            raise InputError(f"{self.path}: {kind}/{canonical} is not finite", _HINT)
        return values

    def files(self) -> list[Path]:
        """Return the files that were read, for the lock."""
        return [self.path]

    def require(self, kinds: Sequence[str], digest: str, model: str) -> None:
        """Raise ``InputError`` unless these are all ``kinds`` of the model with this digest.

        Parameters
        ----------
        kinds
            What the merge method needs.
        digest
            The model's content digest.
        model
            What the recipe calls it.
        """
        if missing := [kind for kind in kinds if kind not in self.kinds]:
            raise InputError(
                f"{self.path}: holds {', '.join(self.kinds)}, but not {', '.join(missing)}",
                f"measure {model} with statistics: [{', '.join(kinds)}]",
            )
        if digest != self.model_digest:
            raise InputError(
                f"{self.path}: measured of a model of content {self.model_digest[:12]}, but "
                f"{model} has {digest[:12]}",
                f"measure {model} itself, or name the statistics that belong to it",
            )


def open_statistics(folder: Path) -> Statistics:
    """Read what a folder of ``cmerge measure`` holds; the numbers are read when asked for.

    Parameters
    ----------
    folder
        The folder, or ``statistics.safetensors`` in it.

    Raises
    ------
    InputError
        There are no statistics here, or the file is damaged.
    """
    folder = Path(folder)
    path = folder / STATISTICS_NAME if folder.is_dir() else folder
    if not path.is_file():
        raise _missing(folder)
    with _opened(path) as file:
        keys = sorted(file.keys())
        text = (file.metadata() or {}).get(FACTS_KEY, "")
    try:
        facts = json.loads(text)
        model_digest = facts["model_digest"]
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}: says not which model it was measured of; expected a file that cmerge wrote",
            "make it with cmerge measure",
        ) from None
    names: dict[str, tuple[str, ...]] = {}
    for key in keys:
        kind, _, name = key.partition("/")
        names[kind] = (*names.get(kind, ()), name)
    return Statistics(path, model_digest, tuple(sorted(names)), facts, names)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged or unreadable ({error})", _HINT) from error


def _missing(folder: Path) -> InputError:
    inside = sorted(path.parent.name for path in folder.glob(f"*/{STATISTICS_NAME}"))
    if inside:
        return InputError(
            f"{folder}: holds the statistics of several models: {', '.join(inside)}",
            f"name one of them: {folder / inside[0]}",
        )
    near = ""
    if folder.parent.is_dir():
        near = did_you_mean(folder.name, [each.name for each in sorted(folder.parent.iterdir())])
    hint = "make them: cmerge measure RECIPE (cmerge recipe ls lists examples)"
    return InputError(f"{folder}: no {STATISTICS_NAME} here", f"{near} {hint}".strip())
