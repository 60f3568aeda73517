"""All pairs in two matrices: against a window that has room for all, and against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lbfgs_pi as lp
from tests import oracles


def quartic(x, A, b):
    """Not convex."""
    return 0.5 * x @ (A @ x) - b @ x + 0.1 * jnp.sum(x**4) + jnp.sum(jnp.cos(2.0 * x))


def numbers(seed, n):
    rng = np.random.default_rng((seed, 5))
    A, b = rng.normal(size=(n, n)) / n**0.5, rng.normal(size=n)
    return A @ A.T + 0.1 * np.eye(n), b, rng.normal(size=n)


class Recorder(lp.Rule):
    """The rule, which keeps what it is shown and the γ that it answers."""

    def scale(self, seen, memory):
        scaling, memory = super().scale(seen, memory)
        SEEN[:] = seen.curvatures, seen.in_span, scaling.gamma
        return scaling, memory


SEEN: list = []


@pytest.mark.parametrize(
    ("n", "guarded", "with_value"), [(4, True, True), (4, False, True), (11, True, False)]
)
def test_it_is_two_loops_over_all_pairs_each_after_the_one_before(n, guarded, with_value):
    """A step is t H g, and what a policy reads that of all accepted pairs; ω = 1."""
    guard, compared = lp.Guard() if guarded else None, 0
    tx = lp.scale_by_lbfgs_pi(Recorder(omega_power=0.0), memory_size="full", guard=guard)

    @jax.jit
    def step(A, b, x, state):
        value, g = jax.value_and_grad(quartic)(x, A, b)
        d, state = tx.update(g, state, x, value=value if with_value else None)
        return g, d, state, tuple(SEEN)

    for seed in range(10):
        A, b, x = numbers(seed, n)
        x, last, pairs, loops = jnp.asarray(x), None, [], []
        state = tx.init(x)
        for _ in range(25):
            before, held, point = int(state.count), int(state.history.num_pairs), np.asarray(x)
            g, d, state, (curvatures, in_span, gamma) = step(A, b, x, state)
            x, g = x - d, np.asarray(g)
            if int(state.count) == before:
                continue
            if last is not None and int(state.history.num_pairs) > held:
                s, y = point - last[0], g - last[1]
                if np.linalg.norm(s) < 1e-3 * np.linalg.norm(point):
                    break
                loops += [(s, y), *pairs[-1:], *(((s, y),) if pairs else ())]
                pairs.append((s, y))
                expected = -float(state.step_size) * oracles.two_loop(loops, g, float(gamma))
                size = np.linalg.norm(expected)
                np.testing.assert_allclose(d, expected, rtol=0, atol=1e-8 * size)
                ghg = -g @ oracles.two_loop(loops, g, 0.0)
                np.testing.assert_allclose(in_span, ghg, rtol=1e-7)
                ratios = [(y @ y) / (s @ y) for s, y in pairs]
                np.testing.assert_allclose(curvatures, [max(ratios), min(ratios)], rtol=1e-8)
                compared += 1
            last = point, g
    assert compared > 80


@pytest.mark.parametrize(("n", "power"), [(2, 0.0), (6, 0.0), (2, 1.0), (6, 1.0)])
def test_both_matrices_are_those_of_their_formulas(n, power):
    """M = Vᵀ M V and R = Vᵀ R V + ω s sᵀ / sᵀy of the accepted pairs, in NumPy.

    Three times: of the new pair, of the one before, of the new one.
    """
    tx = lp.scale_by_lbfgs_pi(lp.Rule(omega_power=power), memory_size="full")

    @jax.jit
    def step(A, b, x, state):
        value, grads = jax.value_and_grad(quartic)(x, A, b)
        updates, state = tx.update(grads, state, x, value=value)
        return x - updates, state, grads, value

    compared = 0
    for seed in range(80):
        A, b, x = numbers(seed, n)
        state, last, M, R = tx.init(jnp.asarray(x)), None, np.eye(n), np.zeros((n, n))
        older = []
        for _ in range(12):
            before, pairs, point = int(state.count), int(state.history.num_pairs), np.asarray(x)
            x, state, g, f = step(A, b, x, state)
            if int(state.count) == before:
                continue
            if last is not None and int(state.history.num_pairs) > pairs:
                s, y = point - last[0], np.asarray(g) - last[1]
                if np.linalg.norm(s) < 1e-3 * np.linalg.norm(point):
                    break
                omega = oracles.omega(float(f) - last[2], last[1] @ s, g @ s, power)
                new, largest = (s, y, omega), np.abs(M).max()
                for p, r, w in (new, *older, new):
                    V = np.eye(n) - np.outer(r, p) / (p @ r)
                    M, R = V.T @ M @ V, V.T @ R @ V + w * np.outer(p, p) / (p @ r)
                older = [new]
                if np.abs(M).max() < 1e-7 * largest:
                    break  # by so much at once that seven digits of 16 are all that is left
                for found, expected in ((state.history.start, M), (state.history.rest, R)):
                    size = max(np.abs(expected).max(), np.abs(V).max() ** 2 * np.abs(found).max())
                    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * max(1.0, size))
                    np.testing.assert_array_equal(found, np.asarray(found).T)
                M, R = np.asarray(state.history.start), np.asarray(state.history.rest)
                ways = np.array([M @ g, R @ g])
                size = np.abs(M).max() * np.abs(g).max() + np.abs(ways).max()
                np.testing.assert_allclose(state.history.ways, ways, rtol=0, atol=1e-9 * size)
                compared += 1
            last = point, np.asarray(g), float(f)
    assert compared > 200


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_h_stays_symmetric_and_positive_definite(dtype):
    """Over 10,000 steps on a valley that turns."""
    n, tx = 10, lp.scale_by_lbfgs_pi("rule", memory_size="full")

    def f(x, k):
        target = 0.3 * jnp.sin(0.01 * k + jnp.arange(n, dtype=x.dtype))
        return oracles.rosenbrock(x - target)

    def step(carry, k):
        x, state = carry
        value, g = jax.value_and_grad(f)(x, k)
        d, state = tx.update(g, state, x, value=value)
        M, R = state.history.start, state.history.rest
        skew = jnp.max(jnp.abs(M - M.T)) + jnp.max(jnp.abs(R - R.T))
        down = jnp.where(state.rejections == 0, g @ d, 1.0) > 0
        return (x - d, state), (skew, down, state.history.num_pairs, jnp.isfinite(x).all())

    x = jnp.zeros(n, dtype)
    steps = jnp.arange(10_000, dtype=dtype)
    (_, state), (skew, down, pairs, finite) = jax.jit(
        lambda: jax.lax.scan(step, (x, tx.init(x)), steps)
    )()
    assert np.max(skew) == 0.0
    assert np.mean(down) > 0.999
    assert np.all(finite)
    assert np.sum(np.diff(np.asarray(pairs)) < 0) <= (0 if dtype == "float64" else 20)
    H = state.pair.short_scaling() * state.history.start + state.history.rest
    eigenvalues = np.linalg.eigvalsh(np.asarray(H, np.float64))
    assert eigenvalues.min() > -10 * n * np.finfo(dtype).eps * eigenvalues.max()


def test_what_rounding_breaks_is_begun_anew():
    """R that is not positive definite any more: down the gradient, and no pair is left."""
    tx = lp.scale_by_lbfgs_pi("rule", memory_size="full")
    A, b, x = numbers(0, 3)
    x, state = jnp.asarray(x), tx.init(jnp.asarray(x))
    step = jax.jit(tx.update)
    for _ in range(4):
        value, g = jax.value_and_grad(quartic)(x, A, b)
        d, state = step(g, state, x, value=value)
        x = x - d
    history = state.history
    state = state._replace(history=history._replace(rest=-1e6 * jnp.eye(3)))
    value, g = jax.value_and_grad(quartic)(x, A, b)
    d, state = step(g, state, x, value=value)
    assert d @ g > 0
    np.testing.assert_allclose(d / jnp.linalg.norm(d), g / jnp.linalg.norm(g), rtol=1e-12)
    np.testing.assert_array_equal(state.history.start, np.eye(3))
    np.testing.assert_array_equal(state.history.rest, np.zeros((3, 3)))
    assert int(state.history.num_pairs) == 0
