"""Share work among threads that compute on one core each: their number never changes a bit."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

_AHEAD = 4
_Item = TypeVar("_Item")
_Value = TypeVar("_Value")


def ordered_map(
    function: Callable[[_Item], _Value], items: Sequence[_Item], workers: int
) -> Iterator[_Value]:
    """Yield ``function(item)`` in the order of the items, computed by ``workers`` threads.

    torch leaves Python's lock while it computes, so threads are enough, and they share the weights.
    Few values wait to be taken, however many items there are. An error or Ctrl-C drops what has not
    begun. Call it inside ``one_core_each``.
    """
    if workers <= 1 or len(items) <= 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(
        min(workers, len(items)), "probe", initializer=torch.set_num_threads, initargs=(1,)
    )
    begun: deque[Future[_Value]] = deque()
    try:
        for item in items:
            begun.append(pool.submit(function, item))
            if len(begun) > _AHEAD * workers:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def one_core_each() -> Iterator[None]:
    """Let torch use one thread in each Python thread, and put its number back afterwards.

    How torch splits a sum over threads changes its last bits; one thread gives one result.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
