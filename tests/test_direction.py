import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.direction import combine, direction_coefficients
from jax_lbfgs_pi.history import initial_scaling, pairs_vdot
from tests import oracles
from tests.marks import some_of

DIRECTIONS = [jax.jit(lp.two_loop_direction), jax.jit(lp.gram_direction)]
push = jax.jit(lp.push)
TEMPLATES = {
    "vector": jnp.zeros(12),
    "scalar and matrix": {"a": jnp.zeros(()), "b": jnp.zeros((3, 4))},
    "mixed": [jnp.zeros((2, 1, 3)), (jnp.zeros(1), {"c": jnp.zeros((5, 2))}), jnp.zeros(0)],
}


def random_case(rng, template, m, num_pairs):
    """A history, its pairs as vectors, and a gradient; about a third of the pairs are unusable."""
    flat, unravel = ravel_pytree(template)
    n = flat.size
    A = rng.normal(size=(n, n))
    A = A @ A.T / n + np.eye(n)
    pairs, history = [], lp.init_history(template, m)
    for _ in range(num_pairs):
        s = rng.normal(size=n)
        y = A @ s * rng.choice([1.0, 1.0, -1.0]) * 10.0 ** rng.uniform(-2, 2)
        pairs.append((s, y))
        history = push(history, unravel(jnp.array(s)), unravel(jnp.array(y)))
    g = rng.normal(size=n)
    return history, pairs[-m:], g, unravel(jnp.array(g))


@pytest.mark.parametrize(
    ("direction", "name"),
    some_of(itertools.product(DIRECTIONS, TEMPLATES), quick=(0, *range(3, 6))),
)
def test_equals_dense_bfgs_on_random_histories(direction, name):
    """100 histories: empty, partly filled, full and wrapped, with pairs that must be skipped."""
    rng = np.random.default_rng(0)
    skipped = wrapped = empty = 0
    for _ in range(100):
        m, num_pairs = int(rng.integers(1, 7)), int(rng.integers(0, 16))
        history, pairs, g, grads = random_case(rng, TEMPLATES[name], m, num_pairs)
        expected = -oracles.dense_inverse_hessian(pairs, g.size) @ g
        actual, _ = ravel_pytree(direction(grads, history))
        error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
        assert error < 1e-10
        assert actual @ g < 0
        np.testing.assert_allclose(oracles.two_loop(pairs, g), expected, rtol=1e-8, atol=1e-8)
        skipped += any(s @ y <= 0 for s, y in pairs)
        wrapped += num_pairs > m
        empty += num_pairs == 0
    assert min(skipped, wrapped, empty) > 0


def test_trusting_the_newest_pairs_is_to_have_no_others():
    rng = np.random.default_rng(1)
    m, solve = 6, jax.jit(direction_coefficients)
    for _ in range(50):
        newest, num_pairs = int(rng.integers(1, m + 1)), int(rng.integers(1, 16))
        history, pairs, g, grads = random_case(rng, TEMPLATES["vector"], m, num_pairs)
        expected = -oracles.dense_inverse_hessian(pairs[-newest:], g.size) @ g
        age = (int(history.head) - 1 - np.arange(m)) % m
        gamma, with_g = initial_scaling(history), pairs_vdot(history, grads)
        coefficients = solve(history.products, gamma, with_g, jnp.asarray(age < newest))
        actual = combine(coefficients, history, grads)
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("direction", DIRECTIONS, ids=["two_loop", "gram"])
def test_other_secant_equations(direction):
    """H y = ω s of the newest pair, and the same as dense H for any ω of the others."""
    rng, wrapped = np.random.default_rng(3), 0
    for _ in range(30):
        m, num_pairs = int(rng.integers(1, 7)), int(rng.integers(1, 12))
        history, pairs, g, grads = random_case(rng, TEMPLATES["vector"], m, num_pairs)
        omegas = 10.0 ** rng.uniform(-1, 1, size=m)
        history = history._replace(products=history.products._replace(omega=jnp.array(omegas)))
        slots = [(num_pairs - len(pairs) + i) % m for i in range(len(pairs))]
        used = [float(omegas[slot]) for slot in slots]
        H = oracles.dense_inverse_hessian(pairs, g.size, used)
        np.testing.assert_allclose(direction(grads, history), -H @ g, rtol=1e-9, atol=1e-9)
        s, y = pairs[-1]
        if s @ y > 0:
            back = direction(jnp.array(y), history)
            np.testing.assert_allclose(back, -used[-1] * s, rtol=1e-8, atol=1e-9)
        wrapped += num_pairs > m
    assert wrapped > 0


@pytest.mark.parametrize("direction", DIRECTIONS, ids=["two_loop", "gram"])
def test_unusable_pairs_never_enter(direction):
    """Only γ may depend on a pair with sᵀy <= 0: replace it by another of the same γ."""
    rng = np.random.default_rng(1)
    template = jnp.zeros(6)
    for sign in (-1.0, 0.0):
        good = [(s := rng.normal(size=6), 2.0 * s) for _ in range(2)]
        results = []
        for _ in range(2):
            s = rng.normal(size=6)
            y = rng.normal(size=6)
            y -= s * (s @ y) / (s @ s)  # now sᵀy = 0 up to rounding
            if sign == 0.0:
                s, y = np.eye(6)[0], np.eye(6)[1] * rng.uniform(1, 2)
            else:
                y = y / np.linalg.norm(y)
                s = s / np.linalg.norm(s)
                y = np.sqrt(0.75) * y - 0.5 * s
            history = lp.init_history(template, 5)
            for pair in [good[0], (s, y), good[1]]:
                history = lp.push(history, *map(jnp.array, pair))
            results.append(direction(jnp.arange(1.0, 7.0), history))
        np.testing.assert_allclose(results[0], results[1], rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-6, 6), st.floats(-6, 6))
