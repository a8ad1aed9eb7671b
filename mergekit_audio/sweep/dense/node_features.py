"""Features at the λ of an interpolation: of the tracks that choose, or of a few that test it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.errors import NotFiniteError
from mergekit_audio.probe.model_row import ModelRow
from mergekit_audio.probe.points import PointRunner
from mergekit_audio.probe.splits import tracks_of
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.sweep.ahead import NodesAhead, opened_node
from mergekit_audio.sweep.dense.interpolated import Node, Scales
from mergekit_audio.sweep.merges import VALID_ALONE
from mergekit_audio.sweep.spaces import Point, Space

SAMPLE_TRACKS = 8
SAMPLE_SHARE = 0.05
"""Of a task's tracks this share, at least ``SAMPLE_TRACKS``, tests an interpolation."""

Tracks = NDArray[np.bool_]


class Diverging(Exception):  # noqa: N818 - caught by the search, never shown
    """Features at a λ are not finite."""

    def __init__(self, scales: Scales, error: NotFiniteError) -> None:
        super().__init__(scales)
        self.scales, self.error, self.why = scales, error, error.message


@dataclass
class NodeFeatures:
    """Extracts features at λ, each once.

    Points are chosen on training and validation alone: tracks of the test split are embedded only
    where a λ is scored on it.

    Parameters
    ----------
    runner
        Extracts, with its cache.
    space
        The λ.
    base
        The row of λ = 0.
    row
        Returns a point's row.
    ahead
        Lets an executor extract; ``None`` where none does.
    """

    runner: PointRunner
    space: Space
    base: ModelRow
    row: Callable[[Point], ModelRow]
    ahead: NodesAhead | None = None
    _nodes: dict[tuple[int, Scales], Node] = field(default_factory=dict)
    _samples: dict[tuple[int, Scales], Node] = field(default_factory=dict)

    def begin(self, variant: int, nodes: Sequence[Scales], samples: Sequence[Scales]) -> None:
        """Let an executor extract what is not there of the features that come next."""
        if self.ahead is not None:
            there = [*self._nodes, *self._samples]
            new = [each for each in nodes if _key(each, variant) not in self._nodes]
            few = [each for each in samples if _key(each, variant) not in there]
            self.ahead.begin(variant, new, few)

    def node(self, scales: Scales, variant: int) -> Node:
        """Return the features of all tracks that points are chosen on.

        Raises
        ------
        NotFiniteError
            Features of the base are not finite.
        Diverging
            Those of another λ are not.
        """
        key = _key(scales, variant)
        if key not in self._nodes:
            self._nodes[key] = self.extracted(scales, variant).of_tracks(self._tracks)
        return self._nodes[key]

    def sample(self, scales: Scales, variant: int) -> Node:
        """Return the features of some of these tracks; an error like that of ``node``."""
        key = _key(scales, variant)
        if key in self._nodes:
            return self._nodes[key].of_tracks(self._few)
        if key not in self._samples:
            self._samples[key] = self.extracted(scales, variant, few=True)
        return self._samples[key]

    def known(self, variant: int) -> list[Scales]:
        """Return the λ whose features are there, the nodes first."""
        places = [*self._nodes, *self._samples]
        return list(dict.fromkeys(scales for place, scales in places if place == variant))

    def tracks(self, task: str) -> tuple[int, int]:
        """Return how many tracks test a task's interpolation, and of how many."""
        mask = self._tracks[task]
        few = int(self._few[task].sum())
        return few, len(self._few[task]) if mask is None else int(mask.sum())

    def extracted(self, scales: Scales, variant: int, *, few: bool = False) -> Node:
        """Return the features of a λ with its files: of all tracks that it is scored on, or of few.

        Raises
        ------
        NotFiniteError, Diverging
            As ``node``.
        """
        try:
            outcome = None if self.ahead is None else self.ahead.outcome(scales, variant, few=few)
            if outcome is not None:
                return opened_node(outcome, self.runner.tasks, self.base.encoder)
            row = self.row(Point(scales, variant)) if any(scales) else self.base
            build = functools.lru_cache(maxsize=1)(row.encoder.build)
            features = {
                task.task.name: self.runner.features(
                    row, task, build, self._only(scales, variant, few=few)[task.task.name]
                )
                for task in self.runner.tasks
            }
        except NotFiniteError as error:
            if not any(scales):
                raise
            raise Diverging(scales, error) from error
        files = tuple((name, each.path) for name, each in features.items())
        return Node(row.digest, row.key, features, files)

    def _only(self, scales: Scales, variant: int, *, few: bool) -> Mapping[str, Tracks | None]:
        if few:
            return self._few
        return dict.fromkeys(self._tracks) if self._is_tested(scales, variant) else self._tracks

    def _is_tested(self, scales: Scales, variant: int) -> bool:
        """Whether the row of this λ has test scores whatever is chosen."""
        if not any(scales) or scales in self.space.singles.values():
            return True
        return any(
            point.is_marked and point.variant == variant and point.scales == scales
            for point in self.space.points
        )

    @functools.cached_property
    def _tracks(self) -> dict[str, Tracks | None]:
        return {task.task.name: tracks_of(task, VALID_ALONE) for task in self.runner.tasks}

    @functools.cached_property
    def _few(self) -> dict[str, Tracks]:
        return {
            task.task.name: _evenly(task, self._tracks[task.task.name])
            for task in self.runner.tasks
        }


def _key(scales: Scales, variant: int) -> tuple[int, Scales]:
    return (variant if any(scales) else 0, scales)


def _evenly(task: PreparedTask, tracks: Tracks | None) -> Tracks:
    """Return tracks at even distances in the corpus's order."""
    places: Sequence[int] = np.flatnonzero(
        np.ones(len(task.splits), dtype=bool) if tracks is None else tracks
    ).tolist()
    count = min(len(places), max(SAMPLE_TRACKS, math.ceil(SAMPLE_SHARE * len(places))))
    found = np.zeros(len(task.splits), dtype=bool)
    for number in range(count):
        found[places[round(number * (len(places) - 1) / max(1, count - 1))]] = True
    return found
