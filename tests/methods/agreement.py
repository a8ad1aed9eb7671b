"""One assertion for tests of merge methods: an oracle's numbers, in each library, whole and cut."""

import numpy as np
from groups import in_library, merge, merge_sliced

SHAPES = [(), (1,), (5,), (7, 3), (4, 3, 2)]


def assert_merges_to(method, group, expected, *, atol=1e-10, sizes=(2, 7)):
    """Assert that Δ is ``expected`` with numpy and torch, of the whole tensor and of its slices."""
    for library in ("numpy", "torch"):
        seen = in_library(group, library)
        results = [merge(method, seen), *(merge_sliced(method, seen, size) for size in sizes)]
        for delta in results:
            np.testing.assert_allclose(delta, expected, rtol=1e-9, atol=atol)
