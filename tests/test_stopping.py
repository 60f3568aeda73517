"""When a run ends: the tests against plain Python, each status on a problem that ends so."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.stopping import Limits, Point, as_stopping, begin_watch, look
from tests import oracles

S = lp.Status


def plain(stopping, limits, points):
    """The status after each point, until one ends the run: as the docstrings state it."""
    eps, lowest = np.finfo(float).eps, np.finfo(float).min
    prev = least = flattest = start = None
    progress, down, out = 0, False, []
    for k, (f, norm, accepted) in enumerate(points):
        evals = k + 1
        finite = math.isfinite(f) and math.isfinite(norm)
        down |= f == -math.inf
        if k == 0:
            prev_of_test, least, flattest, start, progress = None, f, norm, norm, 1
        else:
            prev_of_test = prev
            if accepted and f < least - 4 * eps * abs(least):
                least, progress = f, evals
            if accepted and norm < 0.9 * flattest:
                flattest, progress = norm, evals
        gtol = max(stopping.gtol, (stopping.rel_gtol or 0.0) * start)
        gtol = 0.0 if gtol < np.finfo(float).tiny else gtol  # a CPU's XLA reads subnormals as 0
        same = (
            stopping.ftol is not None
            and prev_of_test is not None
            and abs(f - prev_of_test) <= stopping.ftol * max(abs(f), abs(prev_of_test))
        )
        stalled = stopping.patience is not None and evals - progress >= stopping.patience
        spent = limits.max_evals is not None and evals >= limits.max_evals
        over = stalled or spent or k == limits.max_iters
        lost, half = f - least, eps**0.5 * abs(least)
        high = limits.retreats and lost > half + 1e-3 * (points[0][0] - least)
        tests = (
            (accepted and norm < gtol and not high, S.CONVERGED),
            (accepted and stopping.target is not None and f <= stopping.target, S.TARGET_REACHED),
            (accepted and same, S.SMALL_CHANGE),
            (not finite and (k == 0 or not limits.retreats), S.NON_FINITE),
            (
                (over and (down or least <= -0.01 * np.finfo(float).max ** 0.5))
                or (accepted and f <= lowest / 2),
                S.UNBOUNDED,
            ),
            (stalled, S.STALLED),
            (spent, S.MAX_EVALS),
            (k == limits.max_iters, S.MAX_ITERS),
        )
        status = next((name for test, name in tests if test), S.RUNNING)
        out.append(status)
        if status != S.RUNNING:
            return out
        if accepted or k == 0:
            prev = f
    return out


VALUES = st.one_of(
    st.sampled_from([0.0, 1.0, 1.0 + 1e-15, 1.0 - 1e-12, -1.0, 5.0, math.inf, -math.inf, math.nan]),
    st.floats(-10, 10, allow_subnormal=False),
    st.just(-1.7e308),
)
NORMS = st.one_of(
    st.sampled_from([0.0, 1.0, 1e-3, math.inf, math.nan]),
    st.floats(0, 10, allow_subnormal=False),
)
MAYBE = st.one_of(st.none(), st.sampled_from([0.0, 1e-12, 1e-3, 0.5]))


@jax.jit
def one(stopping, watch, point, max_iters, retreats):
    return look(stopping, Limits(max_iters, None, retreats), watch, point)


@settings(max_examples=400, deadline=None)
@given(
    points=st.lists(st.tuples(VALUES, NORMS, st.booleans()), min_size=1, max_size=25),
    gtol=st.sampled_from([0.0, 1e-8, 0.5]),
    rel_gtol=MAYBE,
    ftol=MAYBE,
    target=st.one_of(st.none(), st.floats(-5, 5, allow_subnormal=False)),
    patience=st.one_of(st.none(), st.integers(1, 9)),
    max_iters=st.integers(0, 24),
    max_evals=st.one_of(st.none(), st.integers(1, 24)),
    retreats=st.booleans(),
)
def test_the_status_is_that_of_plain_python(
    points, gtol, rel_gtol, ftol, target, patience, max_iters, max_evals, retreats
):
    stopping = lp.Stopping(gtol, rel_gtol, ftol, target, patience)
    limits = Limits(max_iters, max_evals, retreats)
    points = [(f, g, ok and math.isfinite(f) and math.isfinite(g)) for f, g, ok in points]
    expected = plain(stopping, limits, points)
    watch, seen = begin_watch(jnp.zeros(()), jnp.zeros(())), []
    with jax.disable_jit():
        for k, (f, norm, accepted) in enumerate(points[: len(expected)]):
            numbers = (np.float64(f), np.float64(norm), np.bool_(accepted))
            point = Point(*numbers, np.int32(k), np.int32(k + 1))  # type: ignore[arg-type]
            status, watch = look(stopping, limits, watch, jax.tree.map(jnp.asarray, point))
            seen.append(S(int(status)))
    assert seen == expected


# --- how runs end ---------------------------------------------------------------------------------


def bowl(x):
    return jnp.sum(jnp.arange(1.0, x.size + 1) * (x - 1.0) ** 2)


LONG = {"max_iters": 5000}
FOURTH = {"callback": lambda p: p.num_evals == 4}
ENDS = {
    "gradient": (bowl, [5.0, 2.0], {"tol": 1e-6}, S.CONVERGED),
    "gradient, by default": (oracles.rosenbrock, [-1.2, 1.0], {}, S.CONVERGED),
    "gradient, max-norm": (bowl, [5.0, 2.0], {"tol": lp.Stopping(1e-3, norm="max")}, S.CONVERGED),
    "gradient, relative": (
        oracles.rosenbrock, [-1.2, 1.0], {"tol": lp.Stopping(gtol=0.0, rel_gtol=1e-3)}, S.CONVERGED,
    ),
    "small change": (
        lambda x: 1.0 + bowl(x) ** 2, [3.0, 2.0], {"tol": lp.Stopping(0.0, ftol=1e-3)},
        S.SMALL_CHANGE,
    ),
    "target": (oracles.rosenbrock, [-1.2, 1.0], {"tol": lp.Stopping(target=0.5)}, S.TARGET_REACHED),
    "iterations": (oracles.rosenbrock, [-1.2, 1.0], {"max_iters": 5}, S.MAX_ITERS),
    "evaluations": (oracles.rosenbrock, [-1.2, 1.0], {"max_evals": 5}, S.MAX_EVALS),
    "rounding": (lambda x: 1e3 + bowl(x), [5.0, 2.0], {"tol": 0.0}, S.STALLED),
    "infeasible start": (lambda x: jnp.sum(jnp.log(x)), [-1.0, 2.0], {}, S.NON_FINITE),
    "no way back": (lambda x: jnp.sum(jnp.sqrt(x)), [0.01, 0.02], {"guard": None}, S.NON_FINITE),
    "linear": (lambda x: -jnp.sum(x), [1.0, 2.0], LONG, S.UNBOUNDED),
    "a region of -inf": (
        lambda x: jnp.where(x[0] > 50.0, -jnp.inf, -jnp.sum(x**2)), [1.0, 2.0], LONG, S.UNBOUNDED,
    ),
    "exponential": (lambda x: -jnp.sum(jnp.exp(x)), [1.0, 2.0], LONG, S.UNBOUNDED),
    "callback": (oracles.rosenbrock, [-1.2, 1.0], FOURTH, S.STOPPED),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_each_end_has_its_name_and_returns_an_accepted_point(name):
    fun, x0, options, expected = ENDS[name]
    result = jax.jit(lambda x: lp.minimize(fun, x, **options))(jnp.array(x0))
    assert S(int(result.status)) == expected
    if expected == S.NON_FINITE and options == {}:
        np.testing.assert_array_equal(result.params, x0)
        return
    value, grads = jax.value_and_grad(fun)(result.params)
    np.testing.assert_allclose(result.value, value, rtol=1e-6)
    assert np.isfinite(result.value)
    assert float(result.value) <= float(fun(jnp.array(x0)))
    stopping = as_stopping(options.get("tol"), jnp.zeros(()))
    if expected == S.CONVERGED:
        order = np.inf if stopping.norm == "max" else 2
        np.testing.assert_allclose(result.grad_norm, np.linalg.norm(grads, order), rtol=1e-6)
        start = np.linalg.norm(jax.grad(fun)(jnp.array(x0)), order)
        assert float(result.grad_norm) < max(stopping.gtol, (stopping.rel_gtol or 0) * start)
        assert result.trajectory.grad_norm[-1] == result.grad_norm
    if expected == S.TARGET_REACHED:
        assert float(result.value) <= 0.5
        before = np.asarray(result.trajectory.value)[: int(result.num_iters)]
        assert np.all(before > 0.5)
    if expected == S.SMALL_CHANGE:
        *_, before, last = np.asarray(result.trajectory.value)[: int(result.num_iters) + 1]
        assert abs(last - before) <= 1e-3 * max(abs(last), abs(before))
    if expected == S.MAX_EVALS:
        assert (int(result.num_evals), result.trajectory.value.shape) == (5, (5,))


def test_every_status_but_running_is_met_above():
    assert {end[-1] for end in ENDS.values()} == set(S) - {S.RUNNING}


def test_a_rejected_point_is_never_converged_nor_returned():
    """A sentinel of gradient 0, finite or not, where the first step leads."""
    for fill in (1e10, np.inf, np.nan):
        visited = []

        def f(x, fill=fill):
            inside = jnp.maximum(x, -0.1)
            return jnp.where(x[0] > -0.1, jnp.sum(5.0 * (inside - 0.2) ** 2 + inside**2), fill)

        options = {"first_step": 3.0, "callback": visited.append}
        result = lp.minimize(f, jnp.array([1.0]), **options)
        jax.effects_barrier()
        assert any(not p.accepted for p in visited)
        assert S(int(result.status)) == S.CONVERGED
        np.testing.assert_allclose(result.params, 1.0 / 6.0, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16, jnp.float16])
def test_the_default_tolerance_suits_the_dtype(dtype):
    stopping = as_stopping(None, {"a": jnp.zeros(3, dtype), "b": jnp.zeros(2)})
    np.testing.assert_allclose(stopping.gtol, float(jnp.finfo(dtype).eps) ** 0.5)


def test_float32_runs_end_soon_after_they_are_solved():
    """100 quadratics + 1, whose gradients mostly never fall below a tolerance of float64."""
    centres = jax.random.normal(jax.random.key(0), (100, 5), jnp.float32)
    A = jnp.arange(1.0, 6.0, dtype=jnp.float32)

    def solve(tol):
        return jax.jit(
            jax.vmap(
                lambda c: lp.minimize(
                    lambda x: 1 + jnp.sum(A * (x - c) ** 2), jnp.zeros_like(c), tol=tol
                )
            )
        )(centres)

    by_default = solve(None)
    assert np.all(by_default.status == S.CONVERGED)
    assert np.all(by_default.grad_norm < np.sqrt(np.finfo(np.float32).eps))
    strict = solve(1e-12)
    assert np.all((strict.status == S.STALLED) | (strict.grad_norm < 1e-12))
    assert int(jnp.max(strict.num_evals)) < 150
    assert np.max(np.abs(strict.params - centres)) < 1e-3


def test_stopping_numbers_can_be_mapped_over_and_traced():
    solve = lambda tol, ftol: lp.minimize(  # noqa: E731
        oracles.rosenbrock, jnp.array([-1.2, 1.0]), tol=lp.Stopping(gtol=tol, ftol=ftol)
    )
    tols = jnp.array([1e-2, 1e-5, 1e-8])
    result = jax.jit(jax.vmap(solve, (0, None)))(tols, 0.0)
    assert np.all(result.grad_norm < tols)
    assert np.all(np.diff(result.num_evals) > 0)
    stacked = jax.tree.map(
        lambda *x: jnp.stack(x), *(lp.Stopping(gtol=t) for t in (1e-2, 1e-5, 1e-8))
    )
    again = jax.vmap(lambda s: lp.minimize(oracles.rosenbrock, jnp.array([-1.2, 1.0]), tol=s))(
        stacked
    )
    np.testing.assert_array_equal(again.num_evals, result.num_evals)


@pytest.mark.parametrize(
    ("tol", "error", "message"),
    [
        (-1.0, ValueError, "tol must be at least 0"),
        (np.float32(-1), ValueError, "tol must be at least 0"),
        (float("nan"), ValueError, "tol must be at least 0"),
        ("1e-3", TypeError, "tol must be a number"),
        (jnp.zeros(2), TypeError, "tol must be a number"),
        (lp.Stopping, TypeError, "tol must be a number"),
        ({"gtol": 1e-3}, TypeError, "tol must be a number, or tests by name as Stopping"),
        (lp.Stopping(target=float("nan")), ValueError, "target must be a number, but got nan"),
        (lp.Stopping(ftol=-1.0), ValueError, "ftol must be at least 0"),
        (lp.Stopping(patience=-1), ValueError, "patience must be at least 0"),
        (lp.Stopping(norm="1"), ValueError, "norm must be one of 2, max"),
    ],
)
def test_what_is_no_tolerance(tol, error, message):
    with pytest.raises(error, match=message):
        lp.minimize(bowl, jnp.zeros(2), tol=tol)


def neighbours(p, X, same):
    """Minus the mean probability of a neighbour of the same class (Goldberger et al. 2004)."""
    Z = X @ p.reshape(-1, 2)
    D = jnp.sum((Z[:, None] - Z[None]) ** 2, -1) + jnp.where(jnp.eye(len(Z)) > 0, 1e30, 0.0)
    return -jnp.mean(jnp.sum(same * jax.nn.softmax(-D, axis=1), axis=1))


def test_no_run_converges_on_a_plateau_above_its_best_point():
    """Far out this f is piecewise constant, and runs that go uphill for a step may end there."""
    rng, y = np.random.default_rng(0), np.arange(90) % 3
    X = rng.normal(size=(90, 8)) * np.array([3, 3, 1, 1, 1, 1, 2, 2])
    X[:, 2:4] += np.stack([2.0 * y, 2.0 * (y == 1)], axis=1)
    same = (y[:, None] == y) - np.eye(90)
    starts = 0.1 * rng.normal(size=(40, 16))
    solve = lambda x0: lp.minimize(lambda x: neighbours(x, X, same), x0, max_iters=150)  # noqa: E731
    result = jax.jit(jax.vmap(solve))(starts)
    past = result.trajectory
    least = np.min(np.where(past.accepted, past.value, np.inf), axis=1)
    fall = past.value[:, 0] - least
    assert np.all(result.value - least <= 1e-3 * fall + 1e-7)
    met = np.any(past.accepted & (past.grad_norm < 1.5e-8), axis=1)
    ended = np.asarray(result.status) == S.CONVERGED
    assert np.all(met[ended])
    assert np.sum(ended) >= 20


@pytest.mark.parametrize(
    ("f", "retreats", "status"),
    [
        (2.0 + 0.999e-3 * 8.0, True, S.CONVERGED),
        (2.0 + 1.001e-3 * 8.0, True, S.RUNNING),
        (9.0, True, S.RUNNING),
        (9.0, False, S.CONVERGED),
    ],
)
def test_where_f_is_far_above_the_least_nothing_converges(f, retreats, status):
    stopping, limits = as_stopping(1e-3, jnp.zeros(())), Limits(100, None, retreats)
    watch = begin_watch(jnp.zeros(()), jnp.zeros(()))
    for k, (value, norm) in enumerate([(10.0, 1.0), (2.0, 0.5), (f, 1e-9)]):
        point = Point(jnp.asarray(value), jnp.asarray(norm), jnp.asarray(True), k, k + 1)
        found, watch = look(stopping, limits, watch, jax.tree.map(jnp.asarray, point))
        assert int(found) == (status if k == 2 else S.RUNNING)


# --- lengths of steps, callbacks ------------------------------------------------------------------


def steps_of(**options):
    points = []
    result = lp.minimize(
        oracles.rosenbrock,
        jnp.array([-1.2, 1.0, 0.3]),
        callback=lambda p: points.append(p),
        **options,
    )
    jax.effects_barrier()
    assert len(points) == int(result.num_evals)
    return points, result


def test_no_limit_may_be_infinity():
    """Of a step's length, where the gradient is 0 too; and of the patience."""
    tx, x = lp.lbfgs_pi(max_step=jnp.inf), jnp.zeros(2)
    state = tx.init(x)
    for _ in range(5):
        value, grads = jax.value_and_grad(lambda x: jnp.sum((x - 1.0) ** 2))(x)
        updates, state = tx.update(grads, state, x, value=value)
        x = optax.apply_updates(x, updates)
    np.testing.assert_array_equal(x, 1.0)
    for patience in (jnp.inf, 1e10, None):
        stopping = lp.Stopping(gtol=0.0, patience=patience)
        result = lp.minimize(lambda x: jnp.sum((x - 1.0) ** 2), x, tol=stopping, max_iters=70)
        assert result.status == S.MAX_ITERS


