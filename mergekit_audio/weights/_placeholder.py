"""Objects of classes that are never imported, the plain values in them, and how to show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_DEPTH_LIMIT = 24
_NODES_LIMIT = 200_000


@dataclass(frozen=True)
class PlaceholderClass:
    """A class that is not imported, by its name."""

    global_name: str

    def __repr__(self) -> str:
        """Name it."""
        return f"<class {self.global_name}>"


class Placeholder:
    """An object of a class that is not imported: what it was made of, and nothing else.

    Parameters
    ----------
    global_name
        Its class.
    arguments
        What its class was called with.
    """

    __slots__ = ("arguments", "elements", "global_name", "items", "state")

    def __init__(self, global_name: str, arguments: tuple[Any, ...]) -> None:
        self.global_name = global_name
        self.arguments = arguments
        self.state: Any = None
        self.items: dict[Any, Any] | None = None
        self.elements: list[Any] | None = None

    def __repr__(self) -> str:
        """Name the class."""
        return f"<{self.global_name}>"

    def set_state(self, state: Any) -> None:
        """Keep the state that the pickle holds."""
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep an item of a dictionary's subclass."""
        if self.items is None:
            self.items = {}
        self.items[key] = value

    def extend(self, values: Iterable[Any]) -> None:
        """Keep elements of a list's subclass."""
        if self.elements is None:
            self.elements = []
        self.elements.extend(values)


def plain(value: Any) -> Any:
    """Return settings as plain values: dictionaries, lists, text and numbers.

    ``argparse.Namespace`` gives its attributes, omegaconf's nodes what they hold; what is neither
    stays as it is. What nests too deeply becomes None, and so does what follows the first 200,000
    values: a list that holds one list many times would grow without bound.
    """
    return _Plain().of(value, _DEPTH_LIMIT)


def shown(text: str, limit: int = 120) -> str:
    """Return text from a file that is not trusted as a short line without control characters."""
    text = text if len(text) <= limit else f"{text[:limit]}…"
    return text if text.isprintable() else ascii(text)


class _Plain:
    def __init__(self) -> None:
        self._nodes = 0

    def of(self, value: Any, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > _NODES_LIMIT:
            return None
        if depth == 0 or value is None or isinstance(value, (str, int, float, bool)):
            return value if depth else None
        if isinstance(value, dict):
            return {_name(key): self.of(each, depth - 1) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.of(each, depth - 1) for each in value]
        return self._of_placeholder(value, depth) if isinstance(value, Placeholder) else value

    def _of_placeholder(self, value: Placeholder, depth: int) -> Any:
        state, found = value.state, value.items
        if isinstance(state, tuple) and len(state) == 2:  # attributes and slots
            parts = [part for part in state if isinstance(part, dict)]
            state = {name: each for part in parts for name, each in part.items()}
        if isinstance(state, dict):
            for content in ("_content", "_val"):  # omegaconf's containers and their leaves
                if content in state:
                    return self.of(state[content], depth - 1)
            return self.of({**(found or {}), **state}, depth - 1)
        if found:
            return self.of(found, depth - 1)
        made_of = value.arguments
        return self.of(made_of[0], depth - 1) if len(made_of) == 1 else value  # an enum's value


def _name(key: Any) -> str:
    return key if isinstance(key, str) else repr(key)