def test_never_an_ascent_direction(seed, log_f, log_x):
    """Whatever the scales of f and x, and however badly the pairs fit together."""
    rng = np.random.default_rng(seed)
    m, n = 5, 8
    history = lp.init_history(jnp.zeros(n), m)
    for _ in range(7):
        s, y = rng.normal(size=(2, n))  # y unrelated to s: half of the pairs are skipped
        history = push(history, jnp.array(s * 10**log_x), jnp.array(y * 10 ** (log_f - log_x)))
    g = jnp.array(rng.normal(size=n)) * 10 ** (log_f - log_x)
    for direction in DIRECTIONS:
        assert float(jnp.vdot(direction(g, history), g)) <= 0.0


@pytest.mark.parametrize("direction", DIRECTIONS, ids=["two_loop", "gram"])
@pytest.mark.parametrize("n", [1, 3, 5])
def test_terminates_on_a_quadratic_in_n_steps(direction, n):
    """With exact line search and m >= n, BFGS is a conjugate-direction method."""
    rng = np.random.default_rng(n)
    A = rng.normal(size=(n, n))
    A = A @ A.T + np.eye(n)
    x, c = jnp.array(rng.normal(size=n)), rng.normal(size=n)
    history = lp.init_history(x, 5)
    start = float(jnp.linalg.norm(A @ (x - c)))
    for _ in range(n):
        g = A @ (x - c)
        d = direction(g, history)
        s = -(g @ d) / (d @ A @ d) * d
        x = x + s
        history = lp.push(history, s, A @ (x - c) - g)
    assert float(jnp.linalg.norm(A @ (x - c))) < 1e-10 * start


def test_history_keeps_the_last_pairs_in_order_and_their_products():
    rng = np.random.default_rng(2)
    m, pairs = 4, rng.normal(size=(7, 2, 6))
    history = lp.init_history(jnp.zeros((2, 3)), m)
    for s, y in pairs:
        history = lp.push(history, jnp.array(s.reshape(2, 3)), jnp.array(y.reshape(2, 3)))
    order = (int(history.head) + np.arange(m)) % m
    S, Y = pairs[-m:, 0], pairs[-m:, 1]
    np.testing.assert_array_equal(history.s[order].reshape(m, 6), S)
    np.testing.assert_array_equal(history.y[order].reshape(m, 6), Y)
    usable = np.sum(S * Y, axis=1) > 0
    assert 0 < usable.sum() < m  # both kinds are there
    both = usable[:, None] & usable[None, :]
    R = np.where(both, np.triu(S @ Y.T), np.eye(m))
    yy = np.where(both | np.eye(m, dtype=bool), Y @ Y.T, 0.0)
    products, pairs = history.products, np.ix_(order, order)
    np.testing.assert_allclose(products.inverse[pairs], np.linalg.inv(R), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(products.yy[pairs], yy, rtol=1e-12)
    np.testing.assert_allclose(products.sy[order], np.sum(S * Y, axis=1), rtol=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS, ids=["two_loop", "gram"])
def test_derivatives_are_finite_where_nothing_is_usable(direction):
    """All the divisions by sᵀy and yᵀy are guarded twice: no NaN comes back through them."""

    def total(g, s, y):
        history = lp.push(lp.init_history(g, 3), s, y)
        return jnp.sum(direction(g, history))

    ones, zeros = jnp.ones(4), jnp.zeros(4)
    with jax.debug_nans(True):
        for s, y in [(zeros, zeros), (ones, -ones), (ones, zeros), (zeros, ones)]:
            grads = jax.grad(total, argnums=(0, 1, 2))(ones, s, y)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_low_precision_leaves_accumulate_in_float32(dtype):
    params = {"a": jnp.ones(4, dtype), "b": jnp.ones(3, jnp.float32)}
    history = lp.init_history(params, 3)
    assert history.products.sy.dtype == jnp.float32
    history = lp.push(history, params, jax.tree.map(lambda x: 2 * x, params))
    d = lp.gram_direction(params, history)
    assert jax.tree.map(lambda x: x.dtype, d) == jax.tree.map(lambda x: x.dtype, params)
    for leaf in jax.tree.leaves(d):  # H = I/2 on this direction
        np.testing.assert_allclose(leaf.astype(np.float32), -0.5, rtol=1e-2)


@pytest.mark.parametrize("memory_size", [0, -1])
def test_bad_memory_size(memory_size):
    with pytest.raises(ValueError, match="memory_size must be an integer of at least 1"):
        lp.init_history(jnp.zeros(3), memory_size)


def test_pairs_of_different_shape_are_refused():
    history = lp.init_history(jnp.zeros(3), 2)
    with pytest.raises(ValueError, match="must agree in shape"):
        lp.push(history, jnp.zeros(3), jnp.zeros(4))
