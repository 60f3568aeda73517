"""H as a dense matrix: against its formula in NumPy, dense inverses, and what it promises."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy.self_scaling import UPDATES, self_scaled_broyden
from tests import oracles

NAMES = list(UPDATES)


def plain_answer(name, b, h, n):
    """τ and φ in plain Python, as the papers write them."""
    if name == "bfgs":
        return 1.0, 1.0
    if name == "self-scaled-bfgs":
        return min(1.0, 1.0 / b), 1.0
    a = b * h - 1.0
    c = (a / (1.0 + a)) ** 0.5
    rho_minus = min(1.0, h * (1.0 - c))
    theta_minus = (rho_minus - 1.0) / a
    theta_plus = 1.0 / rho_minus
    theta = max(theta_minus, min(theta_plus, (1.0 - b) / b))
    sigma = 1.0 + theta * a
    power = sigma ** (1.0 / (1.0 - n))
    if theta > 0:
        tau = min(1.0, 1.0 / b) * min(power, 1.0 / theta)
    else:
        tau = min(min(1.0, 1.0 / b) * power, sigma)
    return tau, (1.0 - theta) / (1.0 + a * theta)


def plain_update(name, H, s, y, rejections=0):
    """H₊ by its formula; b from the inverse of H itself."""
    n, sy, Hy = len(s), s @ y, H @ y
    yHy = y @ Hy
    b = s @ np.linalg.solve(H, s) / sy
    tau, phi = plain_answer(name, b, yHy / sy, n)
    tau = max(tau, b**-0.5) if rejections else tau
    v = s / sy - Hy / yHy
    return (H - np.outer(Hy, Hy) / yHy + phi * yHy * np.outer(v, v)) / tau + np.outer(s, s) / sy


@functools.cache
def stepper(update, n, start="short"):
    """A compiled step on a random quartic whose numbers are arguments."""
    tx = lp.scale_by_lbfgs_pi(lp.Rule(update=update, start=start), memory_size="dense")

    @jax.jit
    def step(A, b, x, state):
        f = lambda x: (  # noqa: E731
            0.5 * x @ (A @ x) - b @ x + 0.1 * jnp.sum(x**4) + jnp.sum(jnp.cos(2.0 * x))
        )
        value, grads = jax.value_and_grad(f)(x)
        updates, state = tx.update(grads, state, x, value=value)
        return x - updates, state, grads

    return tx, step


@pytest.mark.parametrize("update", NAMES)
def test_h_is_that_of_its_formula_on_random_sequences(update):
    """A hundred runs of 12 steps: H from accepted pairs alone, in NumPy."""
    compared = 0
    for seed in range(100):
        rng = np.random.default_rng((seed, 7))
        n = [2, 3, 6, 11][seed % 4]
        A = rng.normal(size=(n, n)) / n**0.5
        A, b = A @ A.T + 0.1 * np.eye(n), rng.normal(size=n)
        tx, step = stepper(update, n)
        x = rng.normal(size=n)
        state, H, last, num, sizes = tx.init(jnp.asarray(x)), None, None, 0, []
        for _ in range(12):
            before, rejections = int(state.count), int(state.rejections)
            point = np.asarray(x)
            x, state, g = step(A, b, x, state)
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
                    H = plain_update(update, H, s, y, rejections)
                    num = int(state.history.num_pairs)
                    found = np.asarray(state.history.matrix)
                    # H y is the change of H g, and so rounded as the H before them were.
                    sizes.append(np.linalg.norm(found, 2))
                    large = max(sizes[-3:])
                    if sharp:  # else θ is a quotient of small differences
                        # The way back from a far trial rounds s, and t d it does not.
                        exact = 1e-6 if rejections else 1e-10
                        np.testing.assert_allclose(found, H, rtol=0, atol=exact * large)
                        compared += not rejections
                    exact = 1e-12 * large * np.linalg.norm(y)
                    np.testing.assert_allclose(found @ y, s, rtol=0, atol=exact)
                    np.testing.assert_array_equal(found, found.T)
                    H = found
            last = point, np.asarray(g)
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
            x, state, g = step(A, b, x, state)
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
    expected = plain_answer("self-scaled-broyden", b, h, n)
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
        x, state, _ = step(A, b, x, state)
    assert int(state.history.num_pairs) == 3
    state = state._replace(history=state.history._replace(matrix=-state.history.matrix))
    new, state, g = step(A, b, x, state)
    assert int(state.history.num_pairs) == 1
    assert (new - x) @ g < 0
    assert np.linalg.eigvalsh(state.history.matrix).min() > 0
    for _ in range(25):
        x, (new, state, g) = new, step(A, b, new, state)
    assert np.linalg.norm(g) < 1e-6


# --- as a part of everything else -----------------------------------------------------------------


def test_trees_go_in_and_come_out():
    """Steps on a tree are those on the raveled vector."""
    tree = {"a": jnp.ones((2, 3)), "b": (jnp.zeros(()), -jnp.ones(2))}
    flat, back = jax.flatten_util.ravel_pytree(tree)
    weights = jnp.arange(1.0, 10.0)
    f = lambda v: jnp.sum(weights * (v - 0.3) ** 2) + jnp.sum(v**4)  # noqa: E731
    one = lp.minimize(f, flat, memory_size="dense")
    other = lp.minimize(lambda p: f(jax.flatten_util.ravel_pytree(p)[0]), tree, memory_size="dense")
    assert jax.tree.structure(other.params) == jax.tree.structure(tree)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), other.params,
                 back(one.params))  # fmt: skip
    assert int(one.num_evals) == int(other.num_evals)


def test_dtypes_are_kept_whatever_the_leaves():
    p = {"w": jnp.ones((3, 2), "bfloat16"), "b": jnp.ones((), "float32")}
    tx = lp.lbfgs_pi(memory_size="dense")
    state = tx.init(p)
    updates, new = jax.jit(tx.update)(jax.tree.map(jnp.ones_like, p), state, p)
    kinds = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)  # noqa: E731
    assert kinds(updates) == kinds(p)
    assert kinds(new) == kinds(state)
    assert state[0].history.matrix.dtype == jnp.float32


@pytest.mark.parametrize("policy", [None, "general", "mnist-limited", "unit"])
def test_any_policy_solves_with_it(policy):
    x0 = jnp.tile(jnp.array([-1.2, 1.0]), 3)
    result = lp.minimize(oracles.rosenbrock, x0, memory_size="dense", policy=policy, max_iters=2000)
    assert lp.Status(int(result.status)) == lp.Status.CONVERGED


def test_a_batch_is_its_problems_one_by_one():
    starts = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)))
    solve = lambda x: lp.minimize(oracles.rosenbrock, x, memory_size="dense", max_iters=25)  # noqa: E731
    batch = jax.jit(jax.vmap(solve))(starts)
    for i, x in enumerate(starts):
        one = jax.jit(solve)(x)
        np.testing.assert_allclose(batch.params[i], one.params, rtol=1e-6, atol=1e-8)


def test_a_nan_is_taken_back_and_h_stays_as_it_was():
    tx = lp.lbfgs_pi(memory_size="dense")
    x = jnp.array([-1.2, 1.0, 0.3])
    state = tx.init(x)
    for k in range(120):
        value, g = jax.value_and_grad(oracles.rosenbrock)(x)
        before = state
        if k == 9:
            value, g = jnp.nan, jnp.full_like(g, jnp.nan)
        updates, state = tx.update(g, state, x, value=value)
        if k == 9:
            np.testing.assert_array_equal(state[0].history.matrix, before[0].history.matrix)
            assert int(state[0].history.num_pairs) == int(before[0].history.num_pairs)
        x = optax.apply_updates(x, updates)
        assert np.isfinite(x).all()
    assert oracles.rosenbrock(x) < 1e-10


@pytest.mark.parametrize(("unit", "length"), [(1e16, 1.0), (1e-16, 1.0), (1.0, 1e6), (1e-8, 1e-6)])
@pytest.mark.parametrize("update", NAMES)
def test_the_trajectory_is_free_of_units(update, unit, length):
    """F times a number, x times another: the same f, step by step."""
    x0 = jnp.array([-1.2, 1.0, 0.4, 0.7])
    stopping = lp.Stopping(gtol=0.0)
    solve = jax.jit(
        lambda c, b: lp.minimize(
            lambda x: c * (0.1 + oracles.rosenbrock(x / b)), b * x0, max_iters=30, tol=stopping,
            memory_size="dense", policy=lp.Rule(update=update),
        )
    )  # fmt: skip
    plain, other = solve(1.0, 1.0), solve(unit, length)
    np.testing.assert_allclose(
        other.trajectory.value / unit, plain.trajectory.value, rtol=1e-5, atol=1e-9
    )


def test_a_run_that_is_saved_goes_on_to_the_bit():
    tx = lp.lbfgs_pi(memory_size="dense")

    @jax.jit
    def step(x, state):
        value, g = jax.value_and_grad(oracles.rosenbrock)(x)
        updates, state = tx.update(g, state, x, value=value)
        return optax.apply_updates(x, updates), state

    x = jnp.array([-1.2, 1.0, 0.3])
    state = tx.init(x)
    for k in range(30):
        if k == 13:
            saved = jax.tree.map(np.asarray, (x, state))
        x, state = step(x, state)
    again, state_again = jax.tree.map(jnp.asarray, saved)
    for _ in range(13, 30):
        again, state_again = step(again, state_again)
    jax.tree.map(np.testing.assert_array_equal, (x, state), (again, state_again))


def test_what_does_not_fit_is_named_with_its_size():
    with pytest.raises(ValueError, match=r"100,000 parameters has 80\.0 GB, more than .* 4 GB"):
        lp.minimize(lambda x: jnp.sum(x**2), jnp.zeros(100_000), memory_size="dense")
    with pytest.raises(ValueError, match=r"3,000 parameters has 0\.1 GB, more than .* 0\.01 GB"):
        lp.lbfgs_pi(memory_size=lp.Dense(limit_gb=0.01)).init(jnp.zeros(3000))
    with pytest.raises(ValueError, match="must be a number or \"dense\", but got 'all'"):
        lp.lbfgs_pi(memory_size="all")
    with pytest.raises(ValueError, match="A rule's update must be one of bfgs"):
        lp.Rule(update="dfp")
