import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.bench.kanzow_steck import (
    NUM_RECENT,
    SUCCESS,
    kanzow_steck,
    regularised_direction,
    secant_direction,
)
from jax_lbfgs_pi.loop import make_loop
from tests import oracles


def bfgs_matrix(pairs, scale, n):
    B = scale * np.eye(n)
    for s, y in pairs:
        Bs = B @ s
        B = B - np.outer(Bs, Bs) / (s @ Bs) + np.outer(y, y) / (s @ y)
    return B


def some_pairs(n, num, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(n, n))
    A = scale * (root @ root.T + np.eye(n))
    steps = rng.normal(size=(num, n))
    steps /= np.linalg.norm(steps, axis=1)[:, None]
    return [(s, A @ s) for s in steps], rng.normal(size=n)


def rows(pairs, m, n):
    """As the state holds them: the newest last, zeros where there is none."""
    s, y = np.zeros((m, n)), np.zeros((m, n))
    for i, pair in enumerate(reversed(pairs)):
        s[m - 1 - i], y[m - 1 - i] = pair
    return jnp.array(s), jnp.array(y)


@pytest.mark.parametrize("num", [0, 1, 3, 5])
@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("mu", [1e-4, 1.0, 50.0])
def test_directions_are_those_of_dense_matrices(num, scale, mu):
    n, m = 9, 5
    pairs, g = some_pairs(n, num, scale=scale)
    gamma = pairs[-1][1] @ pairs[-1][1] / (pairs[-1][0] @ pairs[-1][1]) if pairs else scale
    s, y = rows(pairs, m, n)
    args = (s, y, jnp.array(gamma), jnp.array(mu), jnp.array(g))
    expected = np.linalg.solve(bfgs_matrix(pairs, gamma, n) + mu * gamma * np.eye(n), -g)
    np.testing.assert_allclose(jax.jit(regularised_direction)(*args), expected, rtol=1e-7)
    shifted = [(s, y + mu * gamma * s) for s, y in pairs]
    expected = np.linalg.solve(bfgs_matrix(shifted, gamma * (1 + mu), n), -g)
    np.testing.assert_allclose(jax.jit(secant_direction)(*args), expected, rtol=1e-7)


def test_the_norm_of_the_direction_falls_with_mu():
    pairs, g = some_pairs(9, 5)
    s, y = rows(pairs, 5, 9)
    norms = [
        float(jnp.linalg.norm(regularised_direction(s, y, jnp.array(3.0), mu, jnp.array(g))))
        for mu in jnp.array([0.0, 1e-2, 1.0, 1e2])
    ]
    assert norms == sorted(norms, reverse=True)


def run(tx, fun, x0, num_evals, tol=1e-300):
    """The trajectory of all evaluations, and the best iterate."""
    loop = make_loop(
        tx,
        fun,
        max_iters=num_evals - 1,
        stopping=lp.Stopping(gtol=tol, patience=None),
        retreats=True,
    )

    @jax.jit
    def go(x):
        return jax.lax.while_loop(loop.running, loop.body, loop.init(x))

    state = jax.device_get(go(x0))
    return state.best, state.trajectory


@pytest.fixture(params=[False, True], ids=["matrix", "secant"])
def tx(request):
    return kanzow_steck(5, secant=request.param)


def test_quadratics(tx):
    A = 1e-5 * jnp.diag(jnp.geomspace(1.0, 1e3, 12))
    best, _ = run(tx, lambda x: 0.5 * (x - 2.0) @ A @ (x - 2.0), jnp.zeros(12), 200)
    np.testing.assert_allclose(best.params, 2.0, atol=1e-3)


def test_rosenbrock(tx):
    best, trajectory = run(tx, oracles.rosenbrock, jnp.array([-1.2, 1.0]), 150)
    assert best.value < 1e-12
    made = trajectory.num_evals[trajectory.num_evals > 0]
    np.testing.assert_array_equal(made, np.arange(1, len(made) + 1))  # one for each update


