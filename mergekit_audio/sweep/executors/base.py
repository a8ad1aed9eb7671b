"""What executors share: pieces of work, what comes back, and the one that computes nothing ahead.

A sweep goes through its points one after the other whatever the executor. An executor only computes
pieces before the sweep gets to them: finished lines and track scores enter the driver's own results
when they arrive, and the sweep then finds them by their content, as after a kill. So results, their
order and their bytes do not depend on it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from mergekit_audio.errors import NotFiniteError
from mergekit_audio.probe.points import PointRunner
from mergekit_audio.probe.scoring import SCORED_SPLITS
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.sweep.dense.interpolation import Box
from mergekit_audio.sweep.spaces import Point

if TYPE_CHECKING:
    from mergekit_audio.sweep.planner import SweepPlan

RESULTS, TRIED = "results", "tried"
MOST_DEATHS = 3
"""How often the process or machine may die that computes a piece, before the sweep stops."""


@dataclass(frozen=True)
class StoredNode:
    """A λ where features were extracted: its row's digest and key, and files of features by task.

    The files are those of the feature cache: they are mapped where they are needed, never sent.
    """

    scales: tuple[float, ...]
    digest: str
    key: str
    files: tuple[tuple[str, Path], ...]


@dataclass(frozen=True)
class StoredInterpolation:
    """What ``Interpolation`` holds, with its nodes by reference."""

    variant: int
    box: Box
    degree: int
    accepted: bool
    nodes: tuple[StoredNode, ...]


@dataclass(frozen=True)
class Piece:
    """One row that is scored on all tasks and seeds, or one λ whose features are extracted.

    Parameters
    ----------
    kind
        ``model`` (the base, a culture, a compared model, weight averaging), ``point`` (a merge),
        ``between`` (a point on features of nodes), ``node`` (features alone), ``sample`` (those of
        a few tracks).
    name
        The row's name.
    point
        λ and variant of all but a ``model``.
    splits
        What is scored.
    interpolation
        Of a ``between``.
    """

    kind: str
    name: str
    point: Point | None = None
    splits: tuple[str, ...] = SCORED_SPLITS
    interpolation: StoredInterpolation | None = None

    @property
    def may_diverge(self) -> bool:
        """Whether the sweep goes on where its features are not finite."""
        return self.point is not None and not self.point.is_base

    @property
    def embeds(self) -> bool:
        """Whether an encoder runs: where there are GPUs, on one of them."""
        return self.kind != "between"


@dataclass(frozen=True)
class Kept:
    """A finished line for a ledger, and the file of track scores that belongs to it."""

    ledger: str
    line: dict[str, Any]
    scores: bytes | None = None


@dataclass(frozen=True)
class Outcome:
    """How a piece ended: the row's digest and key, a node's files of features, or an error."""

    digest: str = ""
    key: str = ""
    files: tuple[tuple[str, Path], ...] = ()
    error: BaseException | None = None

    def is_fatal(self, piece: Piece) -> bool:
        """Whether the sweep stops at this piece."""
        diverged = isinstance(self.error, NotFiniteError) and piece.may_diverge
        return self.error is not None and not diverged


@dataclass(frozen=True)
class Opening:
    """What a worker needs once, before its first piece.

    Parameters
    ----------
    planned
        The sweep with its λ.
    tasks
        The tasks as the driver prepared them.
    digests
        Each model's digest, as the driver sees it.
    cache
        The folder of features.
    """

    planned: SweepPlan
    tasks: Sequence[PreparedTask]
    digests: Mapping[str, str]
    cache: Path


@dataclass
class Executor:
    """Leaves all to the sweep, which embeds and probes in threads of its own process: ``serial``.

    Others compute pieces before the sweep gets to them. Use it as a context manager. ``begin`` says
    what comes, in its order; ``wait`` gives a piece's outcome.

    Parameters
    ----------
    workers
        Threads, processes or tasks side by side; ``None`` means as many as there is room for.
    """

    workers: int | None = None
    opening: Opening | None = field(default=None, init=False, repr=False)
    arrivals: Arrivals | None = field(default=None, init=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the executor's name, workers and address, for ``--dry-run``."""
        return {"executor": "serial", "workers": self.side_by_side()}

    def side_by_side(self) -> int | None:
        """Return how many workers there will be; ``None`` where only a cluster knows."""
        import torch

        return self.workers or torch.get_num_threads()

    def __enter__(self) -> Self:
        """Get ready, so that what is missing is told before anything is computed."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *reason: object) -> None:
        """End what was started, at once after an error."""

    def open(self, opening: Opening, arrivals: Arrivals) -> None:
        """Say what workers need, and where their results go."""
        self.opening, self.arrivals = opening, arrivals

    def begin(self, pieces: Sequence[Piece]) -> None:
        """Compute pieces in this order; what was begun before and has no worker is dropped."""

    def wait(self, piece: Piece) -> Outcome | None:
        """Return a piece's outcome when it is there; ``None`` where the sweep has to compute it.

        Raises
        ------
        DependencyError
            Workers died too often at this piece.
        """
        return None


@dataclass
class QueueExecutor(Executor, ABC):
    """What executors share that hand pieces to workers, in their order, and collect outcomes."""

    waiting: deque[Piece] = field(default_factory=deque, init=False, repr=False)
    order: dict[Piece, int] = field(default_factory=dict, init=False, repr=False)
    outcomes: dict[Piece, Outcome] = field(default_factory=dict, init=False, repr=False)

    def begin(self, pieces: Sequence[Piece]) -> None:
        """Hand out pieces in this order, those that are new."""
        busy = self.in_hand()
        new = [each for each in pieces if each not in busy and each not in self.outcomes]
        self.waiting.clear()
        self.order = {piece: place for place, piece in enumerate(pieces)}
        if self.is_worth_it(new):
            self.waiting.extend(new)
            self.hand_out()

    def wait(self, piece: Piece) -> Outcome | None:
        """Return a piece's outcome; ``None`` where it is left to the sweep."""
        self.receive(0.0)
        known = piece in self.outcomes or piece in self.waiting or piece in self.in_hand()
        if not known and not self.is_worth_it([piece]):
            return None
        if not known:
            self.waiting.appendleft(piece)
            self.hand_out()
        while piece not in self.outcomes:
            self.receive(None)
        return self.outcomes.pop(piece)

    def finish(self, piece: Piece, outcome: Outcome) -> None:
        """Keep an outcome; after an error only what the sweep gets to before is of use."""
        self.outcomes[piece] = outcome
        if outcome.is_fatal(piece):
            place = self.order.get(piece, 0)
            self.waiting = deque(each for each in self.waiting if self.order.get(each, 0) < place)

    def is_worth_it(self, new: Sequence[Piece]) -> bool:
        """Whether pieces go to workers, not to the sweep's own threads."""
        return bool(new)

    @abstractmethod
    def in_hand(self) -> Collection[Piece]:
        """Return the pieces that workers have."""

    @abstractmethod
    def hand_out(self) -> None:
        """Give waiting pieces to free workers."""

    @abstractmethod
    def receive(self, seconds: float | None) -> None:
        """Take what workers have sent; ``None`` waits until there is something."""


