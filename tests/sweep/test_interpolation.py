"""Interpolation in λ against polynomials, scipy and a smooth function."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BarycentricInterpolator

from mergekit_audio.sweep.dense.interpolation import (
    Box,
    Interpolant,
    basis_size,
    chebyshev_basis,
    leja_nodes,
    relative_errors,
)

UNIT = Box((0.0,), (1.0,))


def test_sizes_are_binomials():
    for directions, degree in ((1, 4), (2, 3), (4, 3), (4, 5)):
        assert basis_size(directions, degree) == math.comb(directions + degree, degree)


def test_the_basis_is_numpys_chebyshev():
    points = np.linspace(-0.5, 1.5, 9)[:, None]
    expected = np.polynomial.chebyshev.chebvander(2 * points[:, 0] / 2 - 0.5, 5)
    found = chebyshev_basis(points, Box((-0.5,), (1.5,)), 5)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_one_direction_is_the_barycentric_formula():
    nodes = leja_nodes(UNIT, 6, first=[(0.0,), (0.25,)])
    assert nodes[0, 0] == 0.0
    assert 0.25 in nodes[:, 0]
    values = np.sin(5 * nodes[:, 0])
    points = np.linspace(0, 1, 101)
    expected = BarycentricInterpolator(nodes[:, 0], values)(points)
    found = Interpolant(UNIT, nodes, 6).weights(points[:, None]) @ values
    np.testing.assert_allclose(found, expected, atol=1e-10)


@given(
    st.integers(1, 4), st.integers(0, 3), st.integers(0, 2**32 - 1), st.sampled_from([0.0, -0.5])
)
def test_polynomials_come_back_exactly(directions, degree, seed, low):
    generator = np.random.default_rng(seed)
    box = Box((low,) * directions, (1.0,) * directions)
    nodes = leja_nodes(box, degree, first=[(0.0,) * directions])
    powers = [np.array(o) for o in np.ndindex(*(degree + 1,) * directions) if sum(o) <= degree]
    factors = generator.normal(size=len(powers))

    def polynomial(points):
        return sum(f * np.prod(points**p, axis=1) for f, p in zip(factors, powers, strict=True))

    points = generator.uniform(low, 1.0, size=(20, directions))
    weights = Interpolant(box, nodes, degree).weights(points)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-9)
    np.testing.assert_allclose(weights @ polynomial(nodes), polynomial(points), atol=1e-8)


def test_nodes_are_nested_distinct_and_stable():
    box = Box((0.0,) * 4, (1.0,) * 4)
    first = [(0.0,) * 4, (0.25,) * 4, *np.eye(4)]
    nodes = leja_nodes(box, 3, first=first)
    assert nodes.shape == (35, 4)
    assert len(np.unique(nodes, axis=0)) == 35
    assert (nodes[0] == 0).all()
    points = np.random.default_rng(0).uniform(size=(2000, 4))
    for degree in (1, 2, 3):
        count = basis_size(4, degree)
        assert Interpolant(box, nodes[:count], degree).lebesgue(points) < 60
    one = leja_nodes(UNIT, 12)
    assert Interpolant(UNIT, one, 12).lebesgue(np.linspace(0, 1, 500)[:, None]) < 25


def test_more_nodes_than_needed_are_a_least_squares_fit():
    nodes = np.linspace(0, 1, 30)[:, None]
    values = np.random.default_rng(1).normal(size=30)
    expected = np.polynomial.Polynomial.fit(nodes[:, 0], values, 3)(np.array([0.3, 0.9]))
    found = Interpolant(UNIT, nodes, 3).weights(np.array([[0.3], [0.9]])) @ values
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_smooth_embeddings_converge_with_the_nodes():
    generator = np.random.default_rng(2)
    first, second = generator.normal(size=(2, 8, 8)) / 8
    wave = generator.normal(size=(5, 8))

    def embed(scale):
        return np.tanh(wave @ (first + scale * second)) @ first

    points = np.linspace(0, 1, 41)[:, None]
    errors = []
    for degree in (2, 4, 6):
        nodes = leja_nodes(UNIT, degree, first=[(0.0,)])
        values = np.stack([embed(node) for node in nodes[:, 0]])
        weights = Interpolant(UNIT, nodes, degree).weights(points)
        found = np.einsum("mn,nbd->mbd", weights, values)
        direct = np.stack([embed(point) for point in points[:, 0]])
        errors.append(relative_errors(found, direct, embed(0.0))[0])
    assert errors[0] > 10 * errors[1] > 100 * errors[2]


def test_errors_by_hand():
    direct, origin = np.array([[3.0, 4.0], [0.0, 1.0]]), np.zeros((2, 2))
    mean, largest = relative_errors(direct + np.array([[0.0, 0.3], [0.0, 0.0]]), direct, origin)
    assert (mean, largest) == (pytest.approx(0.15 / 3), pytest.approx(0.3 / 3))
    assert relative_errors(origin, origin, origin) == (0.0, 0.0)
    assert relative_errors(direct, origin, origin) == (math.inf, math.inf)


def test_what_is_refused():
    with pytest.raises(ValueError, match="low must be below high"):
        Box((1.0,), (0.0,))
    with pytest.raises(ValueError, match="degree 3 needs 4 nodes, there are 2"):
        Interpolant(UNIT, np.array([[0.0], [1.0]]), 3)
    with pytest.raises(ValueError, match="do not determine"):
        Interpolant(UNIT, np.zeros((4, 1)), 3)
