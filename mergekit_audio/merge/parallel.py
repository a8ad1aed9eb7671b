"""Do independent pieces of work on all cores and hand the results out in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

T = TypeVar("T")
R = TypeVar("R")
WINDOW_BYTES = 32_000_000
"""So many bytes of values are computed ahead of what is written."""

_KEPT_BYTES = (1 << 25) - (1 << 13)


def ordered_map(
    function: Callable[[T], R],
    items: Iterable[T],
    size_of: Callable[[T], int],
    *,
    workers: int,
    window: int,
) -> Iterator[R]:
    """Yield ``function`` of each item in their order, computed ahead in threads.

    Parameters
    ----------
    size_of
        What an item counts in the window.
    workers
        Threads.
    window
        Work is started ahead as long as the sizes of what is not yet handed out sum to less, and
        for as many items as there are workers in any case.
    """
    with ThreadPoolExecutor(workers) as executor:
        waiting: deque[tuple[int, Future[R]]] = deque()
        ahead = 0
        try:
            for item in items:
                waiting.append((size_of(item), executor.submit(function, item)))
                ahead += waiting[-1][0]
                while len(waiting) > workers and (ahead >= window or waiting[0][1].done()):
                    size, future = waiting.popleft()
                    yield future.result()
                    del future
                    ahead -= size
            while waiting:
                yield waiting.popleft()[1].result()
        finally:
            for _, future in waiting:
                future.cancel()


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks of up to 32 MB instead of giving them back at once.

    glibc raises this bound to the largest block that it saw freed; arrays of a slice then come from
    memory that is already there, and not from the system page by page.
    """
    np.empty(_KEPT_BYTES, np.uint8)
