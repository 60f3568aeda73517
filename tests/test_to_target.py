"""Solvers to one f, against counters in the objective and values known beforehand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from benchmarks import to_target
from benchmarks.host_solvers import scipy_solver, torch_lbfgs
from benchmarks.solvers import (
    Problem,
    jaxopt_lbfgs,
    optimistix_solver,
    ours,
    with_optax,
    zoom,
)


def rosenbrock(params, data):
    x = params["x"]
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (data - x[:-1]) ** 2)


ALONE = Problem(rosenbrock, {"x": np.array([-1.2, 1.0])}, np.array(1.0))
BATCH = Problem(
    rosenbrock,
    {"x": np.random.default_rng(0).uniform(-2, 2, (6, 2))},
    np.linspace(0.5, 1.0, 6),
    share=1.0,
)
MAKERS = {
    "ours": ours(),
    "zoom": zoom(10),
    "scipy": scipy_solver("L-BFGS-B", maxcor=10),
    "jaxopt": "jaxopt",
    "optimistix BFGS": "optimistix BFGS",
    "optimistix LBFGS": "optimistix LBFGS",
    "torch": "torch",
}


def maker_of(name):
    if name == "jaxopt":
        return pytest.importorskip("jaxopt") and jaxopt_lbfgs(10)
    if name == "torch":
        return pytest.importorskip("torch") and torch_lbfgs(10)
    if name.startswith("optimistix"):
        return pytest.importorskip("optimistix") and optimistix_solver(name.split()[1])
    return MAKERS[name]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.filterwarnings("ignore:JAXopt")
def test_a_run_ends_where_f_is_at_the_target(name):
    """And not before: f at its point is what it says, below the target."""
    budget = 1000 if name == "optimistix LBFGS" else 300  # it needs 900
    solve = maker_of(name)(ALONE, budget)
    for target in (1.0, 1e-8):
        run = solve(target)
        assert run.reached
        assert run.value <= target
        assert jnp.isclose(rosenbrock(run.params, 1.0), run.value, rtol=1e-10)
    assert solve(1.0).num_evals < run.num_evals < budget


def test_evaluations_are_those_that_scipy_makes():
    """Its own count at the end of a run without a target."""
    import scipy.optimize

    fun = jax.jit(jax.value_and_grad(lambda x: rosenbrock({"x": x}, 1.0)))
    theirs = scipy.optimize.minimize(
        lambda x: [np.asarray(a, float) for a in fun(x)], ALONE.x0["x"], jac=True,
        method="L-BFGS-B", options={"gtol": 0.0, "ftol": 0.0, "maxcor": 10},
    )  # fmt: skip
    run = scipy_solver("L-BFGS-B", maxcor=10)(ALONE, 300)(-np.inf)
    assert run.num_evals == theirs.nfev
    assert run.value <= theirs.fun
    assert not run.reached


@pytest.mark.parametrize("name", ["ours", "zoom", "scipy"])
def test_a_batch_does_as_its_problems_do_alone(name):
    targets = np.array([1.0, 1e-2, 1e-4, 1e-6, 1e-8, -np.inf])
    runs = maker_of(name)(BATCH, 60)(targets)
    assert np.array_equal(runs.reached, np.asarray(runs.value) <= targets)
    assert not runs.reached[-1]
    for i in (0, 4, 5):
        x0, data = jax.tree.map(lambda a, i=i: a[i], (BATCH.x0, BATCH.data))
        alone = maker_of(name)(Problem(rosenbrock, x0, data), 60)(targets[i])
        assert runs.num_evals[i] == alone.num_evals
        assert np.isclose(runs.value[i], alone.value, rtol=1e-6, atol=1e-12)


def test_a_batch_ends_where_a_share_is_there():
    """Half of the problems have no target: they would spend the budget."""
    targets = np.array([1e-3, 1e-3, 1e-3, -np.inf, -np.inf, -np.inf])
    runs = ours()(BATCH._replace(share=0.5), 500)(targets)
    assert list(runs.reached) == [True] * 3 + [False] * 3
    assert max(runs.num_evals) == max(runs.num_evals[:3]) < 100


def test_targets_come_from_the_least_that_anyone_found():
    makers = {"ours": ours(), "small steps": with_optax(lambda: optax.sgd(1e-5))}
    outcome = to_target.compare_to_target(ALONE, makers, budget=100, level=1e-3, seconds=0.0)
    first = rosenbrock(ALONE.x0, 1.0)
    assert outcome.least == outcome.solved["ours"].value or outcome.least < 1e-10
    assert np.isclose(outcome.targets, outcome.least + 1e-3 * (first - outcome.least))
    assert set(outcome.timing.seconds) == {"ours"}
    row, missed = to_target.rows(outcome)
    assert row[:3] == ["ours", "100", float(outcome.solved["ours"].num_evals)]
    assert missed[:4] == ["small steps", "0", None, None]


def test_one_target_for_many_starts():
    problem = BATCH._replace(data=np.ones(6), share=1 / 6)
    outcome = to_target.compare_to_target(
        problem, {"ours": ours()}, budget=100, one_target=True, seconds=0.0
    )
    assert np.shape(outcome.targets) == ()
    assert np.sum(outcome.solved["ours"].reached) >= 1
