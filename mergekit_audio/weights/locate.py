"""Find the weight files of a model folder, by name or through its shard index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from mergekit_audio.errors import InputError
from mergekit_audio.weights.shards import FileFormat
from mergekit_audio.weights.strict_json import parse_object

INDEX_SUFFIX = ".index.json"

# The first pair of which one exists counts, as in transformers.
_NAMED: tuple[tuple[str, FileFormat], ...] = (
    ("model.safetensors", "safetensors"),
    ("pytorch_model.bin", "torch"),
)
_LONE: tuple[tuple[tuple[str, ...], FileFormat], ...] = (
    (("*.safetensors",), "safetensors"),
    (("*.bin", "*.pt", "*.pth"), "torch"),
)
_TORCH_SUFFIXES = (".bin", ".pt", ".pth")


@dataclass(frozen=True)
class WeightFiles:
    """The weight files of one checkpoint.

    Parameters
    ----------
    folder
        Where they are.
    weights
        The files that hold tensors, sorted.
    file_format
        How they are read.
    index_file, weight_map
        The shard index and what it says (stored tensor name -> file); None without an index.
    """

    folder: Path
    weights: tuple[Path, ...]
    file_format: FileFormat
    index_file: Path | None = None
    weight_map: Mapping[str, Path] | None = None


def find_weights(path: Path) -> WeightFiles:
    """Return the weight files of a folder, or the file itself.

    In a folder: ``model.safetensors`` or its index, else ``pytorch_model.bin`` or its index, else
    the only ``*.safetensors`` file, else the only ``*.bin``, ``*.pt`` or ``*.pth`` file.

    Raises
    ------
    InputError
        There are no weights or two sets of them, or the index is damaged, names a file outside the
        folder or one that is missing.
    """
    if not path.is_dir():
        return _single(path)
    for name, file_format in _NAMED:
        single, index_file = path / name, path / (name + INDEX_SUFFIX)
        if single.is_file() and index_file.is_file():
            raise InputError(
                f"{path}: holds two sets of weights, {name} and {index_file.name}",
                f"give the file itself ({single}), or remove the set that is out of date",
            )
        if single.is_file():
            return WeightFiles(path, (single,), file_format)
        if index_file.is_file():
            return _sharded(path, index_file, file_format)
    return _lone(path)


def _single(path: Path) -> WeightFiles:
    if path.name.endswith(INDEX_SUFFIX):
        safe = path.name.endswith(".safetensors" + INDEX_SUFFIX)
        return _sharded(path.parent, path, "safetensors" if safe else "torch")
    if path.suffix == ".safetensors":
        return WeightFiles(path.parent, (path,), "safetensors")
    if path.suffix in _TORCH_SUFFIXES:
        return WeightFiles(path.parent, (path,), "torch")
    raise InputError(
        f"{path}: not a weight file; expected .safetensors, .bin, .pt or .pth",
        "give a model folder, or the weight file in it",
    )


def _lone(folder: Path) -> WeightFiles:
    for patterns, file_format in _LONE:
        found = sorted(path for pattern in patterns for path in folder.glob(pattern))
        if len(found) == 1:
            return WeightFiles(folder, (found[0],), file_format)
        if found:
            raise InputError(
                f"{folder}: several weight files and no index: "
                + ", ".join(path.name for path in found),
                "give the file itself, or name the right one model.safetensors",
            )
    raise InputError(
        f"{folder}: no weights here; expected model.safetensors, model.safetensors.index.json or "
        "pytorch_model.bin",
        "give the folder that holds them",
    )


def _sharded(folder: Path, index_file: Path, file_format: FileFormat) -> WeightFiles:
    weight_map = _read_weight_map(index_file)
    files = {name: _inside(folder, index_file, file) for name, file in weight_map.items()}
    shards = tuple(sorted(set(files.values())))
    missing = [path for path in shards if not path.is_file()]
    if missing:
        raise InputError(
            "\n".join(f"{path}: missing, though {index_file.name} names it" for path in missing),
            "download or copy the folder again",
        )
    return WeightFiles(folder, shards, file_format, index_file, files)


def _read_weight_map(index_file: Path) -> dict[str, Any]:
    hint = "download or copy the index again"
    try:
        content = parse_object(index_file.read_bytes())
    except OSError as error:
        raise InputError(f"{index_file}: can't be read ({error.strerror})", hint) from error
    except ValueError as error:
        raise InputError(f"{index_file}: {error}", hint) from None
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index_file}: expected a weight_map that maps tensors to files", hint)
    return weight_map


def _inside(folder: Path, index_file: Path, name: Any) -> Path:
    """Return the path of a shard; judged as text, since the hub's cache is all links."""
    if isinstance(name, str) and name and "\\" not in name:
        posix = PurePosixPath(name)
        inside = posix.parts and not posix.is_absolute() and ".." not in posix.parts
        if inside and name.isprintable() and not PureWindowsPath(name).drive:
            return folder / posix
    raise InputError(
        f"{index_file}: names the shard {name!r}, which is not a file inside the folder",
        "don't use this checkpoint unless you know who made it",
    )
