"""Which executor a sweep gets."""

from __future__ import annotations

from mergekit_audio.errors import UsageError
from mergekit_audio.sweep.executors.base import Executor
from mergekit_audio.sweep.executors.process import ProcessExecutor

EXECUTORS = ("serial", "process", "ray")


def make_executor(
    name: str = "serial", address: str | None = None, workers: int | None = None
) -> Executor:
    """Return an executor by its name; nothing is started before it is entered.

    Parameters
    ----------
    name
        ``serial``, ``process`` or ``ray``.
    address
        Of a Ray cluster, ``HOST:PORT`` or ``auto``; ``None`` starts a private one.
    workers
        Threads, processes or tasks side by side, at least 1.

    Raises
    ------
    UsageError
        There is no such executor, or an address is given without Ray.
    DependencyError
        Ray is not installed, or a cluster's token is missing.
    """
    if name not in EXECUTORS:
        raise UsageError(f"executor {name!r} is none of {', '.join(EXECUTORS)}")
    if address is not None and name != "ray":
        raise UsageError(
            f"an address belongs to a Ray cluster, and the executor is {name}",
            f"add --executor ray, or leave out --address {address}",
        )
    if name == "ray":
        from mergekit_audio.sweep.executors.cluster import RayExecutor

        return RayExecutor(workers, address)
    return ProcessExecutor(workers) if name == "process" else Executor(workers)