def test_the_scale_of_f_makes_no_difference():
    x0 = jnp.array([-1.2, 1.0, -0.5, 0.8])
    _, one = run(kanzow_steck(), oracles.rosenbrock, x0, 30)
    _, other = run(kanzow_steck(), lambda x: 2.0**20 * oracles.rosenbrock(x), x0, 30)
    np.testing.assert_allclose(other.value, 2.0**20 * one.value, rtol=1e-6)


def steps_of(fun, x0, num, tx):
    """The state and f after each update, in a plain loop."""
    x, state, seen = jnp.array(x0), tx.init(jnp.array(x0)), []

    @jax.jit
    def step(x, state):
        value, grads = jax.value_and_grad(fun)(x)
        updates, state = tx.update(grads, state, x, value=value)
        return optax.apply_updates(x, updates), state, value

    for _ in range(num):
        before = (x, state)
        x, state, value = step(x, state)
        seen.append((*before, float(value), state))
    return seen


def test_accepted_points_are_those_that_fall_below_the_largest_recent_value(tx):
    """The test of acceptance, the growth and shrinking of μ, from the values alone."""
    accepted, trials, num_rejected = [], 0, 0
    for x, before, value, after in steps_of(oracles.rosenbrock, [-1.2, 1.0, -0.5, 0.8], 60, tx):
        took = int(after.num_accepted) > int(before.num_accepted)
        if accepted:
            recent = accepted[-NUM_RECENT:] if len(accepted) >= NUM_RECENT else accepted[-1:]
            decrease = max(recent) - value
            assert took == (decrease > SUCCESS * float(before.predicted))
            trials += 1
            num_rejected += not took
            if not took:
                assert float(after.mu) >= 4 * float(before.mu)
        if took:
            accepted.append(value)
            np.testing.assert_array_equal(after.params, x)
        np.testing.assert_array_equal(after.recent[-1], accepted[-1])
    assert num_rejected >= 3
    assert trials - num_rejected >= 20


def test_the_model_predicts_its_own_decrease():
    """`-(gᵀd + ½ dᵀBd)`, by the dense matrix."""
    for _, _, _, state in steps_of(oracles.rosenbrock, [-1.2, 1.0, -0.5], 25, kanzow_steck(5)):
        pairs = [(s, y) for s, y in zip(*map(np.asarray, (state.s, state.y)), strict=True) if s @ s]
        B, g = bfgs_matrix(pairs, float(state.gamma), 3), np.asarray(state.grads)
        d = np.linalg.solve(B + float(state.mu * state.gamma) * np.eye(3), -g)
        np.testing.assert_allclose(state.predicted, -(g @ d + 0.5 * d @ B @ d), rtol=1e-5)


def test_it_comes_back_from_forbidden_regions(tx):
    """Where f is NaN, left of 0.1 and, at first, every trial is there."""
    best, trajectory = run(tx, lambda x: jnp.sum(x - jnp.log(x - 0.1)), jnp.array([1.0, 50.0]), 80)
    assert np.isnan(trajectory.value).any()
    np.testing.assert_allclose(best.params, 1.1, atol=1e-5)


def test_at_a_stationary_start_it_stays():
    for x, _, value, state in steps_of(lambda x: jnp.sum(x**2), [0.0, 0.0], 4, kanzow_steck()):
        np.testing.assert_array_equal(x, 0.0)
        assert value == 0.0
        assert np.isfinite(state.mu)


def test_parameters_are_any_tree():
    x0 = {"a": jnp.array([[-1.2, 1.0]]), "b": jnp.array(0.3)}

    def fun(tree):
        return oracles.rosenbrock(tree["a"][0]) + (tree["b"] - 1.0) ** 2

    best, _ = run(kanzow_steck(), fun, x0, 150)
    np.testing.assert_allclose(best.params["a"], 1.0, atol=1e-5)
    np.testing.assert_allclose(best.params["b"], 1.0, atol=1e-5)


def test_what_it_needs():
    tx = kanzow_steck()
    x = jnp.zeros(2)
    for kwargs in ({"params": x}, {"value": 0.0}):
        with pytest.raises(ValueError, match="compares values of f"):
            tx.update(x, tx.init(x), **kwargs)
    with pytest.raises(ValueError, match="at least 1, but got 0"):
        kanzow_steck(0)
