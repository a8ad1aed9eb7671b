"""Match tensor names with globs: ``*``, ``?``, number ranges ``{0-5}`` and choices ``{a,b}``."""

from __future__ import annotations

import functools
import re

from mergekit_audio.errors import InputError

_RANGE = re.compile(r"(0|[1-9][0-9]*)-(0|[1-9][0-9]*)")
_LONGEST_RANGE = 10_000


def matches(pattern: str, name: str) -> bool:
    """Say whether the whole name matches the glob; upper and lower case differ.

    Parameters
    ----------
    pattern
        ``*`` is any text (dots too), ``?`` one character, ``{0-5}`` the whole numbers 0 to 5,
        ``{q_proj,k_proj}`` a choice whose items may be ranges and may hold ``*`` and ``?``:
        ``encoder.layers.{0-5,8}.*``. Every other character stands for itself.
    name
        A tensor's name.

    Raises
    ------
    InputError
        The pattern is empty or its braces are wrong.
    """
    return _compiled(pattern).fullmatch(name) is not None


def validate_glob(pattern: str) -> None:
    """Raise ``InputError`` when the glob is empty, its braces don't pair, or a range is wrong."""
    _compiled(pattern)


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    if not pattern:
        raise InputError("empty glob: expected a pattern of tensor names", "match all with '*'")
    parts: list[str] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        if character == "}":
            raise _fault(pattern, "a '}' without its '{'")
        if character != "{":
            parts.append(_translate(character))
            position += 1
            continue
        end = pattern.find("}", position)
        if end < 0:
            raise _fault(pattern, "a '{' without its '}'")
        parts.append(_choice(pattern, pattern[position + 1 : end]))
        position = end + 1
    return re.compile("".join(parts), re.DOTALL)


def _choice(pattern: str, body: str) -> str:
    if "{" in body:
        raise _fault(pattern, "a '{' inside braces; choices can't be nested")
    return "(?:" + "|".join(_item(pattern, item) for item in body.split(",")) + ")"


def _item(pattern: str, item: str) -> str:
    if not item:
        raise _fault(pattern, "an empty item inside braces")
    found = _RANGE.fullmatch(item)
    if found is None:
        return "".join(_translate(character) for character in item)
    # A range far longer than any model is deep is a slip of the keyboard; so is one that is empty.
    low, high = found.group(1), found.group(2)
    if max(len(low), len(high)) > 18 or int(high) - int(low) >= _LONGEST_RANGE:
        raise _fault(pattern, f"the range {item!r} is longer than {_LONGEST_RANGE:,} numbers")
    if int(low) > int(high):
        raise _fault(pattern, f"the range {item!r} runs backwards")
    return "|".join(str(number) for number in range(int(low), int(high) + 1))


def _translate(character: str) -> str:
    if character == "*":
        return ".*"
    return "." if character == "?" else re.escape(character)


def _fault(pattern: str, problem: str) -> InputError:
    return InputError(
        f"glob {pattern!r}: {problem}",
        "globs know * (any text), ? (one character), {0-5} (a range) and {a,b} (a choice)",
    )
