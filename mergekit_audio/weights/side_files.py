"""What a model folder holds beside its weights and what a merge carries over from the base."""

from __future__ import annotations

import ast
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mergekit_audio.errors import InputError
from mergekit_audio.files import staged_file
from mergekit_audio.weights.strict_json import parse_object

SIDE_PATTERNS = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "feature_extractor_config.json",
    "image_processor_config.json",
    "video_preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "vocab",
    "merges.txt",
    "normalizer.json",
    "*.model",
    "*.tiktoken",
    "chat_template.*",
    "additional_chat_templates/*.jinja",
)
"""Globs of configs and of what turns audio and text into the model's input."""

CODE_PATTERN = "*.py"
"""Custom code; of a folder's own, only what `auto_map` names and what that imports is carried."""

_CONFIGS_WITH_CODE = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
)


def side_files(folder: Path, *, complete: bool = True) -> list[Path]:
    """Return what is carried from a base's folder to the output, sorted.

    Configs, tokenizer and feature extractor files, and the modules that ``auto_map`` of a config
    names with those that they import from their own folder. No weights, model card, lock or log.

    Parameters
    ----------
    folder
        A model's folder.
    complete
        Refuse a folder whose code is not all there; otherwise its code is left out, as nothing can
        be made of it.

    Raises
    ------
    InputError
        A config is not JSON, or names code that is not there (and it must be complete).
    """
    folder = Path(folder)
    found = {path for pattern in SIDE_PATTERNS for path in folder.glob(pattern) if path.is_file()}
    with contextlib.nullcontext() if complete else contextlib.suppress(InputError):
        found |= set(custom_code(folder))
    return sorted(found)


def copy_side_files(base_folder: Path, target: Path) -> list[Path]:
    """Copy the side files of a base into a folder, each under a temporary name first.

    Raises
    ------
    InputError
        A config is not JSON or names code that is not there, or the target can't be written.
    """
    copied = []
    for source in side_files(base_folder):
        place = target / source.relative_to(base_folder)
        with staged_file(place) as staging:
            shutil.copyfile(source, staging)
        copied.append(place)
    return copied


def custom_code(folder: Path) -> list[Path]:
    """Return the modules that a folder's configs name and what these import from it, sorted.

    Raises
    ------
    InputError
        A config is not JSON, or names code that is not there.
    """
    waiting = [
        (folder.joinpath(*module.split(".")).with_suffix(".py"), config)
        for config, module in _named_modules(folder)
    ]
    found: dict[Path, None] = {}
    while waiting:
        path, asker = waiting.pop()
        if path in found:
            continue
        if not path.is_relative_to(folder) or not path.is_file():
            raise InputError(
                f"{path}: not in the model's folder, though {asker} asks for it",
                "download or copy the folder again, with its .py files",
            )
        found[path] = None
        waiting += [(each, path) for each in _relative_imports(folder, path)]
    return sorted(found)


def _named_modules(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield (config, module) of every class that ``auto_map`` takes from the folder itself."""
    for name in _CONFIGS_WITH_CODE:
        path = folder / name
        if not path.is_file():
            continue
        for reference in _references(_read(path).get("auto_map")):
            # "org/name--module.Class" is the code of another repo, which the hub brings.
            if "--" in reference:
                continue
            module, _, class_name = reference.rpartition(".")
            if not all(word.isidentifier() for word in [*module.split("."), class_name]):
                raise InputError(
                    f"{path}: auto_map names {reference!r}, expected module.Class",
                    f"download or copy {path.name} again",
                )
            yield path, module


def _references(auto_map: Any) -> Iterator[str]:
    values = auto_map.values() if isinstance(auto_map, dict) else [auto_map]
    for value in values:
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str):
                yield each


def _relative_imports(root: Path, path: Path) -> list[Path]:
    """Return the files that ``from .module import …`` of a module reads; it is not run."""
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:
        raise InputError(
            f"{path}: not Python ({error})", "download or copy the folder again"
        ) from None
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        levels_up = node.level - 1
        if levels_up > len(path.relative_to(root).parents) - 1:
            raise InputError(
                f"{path}:{node.lineno}: imports from outside the model's folder",
                "don't use this checkpoint unless you know who made it",
            )
        package = path.parents[levels_up]
        if node.module:
            found.append(_module_file(package.joinpath(*node.module.split("."))))
        else:  # from . import configuration, modeling
            found += [_submodule(package, alias.name) for alias in node.names]
    return found


def _submodule(package: Path, name: str) -> Path:
    """Return the file of ``from . import name``: a module, or a name of the package's own."""
    module, own = _module_file(package / name), package / "__init__.py"
    return own if own.is_file() and not module.is_file() else module


def _module_file(place: Path) -> Path:
    package = place / "__init__.py"
    return package if package.is_file() else place.with_suffix(".py")


def _read(path: Path) -> dict[str, Any]:
    try:
        return parse_object(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: {error}", f"download or copy {path.name} again") from None
