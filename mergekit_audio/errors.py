"""The errors that a user can cause, each with a message, a hint and an exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class CmergeError(Exception):
    """An error with a message for people, a hint about what to do, and the process's exit code.

    Parameters
    ----------
    message
        What was found and what was expected, with the file, tensor, key or line.
    hint
        What to do next; shown after a blank line as ``hint: …``.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.hint)


class UsageError(CmergeError):
    """The command line is wrong (exit code 2)."""

    exit_code = 2


@dataclass(frozen=True, order=True)
class Fault:
    """One fault of a recipe: where it is (1-based line and column) and what is wrong.

    A fault that shows only beside the checkpoints (a glob that matches no tensor) has no file and
    line 0; its key says where in the recipe it is.
    """

    file: str
    line: int
    column: int
    key: str
    problem: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(part for part in (where, self.key, self.problem) if part)


class RecipeError(CmergeError):
    """A recipe has faults (exit code 3); all of them are listed, one a line."""

    exit_code = 3

    def __init__(self, faults: list[Fault], hint: str = "") -> None:
        self.faults = sorted(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults), hint)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.faults, self.hint)


class InputError(CmergeError):
    """A checkpoint, recording, manifest or folder can't be used (exit code 4)."""

    exit_code = 4


class LayoutError(InputError):
    """Two checkpoints do not hold the same tensors; the message lists every difference."""


class NotFiniteError(InputError):
    """Features that are not finite, in float32 either: a broken recording, or diverging weights."""


class VerificationError(CmergeError):
    """An output folder is not what its lock says (exit code 5)."""

    exit_code = 5


class DependencyError(CmergeError):
    """A package or a piece of hardware is missing or too small (exit code 6)."""

    exit_code = 6
