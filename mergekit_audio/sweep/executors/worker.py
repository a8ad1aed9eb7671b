"""Compute pieces of a sweep with its own code, and send back every line when it is there."""

from __future__ import annotations

import functools
import pickle
import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mergekit_audio.errors import CmergeError, InputError
from mergekit_audio.probe.choosing import CHOICE_FIELDS
from mergekit_audio.probe.ledger import KEY_FIELDS, Ledger
from mergekit_audio.probe.model_row import ModelRow
from mergekit_audio.probe.points import PointRunner
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.probe.track_scores import Key, TrackScores, packed_scores
from mergekit_audio.progress import ProgressEvent
from mergekit_audio.sweep.ahead import reopened
from mergekit_audio.sweep.dense.interpolated import Interpolation, Node
from mergekit_audio.sweep.dense.node_features import Diverging, NodeFeatures
from mergekit_audio.sweep.executors.base import (
    RESULTS,
    TRIED,
    Kept,
    Opening,
    Outcome,
    Piece,
    StoredInterpolation,
)
from mergekit_audio.sweep.landscape import Landscape
from mergekit_audio.sweep.merges import Merges
from mergekit_audio.weights.checkpoint import Checkpoint

Send = Callable[[Kept | str], None]
"""Takes a finished line, or a note about what is in hand."""


class Bench:
    """A sweep as one worker has it open, with one thread; nothing is written but features.

    Parameters
    ----------
    opening
        The sweep.

    Raises
    ------
    InputError
        A model, a corpus or the store is not there, or a model is another one than the driver's.
    """

    def __init__(self, opening: Opening) -> None:
        planned = opening.planned
        assert planned.space is not None
        models = _shared_models(opening)
        self.sent = Sent()
        runner = PointRunner(
            tasks=opening.tasks,
            seeds=planned.recipe.seeds,
            backbone=planned.recipe.backbone,
            ledger=SentLedger(RESULTS, KEY_FIELDS, self.sent),
            cache=opening.cache,
            total=0,
            progress=self.sent.tell,
            workers=1,
        )
        runner.scores = SentScores(self.sent)
        runner.tried = SentLedger(TRIED, CHOICE_FIELDS, self.sent)
        merges = Merges(planned, planned.space, models["base"])
        self.landscape = Landscape(planned.recipe, planned.space, models, merges, runner)

    def compute(self, piece: Piece, known: Sequence[Kept], send: Send) -> Outcome:
        """Return how a piece ended; its lines are sent before, each when it is there.

        Parameters
        ----------
        piece
            What to compute.
        known
            Lines that the driver has already.
        send
            Takes lines and notes.
        """
        runner = self.landscape.runner
        self.sent.send = send
        try:
            self._learn(known)
            if piece.kind in ("node", "sample"):
                node = self._node(piece)
                return Outcome(node.digest, node.key, node.files)
            row = self._row(piece)
            runner.run(row)
            return Outcome(row.digest, row.key)
        except Diverging as diverging:
            return Outcome(error=diverging.error)
        except Exception as error:
            return Outcome(error=sendable(error))
        finally:
            runner.lines.clear()

    def _row(self, piece: Piece) -> ModelRow:
        if piece.kind == "model":
            return next(row for row in self.landscape.model_rows.rows() if row.name == piece.name)
        assert piece.point is not None
        if piece.interpolation is None:
            return self.landscape.merges.row(piece.point, piece.splits)
        return self.landscape.interpolated_row(self._opened(piece.interpolation), piece.point)

    def _node(self, piece: Piece) -> Node:
        """Return the features of a λ, of all tracks that it is scored on or of a few."""
        scene = self.landscape
        assert piece.point is not None
        found = NodeFeatures(scene.runner, scene.space, scene.base, scene.model_rows.at)
        few = piece.kind == "sample"
        return found.extracted(piece.point.scales, piece.point.variant, few=few)

    @functools.cached_property
    def _opened(self) -> Callable[[StoredInterpolation], Interpolation]:
        """Opens an interpolation's nodes; the last one stays open."""

        @functools.lru_cache(maxsize=1)
        def opened(found: StoredInterpolation) -> Interpolation:
            return reopened(found, self.landscape.runner.tasks, self.landscape.base.encoder)

        return opened

    def _learn(self, known: Sequence[Kept]) -> None:
        runner = self.landscape.runner
        for kept in known:
            ledger = runner.ledger if kept.ledger == RESULTS else runner.tried
            assert isinstance(ledger, SentLedger)
            ledger.learn(kept.line)
            if kept.ledger == RESULTS:
                assert isinstance(runner.scores, SentScores)
                runner.scores.learn(kept.line)


