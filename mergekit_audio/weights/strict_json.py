"""Read a JSON object strictly: no key twice, no NaN, no other kind of value."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def parse_object(data: bytes) -> dict[str, Any]:
    """Return the JSON object that the bytes hold.

    Raises
    ------
    ValueError
        The bytes are not UTF-8, not JSON, not an object, or one of the objects repeats a key; the
        message says which.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except _RepeatedKeyError as error:
        raise ValueError(f"the key {error.key!r} occurs twice") from None
    except RecursionError:
        raise ValueError("not JSON (nested too deep)") from None
    except ValueError as error:
        raise ValueError(f"not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, found {type(value).__name__}")
    return value


class _RepeatedKeyError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise _RepeatedKeyError(key)
        result[key] = value
    return result


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")
