"""The rule that a choice of λ maximises: ``mean(non_western) subject to western >= base - 0.5``."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

FUNCTIONS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "mean": statistics.fmean,
    "min": min,
    "max": max,
}
GROUPS = ("all", "western", "non_western")
_TOKEN = re.compile(r"\s*(>=|<=|[(),+-]|\d+(?:\.\d+)?|[^\s(),+<>=-]+(?:-[^\s(),+<>=-]+)*)")
_FORM = "FUNCTION(NAMES) [subject to NAMES >= base - POINTS [and …]]"


@dataclass(frozen=True)
class Term:
    """A function of the scores of some tasks.

    Parameters
    ----------
    function
        ``mean``, ``min`` or ``max``.
    names
        Tasks, or ``all``, ``western``, ``non_western``.
    """

    function: str
    names: tuple[str, ...]

    def value(self, scores: Mapping[str, float], groups: Mapping[str, Sequence[str]]) -> float:
        """Return the function of the scores of the tasks, each counted once."""
        tasks = [task for name in self.names for task in groups.get(name, (name,))]
        return FUNCTIONS[self.function]([scores[task] for task in dict.fromkeys(tasks)])


@dataclass(frozen=True)
class Constraint:
    """``term >= bound`` (or ``<=``), where the bound is a number or the base's own term plus one.

    Parameters
    ----------
    term
        What is bounded.
    at_least
        Whether the bound is from below.
    of_base
        Whether ``points`` are added to the base's term.
    points
        In points of the score times 100.
    """

    term: Term
    at_least: bool
    of_base: bool
    points: float

    def excess(
        self,
        scores: Mapping[str, float],
        base: Mapping[str, float],
        groups: Mapping[str, Sequence[str]],
    ) -> float:
        """Return by how many points it is kept; below 0 it is broken."""
        start = self.term.value(base, groups) if self.of_base else 0.0
        difference = self.term.value(scores, groups) - start - self.points
        return difference if self.at_least else -difference


@dataclass(frozen=True)
class Objective:
    """What is maximised, and what must hold.

    Parameters
    ----------
    goal
        The term to maximise.
    constraints
        All of them must hold.
    """

    goal: Term
    constraints: tuple[Constraint, ...] = ()

    def names(self) -> tuple[str, ...]:
        """Return every name that stands in it, once."""
        terms = [self.goal, *(each.term for each in self.constraints)]
        return tuple(dict.fromkeys(name for term in terms for name in term.names))


def parse_objective(text: str) -> Objective:
    """Read an objective.

    ``goal [subject to constraint [and constraint …]]``; a goal is ``mean(…)``, ``min(…)`` or
    ``max(…)`` of tasks or of ``all``, ``western``, ``non_western``; a constraint is such a term (or
    a name, which means its mean), ``>=`` or ``<=``, and a number or ``base`` plus or minus a
    number, in points of the score times 100.

    Raises
    ------
    ValueError
        The text is none, with the place where it stops making sense.
    """
    words = _Words(text)
    goal = _term(words)
    constraints = []
    if words.take("subject"):
        words.expect("to")
        constraints.append(_constraint(words))
        while words.take("and"):
            constraints.append(_constraint(words))
    words.expect_end()
    return Objective(goal, tuple(constraints))


class _Words:
    """The words of an objective, read from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.words, self.place = text, [], 0
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                raise self.fault(f"{text[at:].strip()[:10]!r} is not understood")
            self.words.append(found[1])
            at = found.end()

    def fault(self, problem: str) -> ValueError:
        return ValueError(f"objective {self.text!r}: {problem}; the form is {_FORM}")

    def peek(self) -> str:
        return self.words[self.place] if self.place < len(self.words) else ""

    def next(self) -> str:
        word = self.peek()
        self.place += 1
        return word

    def take(self, word: str) -> bool:
        if self.peek() != word:
            return False
        self.place += 1
        return True

    def expect(self, word: str) -> None:
        if not self.take(word):
            raise self.fault(f"expected {word!r}, found {self.peek() or 'its end'!r}")

    def expect_end(self) -> None:
        if self.peek():
            raise self.fault(f"expected its end, found {self.peek()!r}")


def _term(words: _Words) -> Term:
    word = words.next()
    if not word or not re.match(r"[^\W\d]", word):
        raise words.fault(f"expected a function or a name, found {word or 'its end'!r}")
    if words.peek() != "(":
        return Term("mean", (word,))
    if word not in FUNCTIONS:
        raise words.fault(f"there is no function {word!r}, only {', '.join(FUNCTIONS)}")
    words.expect("(")
    names = [_name(words)]
    while words.take(","):
        names.append(_name(words))
    words.expect(")")
    return Term(word, tuple(names))


def _name(words: _Words) -> str:
    word = words.next()
    if not re.match(r"\w", word):
        raise words.fault(f"expected a name, found {word or 'its end'!r}")
    return word


def _constraint(words: _Words) -> Constraint:
    term = _term(words)
    sign = words.next()
    if sign not in (">=", "<="):
        raise words.fault(f"expected >= or <=, found {sign or 'its end'!r}")
    of_base = words.take("base")
    factor = 1.0
    if of_base and words.peek() not in ("+", "-"):
        return Constraint(term, sign == ">=", of_base, 0.0)
    if words.peek() in ("+", "-"):
        factor = -1.0 if words.next() == "-" else 1.0
    number = words.next()
    try:
        points = factor * float(number)
    except ValueError:
        raise words.fault(f"expected a number, found {number or 'its end'!r}") from None
    return Constraint(term, sign == ">=", of_base, points)
