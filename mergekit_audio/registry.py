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
    return {name: lookup(family, name) for name in names(family)}


@functools.cache
def names(family: str) -> tuple[str, ...]:
    """Return the names of a family's plug-ins, sorted, without importing them."""
    package = importlib.import_module(f"mergekit_audio.{family}")
    modules = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    return tuple(name for name in modules if not name.startswith("_") and name not in NOT_PLUGINS)


@functools.cache
def lookup(family: str, name: str) -> type[Any]:
    """Import and return one plug-in class.

    Raises
    ------
    UsageError
        There is no such plug-in; with the nearest name.
    TypeError
        The module holds no plug-in class, or more than one (a bug of the plug-in).
    """
    known = names(family)
    if name not in known:
        raise UsageError(
            f"{name!r} is not one of the {family}: {', '.join(known)}", did_you_mean(name, known)
        )
    module = importlib.import_module(f"mergekit_audio.{family}.{name}")
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == module.__name__
        and _plugin_name(value) == name
    ]
    if len(classes) != 1:
        raise TypeError(f"{module.__name__}: expected one plug-in class, found {len(classes)}")
    return classes[0]


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the nearest candidate, or an empty text."""
    near = difflib.get_close_matches(word, sorted(candidates), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""


def _plugin_name(value: type[Any]) -> str | None:
    field = getattr(value, "model_fields", {}).get("name")
    arguments: tuple[Any, ...] = getattr(getattr(field, "annotation", None), "__args__", ())
    return arguments[0] if len(arguments) == 1 and isinstance(arguments[0], str) else None
