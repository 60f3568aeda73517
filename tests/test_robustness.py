"""NaN, infinity and huge gradients at any step, by any policy: the run comes back from them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jax_lbfgs_pi as lp
from jax_lbfgs_pi import history as h
from tests import oracles
from tests.marks import some_of

X0 = jnp.array([-1.2, 1.0, 0.5])
FAULTS = {
    "nan value": lambda f, g: (jnp.nan, g),
    "inf value": lambda f, g: (jnp.inf, g),
    "-inf value": lambda f, g: (-jnp.inf, g),
    "nan gradient": lambda f, g: (f, jnp.full_like(g, jnp.nan)),
    "one nan": lambda f, g: (f, g.at[1].set(jnp.nan)),
    "inf gradient": lambda f, g: (f, jnp.full_like(g, -jnp.inf)),
    "huge gradient": lambda f, g: (1e300, 1e300 * jnp.ones_like(g)),
    "sentinel": lambda f, g: (1e10, jnp.zeros_like(g)),
}


@pytest.mark.parametrize(
    ("memory", "policy"),
    some_of(
        [(5, None), ("full", None), ("dense", None), (5, "paper-mnist"), ("full", "rule"),
         ("dense", "rule")],
        quick=(0, 1, 2),
    ),
)  # fmt: skip
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_at_any_step_is_taken_back(name, memory, policy):
    """At each of the steps 1 to 39, in one batch: at the end all are at the minimum."""
    tx = lp.lbfgs_pi(policy, memory_size=memory)

    def run(when):
        def step(carry, k):
            x, state = carry
            value, grads = jax.value_and_grad(oracles.rosenbrock)(x)
            bad = FAULTS[name](value, grads)
            value, grads = jax.tree.map(
                lambda a, b: jnp.where(k == when, a, b), bad, (value, grads)
            )
            updates, state = tx.update(grads, state, x, value=value)
            return (optax.apply_updates(x, updates), state), (x, state[0].num_retreats)

        (x, _), (xs, retreats) = jax.lax.scan(step, (X0, tx.init(X0)), jnp.arange(300))
        return oracles.rosenbrock(x), xs, retreats

    steps = jnp.arange(1, 40)
    values, xs, retreats = jax.jit(jax.vmap(run))(steps)
    assert np.isfinite(xs).all()
    assert np.all(values < 1e-8)
    for i, k in enumerate(steps):
        assert retreats[i, k] == (retreats[i, k - 1]) + 1


@pytest.mark.parametrize(
    ("policy", "scale"),
    some_of(
        itertools.product((None, "rule"), (1e34, 1e25, 1e19, 1.0, 1e-12, 1e-18, 1e-30)),
        quick=(0, 6, 8),
    ),
)
def test_squares_of_gradients_out_of_the_range_of_float32(scale, policy):
    """F and its gradient are finite, the square of the gradient is not, or is 0."""
    x0 = X0.astype(jnp.float32)
    one = lp.minimize(oracles.rosenbrock, x0, policy=policy, tol=0.0)
    other = lp.minimize(
        lambda x: jnp.float32(scale) * oracles.rosenbrock(x), x0, policy=policy, tol=0.0
    )
    np.testing.assert_allclose(other.params, 1.0, atol=1e-4)
    assert float(other.value) / scale < 1e-8
    assert int(other.num_evals) < int(one.num_evals) + 40  # the end is rounding
    assert np.isfinite(other.grad_norm)
    grads = jax.grad(oracles.rosenbrock)(x0)
    norms = np.asarray(other.trajectory.grad_norm)
    np.testing.assert_allclose(norms[0], scale * float(jnp.linalg.norm(grads)), rtol=1e-5)


def test_a_gradient_that_falls_through_the_whole_range_of_float32():
    """From 1e21 to 1e-4, in units of f that follow; in float64 the same minimum."""
    weights, x0 = np.array([1.0, 3.0]), np.array([5e6, -8e6])

    def f(x):
        return jnp.sum(weights.astype(x.dtype) * ((x - 1.0) ** 4 + 0.1 * (x - 1.0) ** 2))

    low = lp.minimize(f, jnp.array(x0, jnp.float32), max_iters=1000)
    high = lp.minimize(f, jnp.array(x0), max_iters=1000)
    assert lp.Status(int(low.status)) == lp.Status(int(high.status)) == lp.Status.CONVERGED
    np.testing.assert_allclose(low.params, high.params, atol=1e-2)


WALLS = {
    "a repulsion": (lambda x: x[0] ** -12.0 + x[0] + jnp.sum((x[1:] - 1.0) ** 2), 0.01),
    "an exponential": (lambda x: jnp.exp(-60 * x[0]) + x[0] + jnp.sum((x[1:] - 1.0) ** 2), -1.0),
}


@pytest.mark.parametrize("memory", [20, "full", "dense"])
@pytest.mark.parametrize("name", WALLS)
def test_down_a_wall_into_a_valley_whose_curvature_is_nothing_beside_it(name, memory):
    """By 1e26 and more: pairs from the valley are kept all the same, and f falls to the minimum."""
    fun, start = WALLS[name]
    result = lp.minimize(fun, jnp.array([start, 0.0, 0.0]), memory_size=memory, max_evals=120)
    lowest = {"a repulsion": 12 ** (1 / 13), "an exponential": np.log(60) / 60}[name]
    np.testing.assert_allclose(result.params, [lowest, 1.0, 1.0], rtol=1e-6)


@pytest.mark.parametrize("memory", [20, "full", "dense"])
@pytest.mark.parametrize("distance", some_of([8.0, 11.0, 12.0], quick=(1,)))
def test_from_a_plateau_into_a_well_in_float32(distance, memory):
    """The gradient grows from 1e-30 to 1, and its unit, which was raised, falls again."""
    start = jnp.array([distance, 0.3, -0.2], jnp.float32)
    well = lambda x: -jnp.exp(-0.5 * jnp.sum(x * x))  # noqa: E731
    result = lp.minimize(well, start, memory_size=memory, tol=0.0, max_iters=200)
    np.testing.assert_allclose(result.value, -1.0, rtol=1e-6)
    np.testing.assert_allclose(result.params, 0.0, atol=1e-3)


@jax.jit
def solve_quadratic(A, x):
    f = lambda x: jnp.sum(A * (x - 1.0) ** 2)  # noqa: E731
    return lp.minimize(f, x, max_iters=60), f(x)


@settings(max_examples=200, deadline=None)
@given(
    scale=st.floats(-140, 140),
    start=st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=4),
    condition=st.floats(0, 6),
)
def test_no_update_is_ever_nan_and_f_never_rises(scale, start, condition):
    """Quadratics of any unit and conditioning, in float64."""
    A = 10.0**scale * np.geomspace(1.0, 10.0**condition, 4)
    result, f0 = solve_quadratic(A, np.array(start))
    assert np.isfinite(result.params).all()
    assert float(result.value) <= float(f0)
    assert lp.Status(int(result.status)) != lp.Status.UNBOUNDED


push = jax.jit(h.push)
directions = jax.jit(lambda g, history: (lp.gram_direction(g, history),
                                         lp.two_loop_direction(g, history)))  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    m=st.integers(1, 5),
    pairs=st.lists(
        st.tuples(*[st.lists(st.floats(-3, 3), min_size=3, max_size=3)] * 2), min_size=1, max_size=9
    ),
)
def test_the_window_holds_the_last_m_pairs_and_their_products(m, pairs):
    history = h.init_history(jnp.zeros(3), m)
    for s, y in pairs:
        history = push(history, jnp.array(s), jnp.array(y))
    newest = pairs[-m:]
    order = [(int(history.head) - 1 - k) % m for k in range(len(newest))]
    for slot, (s, y) in zip(order, reversed(newest), strict=True):
        np.testing.assert_array_equal(history.s[slot], s)
        np.testing.assert_array_equal(history.y[slot], y)
        np.testing.assert_allclose(history.products.sy[slot], np.dot(s, y), atol=1e-12)
    direction, reference = directions(jnp.array([1.0, -2.0, 0.5]), history)
    usable = [np.dot(s, y) for s, y in newest if np.dot(s, y) > 0]
    if all(x > 1e-3 for x in usable):  # else both are rounding
        np.testing.assert_allclose(
            direction, reference, rtol=1e-5, atol=1e-6 * np.abs(reference).max()
        )
