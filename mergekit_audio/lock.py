"""The lock of an output folder: what it was made of, what came out, does that still hold."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ValidationError

from mergekit_audio import __version__
from mergekit_audio.audio.corpus import from_printable
from mergekit_audio.errors import InputError, VerificationError
from mergekit_audio.files import canonical_json, sha256_of_file, sha256_of_text, write_json
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.recipe.base import Strict

LOCK_NAME = "cmerge.lock.json"
NOT_LOCKED = (LOCK_NAME, "logs")
_PACKAGES = (
    "torch",
    "numpy",
    "array-api-compat",
    "blake3",
    "safetensors",
    "transformers",
    "accelerate",
    "scikit-learn",
    "scipy",
    "soundfile",
    "soxr",
)
_MISSING = "not found"


@dataclass(frozen=True, order=True)
class Difference:
    """One thing that is not as the lock says."""

    what: Literal["environment", "input", "output", "recipe"]
    name: str
    expected: str
    found: str

    def __str__(self) -> str:
        found = self.found if self.found == _MISSING else f"found {self.found}"
        return f"{self.what} {self.name}: expected {self.expected}, {found}"


def verify(folder: Path, progress: Progress = silent) -> list[Difference]:
    """Compare an output folder, its recipe and its inputs with the lock and return what differs.

    Outputs: each locked file's sha256, and files that the lock does not know (hidden files and
    ``logs/`` aside). Inputs: each locked file where it was read from, relative to the recipe's
    folder or in the hub's cache. The environment is not compared.

    Raises
    ------
    InputError
        The folder has no lock, or the lock can't be read.
    """
    folder = Path(folder)
    lock = read_lock(folder)
    differences = verify_recipe(lock)
    differences += compare_outputs(lock.outputs, hash_outputs(folder, progress=progress))
    differences += verify_inputs(folder, lock, progress)
    return sorted(differences)


def verify_recipe(lock: Lock) -> list[Difference]:
    """Return where the locked recipe is not what the lock says of it, sorted."""
    said = {"recipe_digest": lock.recipe_digest, "kind": lock.kind, "seed": lock.seed}
    found = {
        "recipe_digest": recipe_digest(lock.recipe),
        "kind": lock.recipe.get("kind"),
        "seed": lock.recipe.get("seed"),
    }
    return [
        Difference("recipe", key, str(said[key]), str(found[key]))
        for key in sorted(said)
        if said[key] != found[key]
    ]


def verify_inputs(folder: Path, lock: Lock, progress: Progress = silent) -> list[Difference]:
    """Return the locked inputs whose files are gone or changed, sorted."""
    root = recipe_root(folder, lock)
    differences: list[Difference] = []
    for done, entry in enumerate(lock.inputs):
        progress(ProgressEvent("check inputs", done, len(lock.inputs), entry.source))
        where = _locate(entry.source, root)
        if where is None:
            differences.append(
                Difference(
                    "input", f"{entry.name} ({entry.source})", entry.content_digest, _MISSING
                )
            )
            continue
        for name, expected in sorted(entry.files.items()):
            path = where / name if (where / name).is_file() else where / from_printable(name)
            found = sha256_of_file(path) if path.is_file() else _MISSING
            if found != expected:
                label = f"{entry.name} ({entry.source}) {name}"
                differences.append(Difference("input", label, expected, found))
    progress(ProgressEvent("check inputs", len(lock.inputs), len(lock.inputs)))
    return sorted(differences)


def compare_outputs(expected: Mapping[str, str], found: Mapping[str, str]) -> list[Difference]:
    """Return the files whose digests differ, or that only one side has, sorted by name."""
    return [
        Difference("output", name, expected.get(name, "no such file"), found.get(name, _MISSING))
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]


def raise_differences(folder: Path, differences: Sequence[Difference]) -> None:
    """Raise ``VerificationError`` naming every difference; do nothing when there is none."""
    if not differences:
        return
    count = f"{len(differences)} difference" + ("s" if len(differences) > 1 else "")
    lines = [f"{folder}: {count} from {LOCK_NAME}", *(f"  {each}" for each in differences)]
    hint = "run the recipe again with --force, or restore the files named above"
    if all(each.what == "input" and each.found == _MISSING for each in differences):
        hint = (
            "inputs are looked for where they lay seen from this folder: if it was moved or copied "
            "alone, put it back beside them"
        )
    raise VerificationError("\n".join(lines), hint)


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts:
        raise ValueError(f"{name!r} is not a file inside the folder")
    return name


FileName = Annotated[str, AfterValidator(_inside)]


class LockedInput(Strict):
    """Something that was read: a checkpoint or a corpus."""

    name: str
    """Its place in the recipe: `base`, `models[0]`, `corpus.makam`."""
    source: str
    """As the recipe writes it: a path relative to the recipe's folder, or a hub repo id."""
    content_digest: str
    """sha256 of the content, whatever the files' number and format."""
    files: dict[FileName, str]
    """sha256 of each file, by its name inside the source's folder (or beside the source file)."""