def test_lengths_of_steps_in_the_units_of_x():
    points, result = steps_of(first_step=0.1, max_step=0.15)
    x = np.array([p.params for p in points])
    np.testing.assert_allclose(np.linalg.norm(x[1] - x[0]), 0.1, rtol=1e-9)
    last_accepted, lengths = x[0], []
    for p in points[1:]:
        lengths.append(np.linalg.norm(p.params - last_accepted))
        last_accepted = p.params if p.accepted else last_accepted
    assert max(lengths) <= 0.15 * (1 + 1e-9)
    assert max(lengths) > 0.149
    assert S(int(result.status)) == S.CONVERGED
    free, _ = steps_of()
    x = np.array([p.params for p in free])
    assert np.max(np.linalg.norm(np.diff(x, axis=0), axis=1)) > 0.2
    for name in ("first_step", "max_step"):
        for length in (0.0, float("nan")):
            with pytest.raises(ValueError, match=f"{name} must be positive"):
                lp.minimize(bowl, jnp.zeros(2), **{name: length})
        for length in ("1", jnp.ones(2)):
            with pytest.raises(TypeError, match=f"{name} must be a number or None"):
                lp.minimize(bowl, jnp.zeros(2), **{name: length})


def test_a_callback_sees_what_the_trajectory_has_and_in_order():
    points, result = steps_of()
    k = len(points)
    for name in ("value", "grad_norm", "num_evals", "accepted"):
        seen = np.array([getattr(p, name) for p in points])
        np.testing.assert_array_equal(seen, np.asarray(getattr(result.trajectory, name))[:k])
    np.testing.assert_array_equal([p.num_iters for p in points], np.arange(k))
    for p in points:
        f = oracles.rosenbrock(jnp.asarray(p.params))
        np.testing.assert_allclose(f, p.value, rtol=1e-12, atol=1e-15)  # the minimum is 0


