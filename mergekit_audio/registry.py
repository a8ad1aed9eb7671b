"""Find the plug-ins of a family: one module, one class, one name."""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any

from mergekit_audio.errors import UsageError

FAMILIES = ("methods", "backbones", "teachers", "datasets", "transfers")
NOT_PLUGINS = ("base", "ops")


@functools.cache
def discover(family: str) -> dict[str, type[Any]]:
    """Return the plug-in classes of a family by name, sorted.

    A plug-in is a module of ``mergekit_audio.<family>`` (not ``base``, not ``ops``, not starting
    with an underscore) that holds exactly one class whose ``name`` field is a ``Literal`` of the
    module's name.

    Raises
    ------
    TypeError
        A module holds no such class, or more than one (a bug of the plug-in).
    """
    package = importlib.import_module(f"mergekit_audio.{family}")
    found: dict[str, type[Any]] = {}
    for module_info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        if module_info.name.startswith("_") or module_info.name in NOT_PLUGINS:
            continue
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        classes = [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and value.__module__ == module.__name__
            and _plugin_name(value) == module_info.name
        ]
        if len(classes) != 1:
            raise TypeError(f"{module.__name__}: expected one plug-in class, found {len(classes)}")
        found[module_info.name] = classes[0]
    return found


def lookup(family: str, name: str) -> type[Any]:
    """Return one plug-in class, or raise ``UsageError`` with the nearest name."""
    plugins = discover(family)
    if name not in plugins:
        raise UsageError(
            f"{name!r} is not one of the {family}: {', '.join(plugins)}",
            did_you_mean(name, plugins),
        )
    return plugins[name]


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the nearest candidate, or an empty text."""
    near = difflib.get_close_matches(word, sorted(candidates), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""


def _plugin_name(value: type[Any]) -> str | None:
    field = getattr(value, "model_fields", {}).get("name")
    arguments: tuple[Any, ...] = getattr(getattr(field, "annotation", None), "__args__", ())
    return arguments[0] if len(arguments) == 1 and isinstance(arguments[0], str) else None
