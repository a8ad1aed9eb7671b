"""Nodes of an interpolation that an executor extracts, and how they go to other processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mergekit_audio.probe.encoders import FrozenEncoder
from mergekit_audio.probe.reopening import reopen
from mergekit_audio.probe.splits import tracks_of
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.sweep.dense.interpolated import Interpolation, Node, Scales
from mergekit_audio.sweep.executors.base import (
    Executor,
    Outcome,
    Piece,
    StoredInterpolation,
    StoredNode,
)
from mergekit_audio.sweep.merges import VALID_ALONE
from mergekit_audio.sweep.spaces import Point, Space


@dataclass(frozen=True)
class NodesAhead:
    """Lets an executor extract features at λ before they are asked for.

    Parameters
    ----------
    executor
        Computes them.
    space
        The λ.
    """

    executor: Executor
    space: Space

    def begin(self, variant: int, nodes: Sequence[Scales], samples: Sequence[Scales]) -> None:
        """Say what comes next: λ of all tracks, then λ of a few tracks."""
        pieces = [self.piece(scales, variant) for scales in nodes]
        self.executor.begin(pieces + [self.piece(each, variant, few=True) for each in samples])

    def outcome(self, scales: Scales, variant: int, *, few: bool) -> Outcome | None:
        """Return what a worker extracted; ``None`` where none did. Raises what it raised."""
        found = self.executor.wait(self.piece(scales, variant, few=few))
        if found is not None and found.error is not None:
            raise found.error
        return found

    def piece(self, scales: Scales, variant: int, *, few: bool = False) -> Piece:
        """Return the piece of features at a λ."""
        point = Point(scales, variant if any(scales) else 0)
        return Piece("sample" if few else "node", self.space.name(point), point)


def opened_node(outcome: Outcome, tasks: Sequence[PreparedTask], encoder: FrozenEncoder) -> Node:
    """Return the features that a worker extracted, mapped from the cache's files."""
    files = dict(outcome.files)
    features = {
        task.task.name: reopen(files[task.task.name], task.corpus, task.task.protocol, encoder)
        for task in tasks
    }
    return Node(outcome.digest, outcome.key, features, outcome.files)


def stored(found: Interpolation) -> StoredInterpolation:
    """Return an interpolation by the files of its nodes."""
    nodes = tuple(
        StoredNode(scales, node.digest, node.key, node.files)
        for scales, node in found.nodes.items()
    )
    return StoredInterpolation(found.variant, found.box, found.degree, found.accepted, nodes)


def reopened(
    found: StoredInterpolation, tasks: Sequence[PreparedTask], encoder: FrozenEncoder
) -> Interpolation:
    """Return a stored interpolation with its nodes' features of the tracks that choose."""
    only = {task.task.name: tracks_of(task, VALID_ALONE) for task in tasks}
    nodes = {
        each.scales: opened_node(
            Outcome(each.digest, each.key, each.files), tasks, encoder
        ).of_tracks(only)
        for each in found.nodes
    }
    return Interpolation(found.variant, found.box, nodes, found.degree, found.accepted, ())
