"""Turn pydantic's errors into faults that name file, line, column and key, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mergekit_audio.errors import Fault
from mergekit_audio.recipe.overrides import Override
from mergekit_audio.recipe.positions import Document, Path, spell
from mergekit_audio.recipe.schema import keys_at
from mergekit_audio.registry import did_you_mean

_EXPECTED = {
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
}


def faults_of(
    error: ValidationError,
    document: Document,
    value: dict[str, Any],
    changes: Sequence[Override],
    kind: str,
) -> list[Fault]:
    """Return one fault for each thing that is wrong.

    Parameters
    ----------
    error
        What pydantic found.
    document
        The file: tells positions.
    value
        The plain values that were validated (the file's, with ``changes`` applied).
    changes
        Overrides: a fault inside a value that came from ``--set`` names the ``--set``.
    kind
        The recipe's kind.
    """
    located = [_locate(details, value) for details in error.errors(include_url=False)]
    faults = []
    for path in dict.fromkeys(item.path for item in located):
        here = [item for item in located if item.path == path]
        if any(_is_beside(item, located) for item in here):
            continue
        problem = _problem(here, value, kind)
        at_key = here[0].details["type"] == "extra_forbidden"
        faults.append(place(path, problem, document, changes, at_key=at_key))
    return faults


def place(
    path: Path,
    problem: str,
    document: Document,
    changes: Sequence[Override],
    *,
    at_key: bool = False,
) -> Fault:
    """Return a fault with the file's line and column, or with the ``--set`` that brought it."""
    for change in reversed(changes):
        steps = tuple(str(step) for step in change.path)
        named = tuple(str(step) for step in path)
        brought = path not in document.values and steps[: len(named)] == named and named
        if named[: len(steps)] == steps or brought:
            return Fault(change.label, 0, 0, spell(path), problem)
    return document.fault(path, problem, at_key=at_key)


_MOST_LISTED = 12


@dataclass(frozen=True)
class _Located:
    """An error and the path of plain keys that it is about (union tags stripped)."""

    details: ErrorDetails
    path: Path
    in_union: bool


def _locate(details: ErrorDetails, value: Any) -> _Located:
    path: list[str | int] = []
    skipped_at = None
    steps = details["loc"]
    for position, step in enumerate(steps):
        is_last = position == len(steps) - 1
        names_missing_key = is_last and details["type"] == "missing"
        if isinstance(value, dict) and (step in value or names_missing_key):
            path.append(step)
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            path.append(step)
            value = value[step]
        else:
            skipped_at = len(path)
    if details["type"] in ("union_tag_not_found", "union_tag_invalid"):
        path.append("name")
    return _Located(details, tuple(path), skipped_at is not None and skipped_at == len(path))


def _is_beside(item: _Located, located: list[_Located]) -> bool:
    """Whether another member of the same union got deeper: `a number` is noise for a mapping."""
    return item.in_union and any(
        len(other.path) > len(item.path) and other.path[: len(item.path)] == item.path
        for other in located
    )


def _problem(here: list[_Located], value: Any, kind: str) -> str:
    details, path = here[0].details, here[0].path
    context = details.get("ctx", {})
    match details["type"]:
        case "missing":
            return "missing required key"
        case "extra_forbidden":
            known = [
                key for key in keys_at(kind, value, path[:-1]) if key not in _at(value, path[:-1])
            ]
            near = did_you_mean(str(path[-1]), known)
            choices = f"expected one of: {', '.join(known)}" if known else "it takes no more keys"
            return f"unknown key; {near or choices}"
        case "union_tag_not_found":
            return f"missing required key: the name of the {_family(path)}"
        case "union_tag_invalid":
            names = str(context["expected_tags"]).replace("'", "").split(", ")
            near = did_you_mean(str(context["tag"]), names)
            choices = f"one of: {', '.join(names)}"
            if len(names) > _MOST_LISTED and near:
                choices = f"one of {len(names)} {_family(path)}s"
            listed = f"expected {choices}; found {context['tag']!r}"
            return listed + (f"; {near}" if near else "")
        case "value_error" | "assertion_error":
            return str(context.get("error", details["msg"]))
    return _expectation(here)


def _expectation(here: list[_Located]) -> str:
    found = here[0].details["input"]
    phrases = []
    choices: list[str] = []
    for item in here:
        kind = item.details["type"]
        if kind in ("literal_error", "enum"):
            choices += (
                str(item.details["ctx"]["expected"])
                .replace("'", "")
                .replace(" or ", ", ")
                .split(", ")
            )
            phrases.append(str(item.details["ctx"]["expected"]))
        else:
            message = item.details["msg"]
            phrase = _EXPECTED.get(kind) or message.removeprefix("Input should be ")
            if phrase == message:
                return message[0].lower() + message[1:]
            phrases.append(phrase)
    text = f"expected {' or '.join(dict.fromkeys(phrases))}, found {_shown(found)}"
    if isinstance(found, str) and (near := did_you_mean(found, choices)):
        return f"{text}; {near}"
    if isinstance(found, bool) and "text" in phrases:
        return f"{text} (yes, no, on and off are booleans in YAML: put text in quotes)"
    if isinstance(found, str) and _is_number(found):
        return f"{text} (write it without quotes)"
    return text


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def _family(path: Path) -> str:
    words = [step for step in path[:-1] if isinstance(step, str)]
    return words[-1].removesuffix("s") if words else "plug-in"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