@dataclass
class Arrivals:
    """The driver's results, where lines of workers arrive; nothing else writes there.

    Parameters
    ----------
    runner
        The sweep's.
    told
        Called with a note for each line, and with the notes of workers.
    """

    runner: PointRunner
    told: Callable[[str], None] = lambda note: None

    def known(self, piece: Piece) -> list[Kept]:
        """Return the finished lines under a piece's name, so that a worker skips them."""
        runner = self.runner
        lines = [line for line in runner.ledger.lines() if line["model"] == piece.name]
        scored = [line for line in lines if runner.scores.has(_key(line))]
        tried = [line for line in runner.tried.lines() if line["model"] == piece.name]
        return [Kept(RESULTS, line) for line in scored] + [Kept(TRIED, line) for line in tried]

    def keep(self, kept: Kept) -> None:
        """Append a line that is new; its track scores are on the disk before it."""
        runner, line = self.runner, kept.line
        if kept.ledger == TRIED:
            key = tuple(line[field] for field in runner.tried.fields)
            if runner.tried.find(line["model"], key) is None:
                runner.tried.append(line)
            return
        key = _key(line)
        if kept.scores is not None and not runner.scores.has(key):
            runner.scores.put(key, kept.scores)
        if runner.ledger.find(line["model"], key, line["task"]) is None:
            runner.ledger.append(line)
        self.told(f"{line['model']} on {line['task']}, seed {line['seed']}")


def _key(line: Mapping[str, Any]) -> tuple[str, str, int]:
    return line["model_key"], line["task_digest"], line["seed"]
