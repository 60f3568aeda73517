import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.baselines import baselines
from jax_lbfgs_pi.evaluation.race import make_runner
from jax_lbfgs_pi.evaluation.scipy_run import compile_scipy
from tests import oracles

OPTIONS = {"maxcor": 5, "ftol": 0.0, "gtol": 0.0}
X0 = np.array([-1.2, 1.0, -0.5, 0.8])


def loss(params, data):
    return oracles.rosenbrock(params) * data


def value_and_grad(scale):
    compiled = jax.jit(jax.value_and_grad(lambda x: loss(x, scale)))

    def objective(x):
        value, grad = compiled(x)
        return float(value), np.asarray(grad)

    return objective


def run(max_iters, tol=0.0, scale=1.0):
    go = compile_scipy(loss, jnp.array(7.0), jnp.array(X0), tol=tol)  # another task's data
    return go(jnp.array(scale), jnp.array(X0), max_iters)


def plain_run(max_iters, tol=0.0, scale=1.0):
    """SciPy's own account: f, ‖g‖ and evaluations at each of its iterates, and its result."""
    objective = value_and_grad(scale)
    evals, rows = [0], []

    def counted(x):
        evals[0] += 1
        return objective(x)

    def note(intermediate_result):
        value, grad = objective(intermediate_result.x)
        rows.append((value, np.linalg.norm(grad), evals[0]))
        assert intermediate_result.fun == value
        if rows[-1][1] < tol:
            raise StopIteration

    value, grad = objective(X0)
    rows.append((value, np.linalg.norm(grad), 1))
    result = scipy.optimize.minimize(
        counted, X0, jac=True, method="L-BFGS-B", callback=note,
        options={**OPTIONS, "maxiter": max_iters},
    )  # fmt: skip
    return result, [np.array(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize(
    ("max_iters", "tol", "scale"),
    [(1, 0.0, 1.0), (9, 0.0, 1.0), (400, 1e-6, 1.0), (400, 1e-3, 0.1)],
)
def test_rows_are_scipys_own(max_iters, tol, scale):
    found = run(max_iters, tol, scale)
    result, (values, norms, evals) = plain_run(max_iters, tol, scale)
    assert len(found.value) == result.nit + 1
    np.testing.assert_allclose(found.value, values, rtol=1e-12)
    np.testing.assert_allclose(found.grad_norm, norms, rtol=1e-12)
    np.testing.assert_array_equal(found.num_evals, evals)
    assert found.num_evals[-1] == result.nfev
    assert found.value[-1] == pytest.approx(result.fun, rel=1e-12)
    if max_iters > 100:
        assert result.nfev > result.nit + 1  # the line search needed more than one somewhere


def test_a_run_ends_at_the_first_gradient_below_the_tolerance():
    found = run(400, tol=1e-4)
    assert found.grad_norm[-1] < 1e-4
    assert np.all(found.grad_norm[:-1] >= 1e-4)
    assert found.status == lp.Status.CONVERGED
    assert 5 < len(found.value) < 100


def test_the_two_norm_counts_and_not_scipys():
    """Between the largest entry of g and its 2-norm: SciPy's own test would have stopped."""
    found = run(400, tol=1e-3)
    last = found.grad_norm[-2]
    assert last >= 1e-3
    tighter = run(400, tol=float(last) * (1 - 1e-9))
    assert len(tighter.value) == len(found.value)
    looser = run(400, tol=float(last) * (1 + 1e-9))
    assert len(looser.value) == len(found.value) - 1


@pytest.mark.parametrize("max_iters", [1, 2, 7])
def test_max_iters_steps_are_taken(max_iters):
    found = run(max_iters)
    assert len(found.value) == max_iters + 1
    assert found.status == lp.Status.MAX_ITERS


def test_no_step_is_taken_where_none_is_allowed():
    """As every other competitor of a race: f at x0 alone."""
    found = run(0)
    assert len(found.value) == 1
    assert found.value[0] == pytest.approx(oracles.rosenbrock(X0))
    assert found.status == lp.Status.MAX_ITERS


def test_no_step_is_taken_where_the_gradient_is_small_at_once():
    found = run(50, tol=1e6)
    assert len(found.value) == 1
    assert found.num_evals[-1] == 1
    assert found.status == lp.Status.CONVERGED


def test_step_sizes_are_unknown_and_the_clock_goes_forward():
    found = run(9)
    assert found.step_size.shape == found.seconds.shape == found.value.shape
    assert np.isnan(found.step_size).all()
    assert found.seconds[0] > 0
    assert np.all(np.diff(found.seconds) > 0)


def test_a_run_without_a_tolerance_ends_where_the_line_search_fails():
    """At the minimum to rounding, with neither an error nor a warning."""
    found = run(10_000)
    assert len(found.value) < 1000
    assert found.value[-1] < 1e-20
    assert found.status == lp.Status.MAX_ITERS
    assert np.all(np.diff(found.num_evals) > 0)


@pytest.mark.parametrize("beyond", [np.nan, np.inf])
def test_a_run_into_numbers_that_are_not_finite_ends(beyond):
    """Whatever SciPy makes of it: rows that begin at x0, and none made up."""

    def edge(params, data):
        return jnp.where(jnp.sum(params) < data, beyond, jnp.sum(params))

    x0 = jnp.array([1.0, 2.0])
    found = compile_scipy(edge, jnp.array(0.5), x0, tol=1e-9)(jnp.array(0.5), x0, 30)
    assert found.value[0] == 3.0
    assert found.grad_norm[0] == pytest.approx(np.sqrt(2.0))
    assert len(found.value) <= 31
    assert found.num_evals[-1] <= 601
    assert found.status in (lp.Status.MAX_ITERS, lp.Status.NON_FINITE)


def test_parameters_can_be_a_tree_and_tasks_share_one_compilation():
    traces = []

    def tree_loss(params, data):
        traces.append(1)
        return jnp.sum((params["w"] @ jnp.array([1.0, 2.0]) - data) ** 2) + params["b"] ** 2

    x0 = {"w": jnp.ones((2, 2)), "b": jnp.array(3.0)}
    go = compile_scipy(tree_loss, jnp.zeros(2), x0, tol=1e-10)
    before = len(traces)
    for target in ([1.0, 2.0], [-3.0, 0.5]):
        found = go(jnp.array(target), x0, 100)
        # f(x0) = Σ (3 - target)² + 9, and the minimum is 0.
        assert found.value[0] == pytest.approx(sum((3.0 - t) ** 2 for t in target) + 9.0)
        assert found.value[-1] < 1e-18
        assert found.status == lp.Status.CONVERGED
    assert len(traces) == before


def test_scipy_in_a_race_is_scipy():
    """On a quadratic: as many steps and evaluations as SciPy takes of the NumPy function."""
    tasks = lp.get_tasks("quadratic", "dev", num_tasks=2)
    run_one = make_runner(tasks, max_iters=15, tol=1e-12)
    for i in range(2):
        data, x0 = tasks[i]
        A, c, x0 = (np.asarray(leaf) for leaf in (data["A"], data["c"], x0))

        def objective(x, A=A, c=c):
            return 0.5 * (x - c) @ A @ (x - c), A @ (x - c)

        values = [objective(x0)[0]]

        result = scipy.optimize.minimize(
            objective, x0, jac=True, method="L-BFGS-B",
            callback=lambda xk, f=objective, values=values: values.append(f(xk)[0]),
            options={**OPTIONS, "maxiter": 15},
        )  # fmt: skip
        found = run_one(i, baselines()["SciPy"])
        np.testing.assert_allclose(found.value, values, rtol=1e-8)
        assert len(found.value) == 16
        assert found.num_evals[-1] == result.nfev
