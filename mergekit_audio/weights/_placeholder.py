"""Objects of classes that are never imported, and the plain values in them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Placeholder:
    """An object of a class that is not imported: what it was made of, and nothing else."""

    global_name = ""

    def __new__(cls, *arguments: Any, **named: Any) -> Placeholder:
        """Keep the arguments."""
        made = super().__new__(cls)
        made.__dict__ = {"arguments": arguments, "named": named, "state": None, "items": {}}
        made.__dict__["elements"] = []
        return made

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Do nothing more."""

    def __repr__(self) -> str:
        """Name the class."""
        return f"<{self.global_name}>"

    def __setstate__(self, state: Any) -> None:
        """Keep the state that the pickle holds."""
        self.__dict__["state"] = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep an item of a dictionary's subclass."""
        self.__dict__["items"][key] = value

    def append(self, value: Any) -> None:
        """Keep an element of a list's subclass."""
        self.__dict__["elements"].append(value)

    def extend(self, values: Iterable[Any]) -> None:
        """Keep elements of a list's subclass."""
        self.__dict__["elements"].extend(values)


def plain(value: Any, depth: int = 24) -> Any:
    """Return settings as plain values: dictionaries, lists, text and numbers.

    ``argparse.Namespace`` gives its attributes, omegaconf's nodes what they hold; what is neither
    stays as it is, and what nests too deeply becomes None.
    """
    if depth == 0 or value is None or isinstance(value, (str, int, float, bool)):
        return value if depth else None
    if isinstance(value, dict):
        return {str(key): plain(each, depth - 1) for key, each in dict.items(value)}
    if isinstance(value, (list, tuple)):
        return [plain(each, depth - 1) for each in value]
    if not isinstance(value, Placeholder):
        return value
    state, found = value.__dict__["state"], value.__dict__["items"]
    if isinstance(state, tuple) and all(isinstance(part, (dict, type(None))) for part in state):
        state = {name: each for part in state for name, each in (part or {}).items()}  # and slots
    if isinstance(state, dict):
        for content in ("_content", "_val"):  # omegaconf's containers and their leaves
            if content in state:
                return plain(state[content], depth - 1)
        return plain({**found, **state}, depth - 1)
    if found:
        return plain(found, depth - 1)
    arguments = value.__dict__["arguments"]
    return plain(arguments[0], depth - 1) if len(arguments) == 1 else value  # an enum's value
