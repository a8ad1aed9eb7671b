"""The spectral methods' parts, written plainly, and the groups that they are compared on."""

import dataclasses
import functools

import numpy as np
import pytest
from groups import in_library, make_group, merge

SHAPES = [(), (5,), (7, 3), (3, 7), (12, 10), (4, 3, 2), (1, 1, 6), (6, 1, 5), (8, 6, 3)]
cases = pytest.mark.parametrize("shape", SHAPES, ids=str)
COUNTS_AND_LIBRARIES = [(count, name) for count in (1, 2, 3, 4) for name in ("numpy", "torch")]
libraries = pytest.mark.parametrize("library", ["numpy", "torch"])


def of_task_vectors(*task_vectors, weights=None, library="numpy", **fields):
    """Return the group of a zero base and these task vectors, with weights 1 unless given."""
    models = np.asarray(task_vectors, dtype=np.float64)
    group = make_group(models.shape[1:], len(models), **fields)
    group = dataclasses.replace(
        group,
        base=np.zeros(models.shape[1:]),
        models=models,
        weights=weights or (1.0,) * len(models),
    )
    return in_library(group, library)


def weighted(group):
    """Return wᵢ τᵢ as a list of numpy arrays."""
    return [
        weight * (np.asarray(model) - np.asarray(group.base))
        for weight, model in zip(group.weights, group.models, strict=True)
    ]


def low_rank(shape, count, rank, seed=0):
    """Return a group whose task vectors have this rank."""
    random = np.random.default_rng(seed)
    rows, columns = shape
    return of_task_vectors(
        *[
            random.standard_normal((rows, rank)) @ random.standard_normal((rank, columns))
            for _ in range(count)
        ]
    )


def by_matrix(merge_matrices, group, *, flatten=False):
    """Return the mean of vectors (and kernels), ``merge_matrices`` of the list of matrices."""
    vectors = weighted(group)
    shape = vectors[0].shape
    axes = [size for size in shape if size > 1]
    if len(axes) < 2 or (len(axes) > 2 and not flatten):
        return sum(vectors) / len(vectors)
    return merge_matrices([each.reshape(axes[0], -1) for each in vectors]).reshape(shape)


def svd(matrix):
    """Return U, S, Vᵀ without what has no singular value."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    kept = values > 1e-12 * max(values[0], 1e-300)
    return left[:, kept], values[kept], right[kept]


def isometry(matrix):
    """Return P Qᵀ of the singular value decomposition."""
    left, _, right = svd(matrix)
    return left @ right


def assert_reads_kernels_as_matrices(method_class):
    """Check that `convolutions: flatten` is the same as reshaping the kernel beforehand."""
    group = make_group((8, 6, 3), 3, seed=4)
    flat = dataclasses.replace(
        group, base=group.base.reshape(8, 18), models=group.models.reshape(3, 8, 18)
    )
    delta = merge(method_class(convolutions="flatten"), group)
    np.testing.assert_allclose(delta.reshape(8, 18), merge(method_class(), flat), atol=1e-12)
    mean = functools.reduce(np.add, weighted(group)) / 3
    np.testing.assert_allclose(merge(method_class(), group), mean, atol=1e-12)


def assert_order_does_not_matter(method, group):
    """Check that models swapped with their weights give the same Δ."""
    order = list(reversed(range(len(group.weights))))
    swapped = dataclasses.replace(
        group,
        models=group.models[order],
        weights=tuple(group.weights[i] for i in order),
        labels=tuple(group.labels[i] for i in order),
        digests=tuple(group.digests[i] for i in order),
    )
    np.testing.assert_allclose(merge(method, swapped), merge(method, group), atol=1e-11)