class Sent:
    """Where a worker's lines and notes go, and the track scores that go with the next line."""

    def __init__(self) -> None:
        self.send: Send = lambda kept: None
        self.scores: dict[Key, bytes] = {}

    def tell(self, event: ProgressEvent) -> None:
        """Pass on what is in hand."""
        if event.note:
            self.send(event.note)


class SentLedger(Ledger):
    """A ledger without a file: what is appended is sent to the driver."""

    def __init__(self, name: str, fields: tuple[str, ...], sent: Sent) -> None:
        self.name, self.sent = name, sent
        super().__init__(Path(), fields)

    def _start(self) -> None:
        """Begin with nothing: the driver says what is finished."""

    def append(self, line: dict[str, Any]) -> None:
        """Send a finished point with its track scores."""
        key = line["model_key"], line["task_digest"], line["seed"]
        scores = self.sent.scores.pop(key, None) if self.name == RESULTS else None
        self.sent.send(Kept(self.name, line, scores))
        self.learn(line)


class SentScores(TrackScores):
    """Track scores without files: they are sent with the line that they belong to."""

    def __init__(self, sent: Sent) -> None:
        super().__init__(Path())
        self.sent = sent
        self._known: set[Key] = set()

    def has(self, key: Key) -> bool:
        """Say whether a point's scores are known, here or to the driver."""
        return key in self._known

    def save(self, key: Key, task: PreparedTask, predictions: Mapping[str, NDArray[Any]]) -> None:
        """Keep a point's scores until its line is sent."""
        self.sent.scores[key] = packed_scores(task, predictions)
        self._known.add(key)

    def learn(self, line: Mapping[str, Any]) -> None:
        """Note that the driver has the scores of a line."""
        self._known.add((line["model_key"], line["task_digest"], line["seed"]))


def sendable(error: BaseException) -> BaseException:
    """Return an error that can go to another process; one of our own as it is.

    Another one carries its traceback as a note.
    """
    if isinstance(error, CmergeError):
        return error
    text = "".join(traceback.format_exception(error))
    try:
        copied = pickle.loads(pickle.dumps(error))
        copied.add_note(f"in a worker:\n{text}")
        return copied if isinstance(copied, BaseException) else RuntimeError(text)
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}\nin a worker:\n{text}")


def _shared_models(opening: Opening) -> dict[str, Checkpoint]:
    """Return the models, where this machine sees what the driver sees."""
    planned, here = opening.planned, f"on the machine {socket.gethostname()}"
    hint = (
        "all machines must see recipe, models, corpora and store at the same paths: put them into "
        "a folder that they share"
    )
    for path in [
        planned.root,
        *(task.corpus.source for task in opening.tasks),
        opening.cache.parent,
    ]:
        if not path.exists():
            raise InputError(f"{path}: is not there {here}", hint)
    models = {}
    for name, source in planned.sources():
        try:
            models[name] = Checkpoint.open(source, root=planned.root)
        except InputError as error:
            raise InputError(f"{error.message} ({here})", hint) from error
        if (found := models[name].digest()) != opening.digests[name]:
            raise InputError(
                f"{models[name].folder}: the digest is {found[:12]} {here}, and "
                f"{opening.digests[name][:12]} where the sweep was started",
                "machines must see the same models, which must not change while a sweep runs; the "
                "same command goes on with what is there now",
            )
    return models