def test_after_a_rejected_point_the_next_lies_on_the_way_back():
    """And after an accepted one it does not: so `accepted` says what the optimizer did."""
    points, result = steps_of(first_step=3.0)
    accepted = np.asarray(result.trajectory.accepted)[: len(points)]
    assert not accepted.all()
    last = points[0].params
    for here, after, good in zip(points, points[1:], accepted, strict=False):
        back, step = here.params - last, after.params - last
        apart = np.linalg.norm(back) * np.linalg.norm(step)
        on_the_way = bool(back.any()) and np.dot(back, step) > (1 - 1e-12) * apart
        assert on_the_way == (not good)
        assert good or np.linalg.norm(step) <= 0.5 * (1 + 1e-12) * np.linalg.norm(back)
        last = here.params if good else last


def test_a_callback_may_end_the_run_as_scipys_do():
    seen = []

    def stop(point):
        seen.append(int(point.num_evals))
        if len(seen) == 4:
            raise StopIteration

    result = lp.minimize(oracles.rosenbrock, jnp.array([-1.2, 1.0, 2.0]), callback=stop)
    assert seen == [1, 2, 3, 4]
    assert S(int(result.status)) == S.STOPPED
    assert int(result.num_evals) == 4


@pytest.mark.parametrize(
    "callback", [lambda: None, lambda x, f: None, lambda *, intermediate_result: None]
)
def test_a_callback_that_cannot_be_called_with_one_argument_is_refused(callback):
    with pytest.raises(TypeError, match="callback must be a function of one Progress"):
        lp.minimize(oracles.rosenbrock, jnp.zeros(3), callback=callback)


def test_a_callback_ends_the_run_with_the_best_point_kept():
    stop = lambda p: bool(p.num_evals >= 2)  # noqa: E731
    result = jax.jit(
        lambda x: lp.minimize(oracles.rosenbrock, x, callback=stop, guard=None, policy="unit")
    )(jnp.array([-1.2, 1.0, 2.0]))
    assert S(int(result.status)) == S.STOPPED
    assert int(result.num_evals) == 2
    values = np.asarray(result.trajectory.value)[:2]
    assert values[-1] > values.min()
    assert float(result.value) == values.min()
