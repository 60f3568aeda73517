"""H as a dense matrix: against its formula in NumPy, dense inverses, and what it promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy.self_scaling import UPDATES, self_scaled_broyden
from tests import oracles
from tests.marks import some_of

NAMES = list(UPDATES)


def plain_update(name, H, s, y, rejections=0, omega=1.0):
    """H₊ by its formula; b from the inverse of H itself."""
    n, sy, Hy = len(s), s @ y, H @ y
    yHy = y @ Hy
    b = s @ np.linalg.solve(H, s) / sy
    tau, phi = oracles.self_scaled(name, b, yHy / sy, n)
    tau = max(tau, b**-0.5) if rejections else tau
    v = s / sy - Hy / yHy
    kept = H - np.outer(Hy, Hy) / yHy + phi * yHy * np.outer(v, v)
    return kept / tau + omega * np.outer(s, s) / sy


@functools.cache
def stepper(update, n, start="short", power=0.0):
    """A compiled step on a random quartic whose numbers are arguments."""
    rule = lp.Rule(update=update, start=start, omega_power=power)
    tx = lp.scale_by_lbfgs_pi(rule, memory_size="dense")

    @jax.jit
    def step(A, b, x, state):
        f = lambda x: (  # noqa: E731
            0.5 * x @ (A @ x) - b @ x + 0.1 * jnp.sum(x**4) + jnp.sum(jnp.cos(2.0 * x))
        )
        value, grads = jax.value_and_grad(f)(x)
        updates, state = tx.update(grads, state, x, value=value)
        return x - updates, state, grads, value

    return tx, step


CASES = [*((name, 0.0) for name in NAMES), (NAMES[-1], 1.0)]


@pytest.mark.parametrize(
    ("update", "power"), some_of(CASES, quick=(len(CASES) - 2, len(CASES) - 1))
)
def test_h_is_that_of_its_formula_on_random_sequences(update, power):
    """A hundred runs of 12 steps: H from accepted pairs alone, in NumPy.

    After each update the pair before follows, and then the new one once more, both by BFGS.
    """
    compared = 0
    for seed in range(100):
        rng = np.random.default_rng((seed, 7))
        n = [2, 3, 6, 11][seed % 4]
        A = rng.normal(size=(n, n)) / n**0.5
        A, b = A @ A.T + 0.1 * np.eye(n), rng.normal(size=n)
        tx, step = stepper(update, n, power=power)
        x = rng.normal(size=n)
        state, H, last, num, sizes = tx.init(jnp.asarray(x)), None, None, 0, []
        older = []
        for _ in range(12):
            before, rejections = int(state.count), int(state.rejections)
            point = np.asarray(x)
            x, state, g, f = step(A, b, x, state)
            if int(state.count) == before:
                continue  # rejected: as it was
            if last is not None:
                s, y = point - last[0], np.asarray(g) - last[1]
                if np.linalg.norm(s) < 1e-2 * np.linalg.norm(point):
                    break  # s is rounded like x, and t d is not
                if int(state.history.num_pairs) == 0 or s @ y <= 0:
                    assert int(state.history.num_pairs) == num
                else:
                    H = s @ y / (y @ y) * np.eye(n) if H is None else H
                    sharp = (s @ np.linalg.solve(H, s)) * (y @ H @ y) / (s @ y) ** 2 > 1.1
                    omega = oracles.omega(float(f) - last[2], last[1] @ s, g @ s, power)
                    H = plain_update(update, H, s, y, rejections, omega)
                    for p, r, w in (*older, (s, y, omega)) if older else ():
                        H = plain_update("bfgs", H, p, r, 0, w)
                    older = [(s, y, omega)]
                    num = int(state.history.num_pairs)
                    found = np.asarray(state.history.matrix)
                    # H y is the change of H g, and so rounded as the H before them were; and that
                    # H r is p has been held since one step longer.
                    sizes.append(np.linalg.norm(found, 2))
                    large = max(sizes[-4:])
                    if sharp:  # else θ is a quotient of small differences
                        # The way back from a far trial rounds s, and t d it does not.
                        exact = 1e-6 if rejections else 1e-10
                        np.testing.assert_allclose(found, H, rtol=0, atol=exact * large)
                        compared += not rejections
                    exact = 1e-12 * large * np.linalg.norm(y)
                    np.testing.assert_allclose(found @ y, omega * s, rtol=0, atol=exact)
                    np.testing.assert_array_equal(found, found.T)
                    H = found
            last = point, np.asarray(g), float(f)
    assert compared > 300


def test_the_start_is_the_long_or_the_short_scaling():
    for start, expected in (("short", lambda s, y: s @ y / (y @ y)),
                            ("long", lambda s, y: s @ s / (s @ y))):  # fmt: skip
        tx, step = stepper("bfgs", 3, start)
        x, points = jnp.array([1.0, -2.0, 0.5]), []
        state = tx.init(x)
        A, b = np.diag([1.0, 2.0, 3.0]), np.zeros(3)
        for _ in range(2):
            points.append(np.asarray(x))
            x, state, g, _ = step(A, b, x, state)
            points.append(np.asarray(g))
        s, y = points[2] - points[0], points[3] - points[1]
        H = plain_update("bfgs", expected(s, y) * np.eye(3), s, y)
        np.testing.assert_allclose(state.history.matrix, H, atol=1e-12)


@settings(max_examples=300, deadline=None)
@given(b=st.floats(1e-3, 1e3), excess=st.floats(1e-6, 1e6), n=st.integers(2, 5000))
def test_broydens_answers_by_plain_python(b, excess, n):
    """And H₊ stays positive definite: τ > 0, φ above the least that allows it, -1 / a."""
    h = (1.0 + excess) / b
    tau, phi = self_scaled_broyden(jnp.asarray(b), jnp.asarray(h), n)
    expected = oracles.self_scaled("self-scaled-broyden", b, h, n)
    np.testing.assert_allclose((tau, phi), expected, rtol=1e-6)
    assert tau > 0
    assert phi > -1.0 / excess


@pytest.mark.parametrize("update", NAMES)
def test_quadratic_termination(update):
    """With exact steps the gradient is 0 after n steps, but for rounding."""
    n = 8
    rng = np.random.default_rng(3)
    Q, _ = np.linalg.qr(rng.normal(size=(n, n)))
    A = jnp.asarray(Q @ np.diag(np.geomspace(1, 50, n)) @ Q.T)

    class Plain(lp.Rule):
        def step_size(self, seen, products, memory):
            return jnp.asarray(1.0), memory  # which the test makes exact

    tx = lp.scale_by_lbfgs_pi(Plain(update=update), memory_size="dense", guard=None)
    x = jnp.asarray(rng.normal(size=n))
    state, norms = tx.init(x), []
    for _ in range(n + 1):
        g = A @ x
        norms.append(float(jnp.linalg.norm(g)))
        d, state = tx.update(g, state, x)
        t = (d @ g) / (d @ (A @ d))
        state = state._replace(step_size=t)
        x = x - t * d
    assert norms[-1] < 1e-10 * norms[0]
    assert norms[-2] > 1e-6 * norms[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("update", NAMES)
def test_h_stays_symmetric_and_positive_definite(update, dtype):
    """Over 10,000 steps on a valley that turns: no step upwards of the gradient's half-space."""
    n = 10
    tx = lp.scale_by_lbfgs_pi(lp.Rule(update=update), memory_size="dense")

    def f(x, k):
        # The minimum wanders, so that the run never ends.
        target = 1.0 + 0.3 * jnp.sin(0.01 * k + jnp.arange(n, dtype=x.dtype))
        return oracles.rosenbrock(x - target + 1.0)

    def step(carry, k):
        x, state = carry
        value, g = jax.value_and_grad(f)(x, k)
        d, state = tx.update(g, state, x, value=value)
        H = state.history.matrix
        moved = state.rejections == 0
        out = (
            jnp.max(jnp.abs(H - H.T)) / jnp.max(jnp.abs(H)),
            jnp.where(moved, g @ d, 1.0) > 0,
            state.history.num_pairs,
            jnp.isfinite(x).all(),
        )
        return (x - d, state), out

    x = jnp.zeros(n, dtype)
    steps = jnp.arange(10_000, dtype=dtype)
    (_, state), (skew, down, pairs, finite) = jax.jit(
        lambda: jax.lax.scan(step, (x, tx.init(x)), steps)
    )()
    assert np.max(skew[2:]) == 0.0
    assert np.mean(down) > 0.999
    assert np.all(finite)
    begun = np.sum(np.diff(np.asarray(pairs)) < 0)
    assert begun <= (0 if dtype == "float64" else 20)
    eigenvalues = np.linalg.eigvalsh(np.asarray(state.history.matrix, np.float64))
    assert eigenvalues.min() > -10 * n * np.finfo(dtype).eps * eigenvalues.max()


def test_what_rounding_breaks_is_begun_anew():
    """A matrix that is not positive definite any more: down the gradient, and from the pair on."""
    tx, step = stepper("bfgs", 3)
    A, b = np.diag([1.0, 2.0, 3.0]), np.zeros(3)
    x = jnp.array([1.0, -2.0, 0.5])
    state = tx.init(x)
    for _ in range(4):
        x, state, *_ = step(A, b, x, state)
    assert int(state.history.num_pairs) == 3
    state = state._replace(history=state.history._replace(matrix=-state.history.matrix))
    new, state, g, _ = step(A, b, x, state)
    assert int(state.history.num_pairs) == 1
    assert (new - x) @ g < 0
    assert np.linalg.eigvalsh(state.history.matrix).min() > 0
    for _ in range(25):
        x, (new, state, g, _) = new, step(A, b, new, state)
    assert np.linalg.norm(g) < 1e-6
