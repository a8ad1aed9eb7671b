"""Compute pieces of a sweep as tasks of a Ray cluster: a private one, or one of many machines."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any

from mergekit_audio.cores import core_count
from mergekit_audio.errors import DependencyError, InputError
from mergekit_audio.lock import environment
from mergekit_audio.sweep.executors.base import (
    MOST_DEATHS,
    Arrivals,
    Opening,
    Piece,
    QueueExecutor,
)
from mergekit_audio.sweep.executors.cluster_connection import Cluster, require_ray


@dataclass
class RayExecutor(QueueExecutor):
    """Ray tasks of one core, and of one GPU where the cluster has any and an encoder runs.

    Ray begins a task again whose worker or machine dies. Lines come with a task's end. Only the
    driver writes results; machines share the folder of features.

    Parameters
    ----------
    workers
        Tasks side by side; ``None`` means as many as the cluster has cores.
    address
        ``HOST:PORT`` or ``auto``; ``None`` starts a private cluster on this machine.
    """

    address: str | None = None
    _cluster: Cluster | None = field(default=None, init=False, repr=False)
    _reference: Any = field(default=None, init=False, repr=False)
    _tasks: dict[Any, Piece] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        require_ray(self.address)

    def open(self, opening: Opening, arrivals: Arrivals) -> None:
        """Connect, and put what every machine needs once into the cluster's store."""
        super().open(opening, arrivals)
        packed = pickle.dumps(opening)
        self._cluster = Cluster.connect(self.address, self.workers, len(packed))
        self._reference = self._cluster.ray.put(packed)

    def __exit__(self, kind: type[BaseException] | None, *reason: object) -> None:
        """Cancel what runs, and leave the cluster; end it where it is a private one."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.leave(list(self._tasks))
        self._tasks.clear()
        self._reference = None

    def as_dict(self) -> dict[str, Any]:
        """Return the executor's name, tasks side by side and the cluster's address."""
        return {"executor": "ray", "workers": self.side_by_side(), "address": self.address}

    def side_by_side(self) -> int | None:
        """Return the tasks side by side; ``None`` is as many as a running cluster has cores."""
        return self.workers or (core_count() if self.address is None else None)

    def in_hand(self) -> list[Piece]:
        """Return the pieces that are tasks now."""
        return list(self._tasks.values())

    def hand_out(self) -> None:
        """Make tasks of as many pieces as may run side by side."""
        cluster, arrivals = self._cluster, self.arrivals
        assert cluster is not None
        assert arrivals is not None
        while self.waiting and len(self._tasks) < (self.workers or max(1, cluster.cores())):
            piece = self.waiting.popleft()
            task = cluster.task(MOST_DEATHS - 1, on_gpu=piece.embeds)
            reference = task.remote([self._reference], environment(), piece, arrivals.known(piece))
            self._tasks[reference] = piece

    def receive(self, seconds: float | None) -> None:
        """Take the results of tasks that have ended."""
        cluster = self._cluster
        assert cluster is not None
        if self._tasks:
            ready, _ = cluster.ray.wait(list(self._tasks), num_returns=1, timeout=seconds)
            for reference in ready:
                self._take(cluster, reference, self._tasks.pop(reference))
        self.hand_out()

    def _take(self, cluster: Cluster, reference: Any, piece: Piece) -> None:
        assert self.arrivals is not None
        errors = cluster.ray.exceptions
        try:
            outcome, kept = cluster.ray.get(reference)
        except errors.RayTaskError as error:
            raise DependencyError(
                f"{piece.name}: the cluster can't run it: {str(error).strip().splitlines()[-1]}",
                "install the same mergekit_audio on all machines of the cluster",
            ) from error
        except (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
        ) as error:
            raise DependencyError(
                f"{piece.name}: {MOST_DEATHS} workers or machines ended that computed it: "
                f"{str(error).strip().splitlines()[0]}",
                "memory may be short: use fewer --workers; the same command goes on",
            ) from error
        except errors.RayError as error:
            raise InputError(
                f"{piece.name}: the connection to the Ray cluster is gone: "
                f"{str(error).strip().splitlines()[0]}",
                "the same command goes on, with any executor",
            ) from error
        for each in kept:
            self.arrivals.keep(each)
        self.finish(piece, outcome)