class Lock(Strict):
    """What an output folder was made of and what it holds."""

    tool_version: str
    """The version of mergekit_audio."""
    kind: str
    """The recipe's kind."""
    recipe: dict[str, Any]
    """The validated recipe with all defaults; the models of a merge in order of their content."""
    recipe_digest: str
    """sha256 of the recipe's canonical JSON."""
    overrides: list[str]
    """The `--set` values that went into the recipe."""
    recipe_root: str
    """The folder that the recipe's paths are relative to, seen from the output folder."""
    seed: int | None
    """The recipe's seed."""
    inputs: list[LockedInput]
    """What was read."""
    outputs: dict[FileName, str]
    """sha256 of each file of the folder but the lock, hidden files and `logs/`."""
    environment: dict[str, str]
    """Versions of Python and of the packages that compute; recorded, not compared."""
    command: str
    """The command that made the folder."""


def make_lock(
    staging: Path,
    *,
    target: Path,
    recipe: Mapping[str, Any],
    root: Path,
    inputs: Iterable[LockedInput],
    overrides: Sequence[str] = (),
    command: str = "",
    known: Mapping[str, str] | None = None,
) -> Lock:
    """Return the lock of the files in ``staging``, which are to be found at ``target``.

    Parameters
    ----------
    staging
        The folder that holds the outputs now.
    target
        The folder's final place; ``recipe_root`` is seen from there.
    recipe
        The validated recipe as JSON values.
    root
        The folder that the recipe's paths are relative to.
    known
        sha256 of files that were hashed while they were written, by name.
    """
    return Lock(
        tool_version=__version__,
        kind=recipe["kind"],
        recipe=dict(recipe),
        recipe_digest=recipe_digest(recipe),
        overrides=list(overrides),
        recipe_root=Path(os.path.relpath(root.resolve(), target.resolve())).as_posix(),
        seed=recipe.get("seed"),
        inputs=list(inputs),
        outputs=hash_outputs(staging, known=known),
        environment=environment(),
        command=command,
    )


def write_lock(folder: Path, lock: Lock) -> Path:
    """Write ``cmerge.lock.json`` and return its path."""
    path = folder / LOCK_NAME
    write_json(path, lock.model_dump(mode="json"))
    return path


def read_lock(folder: Path) -> Lock:
    """Read ``cmerge.lock.json``.

    Raises
    ------
    InputError
        There is none, or it is not a lock.
    """
    path = Path(folder) / LOCK_NAME
    hint = "give a folder that cmerge wrote, or make it again from its recipe"
    try:
        return Lock.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: there is no lock here", hint) from None
    except ValidationError as error:
        faults = [
            f"{path}: {'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise InputError("\n".join(faults), hint) from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}", hint) from None


def hash_outputs(
    folder: Path,
    exclude: Sequence[str] = NOT_LOCKED,
    progress: Progress = silent,
    known: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return sha256 by relative name of the folder's files, hidden and excluded ones aside.

    ``known`` holds those that need not be read again.
    """
    known = known or {}
    paths = [
        path
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and not _is_left_out(path.relative_to(folder).parts, exclude)
    ]
    digests: dict[str, str] = {}
    for done, path in enumerate(paths):
        name = path.relative_to(folder).as_posix()
        progress(ProgressEvent("check outputs", done, len(paths), name))
        digests[name] = known.get(name) or sha256_of_file(path)
    progress(ProgressEvent("check outputs", len(paths), len(paths)))
    return dict(sorted(digests.items()))


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    """Return the sha256 of a recipe's canonical JSON."""
    return sha256_of_text(canonical_json(recipe))


def recipe_root(folder: Path, lock: Lock) -> Path:
    """Return the folder that the locked recipe's paths are relative to."""
    return (Path(folder).resolve() / lock.recipe_root).resolve()


def environment() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute, without importing them."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


@functools.cache
def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _is_left_out(parts: Sequence[str], exclude: Sequence[str]) -> bool:
    return parts[0] in exclude or any(part.startswith(".") for part in parts)


def _locate(source: str, root: Path) -> Path | None:
    path = root / Path(source).expanduser()
    if path.exists():
        return path if path.is_dir() else path.parent
    from mergekit_audio.weights.hub import resolve

    try:
        return resolve(source, root)
    except InputError:
        return None
