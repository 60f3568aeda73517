import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jax_lbfgs_pi as lp
from tests import oracles


def test_finds_scipys_minimum_of_rosenbrock():
    x0 = jnp.array([-1.2, 1.0, -0.5, 0.8, 1.1])
    result = jax.jit(lambda x: lp.minimize(oracles.rosenbrock, x, tol=1e-7))(x0)
    reference = scipy.optimize.minimize(
        lambda x: jax.tree.map(np.asarray, jax.value_and_grad(oracles.rosenbrock)(x)),
        np.asarray(x0), jac=True, method="L-BFGS-B", options={"ftol": 0.0, "gtol": 1e-9},
    )  # fmt: skip
    assert int(result.status) == lp.Status.CONVERGED
    assert float(result.value) < reference.fun + 1e-12
    np.testing.assert_allclose(result.params, reference.x, atol=1e-5)


def test_result_is_the_best_visited_iterate_and_its_own_value():
    """On a run whose f is not monotone, against the trajectory and a fresh evaluation."""
    fun = oracles.rosenbrock
    result = lp.minimize(fun, jnp.array([-1.2, 1.0, 2.0]), max_iters=25, guard=None)
    values = np.asarray(result.trajectory.value)
    assert np.any(np.diff(values) > 0)
    assert float(result.value) == values.min()
    value, grads = jax.value_and_grad(fun)(result.params)
    np.testing.assert_allclose(result.value, value, rtol=1e-14)
    np.testing.assert_allclose(result.grad_norm, jnp.linalg.norm(grads), rtol=1e-10)
    assert int(result.status) == lp.Status.MAX_ITERS
    assert (int(result.num_iters), int(result.num_evals)) == (25, 26)


def test_one_evaluation_for_each_step_is_executed():
    calls = []

    def fun(x):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sum(jnp.array([1.0, 30.0]) * x**2)

    result = jax.jit(lambda x: lp.minimize(fun, x, tol=1e-6))(jnp.array([1.0, 2.0]))
    jax.effects_barrier()
    assert len(calls) == int(result.num_evals) == int(result.num_iters) + 1
    assert int(result.num_iters) > 3


def test_trajectory_is_what_happened_and_stands_still_after_the_end():
    result = lp.minimize(
        lambda x: jnp.sum(x**2), jnp.ones(3), max_iters=30, tol=1e-6, policy="unit"
    )
    k = int(result.num_iters)
    trajectory = result.trajectory
    assert 0 < k < 30
    np.testing.assert_array_equal(trajectory.num_evals[: k + 1], np.arange(1, k + 2))
    for past in trajectory:
        np.testing.assert_array_equal(past[k:], past[k])
    assert np.all(trajectory.step_size[:k] > 0)
    assert trajectory.step_size[k] == 0
    assert np.all(trajectory.grad_norm[:k] >= 1e-6)
    assert float(trajectory.grad_norm[k]) < 1e-6


def test_starting_at_the_minimum_takes_no_step():
    result = lp.minimize(lambda x: jnp.sum(x**2), jnp.zeros(3))
    assert (int(result.num_iters), int(result.num_evals)) == (0, 1)
    assert int(result.status) == lp.Status.CONVERGED
    np.testing.assert_array_equal(result.params, 0.0)


def test_max_iters_zero_evaluates_once():
    result = lp.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), max_iters=0)
    assert (int(result.num_iters), int(result.num_evals)) == (0, 1)
    assert float(result.value) == 2.0
    assert int(result.status) == lp.Status.MAX_ITERS


def test_vmap_equals_one_after_the_other():
    starts = 0.5 * jax.random.normal(jax.random.key(0), (8, 4))
    solve = lambda x: lp.minimize(oracles.rosenbrock, x, max_iters=300, tol=1e-6)  # noqa: E731
    together = jax.jit(jax.vmap(solve))(starts)
    single = jax.jit(solve)
    for i, start in enumerate(starts):
        alone = single(start)
        assert int(together.status[i]) == int(alone.status) == lp.Status.CONVERGED
        np.testing.assert_allclose(together.params[i], alone.params, atol=1e-4)


def test_policies_can_be_mapped_over_without_a_new_trace():
    traces = []

    def fun(x):
        traces.append(1)
        return jnp.sum(jnp.array([1.0, 8.0]) * (x - 1.0) ** 2)

    solve = jax.jit(lambda policy, x: lp.minimize(fun, x, policy=policy, max_iters=20))
    results = [solve(lp.init_policy(jax.random.key(i)), jnp.zeros(2)) for i in range(4)]
    count = len(traces)
    solve(lp.init_policy(jax.random.key(9)), jnp.ones(2))
    assert len(traces) == count
    policies = [lp.init_policy(jax.random.key(i)) for i in range(4)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *policies)
    mapped = jax.vmap(solve, in_axes=(0, None))(stacked, jnp.zeros(2))
    np.testing.assert_allclose(mapped.value, [r.value for r in results], atol=1e-12)


def test_aux_is_that_of_the_best_iterate():
    fun = lambda p: (jnp.sum((p["x"] - 2.0) ** 2), {"twice": 2 * p["x"]})  # noqa: E731
    result = jax.jit(lambda p: lp.minimize(fun, p, has_aux=True))({"x": jnp.zeros(3)})
    np.testing.assert_allclose(result.aux["twice"], 2 * result.params["x"], rtol=1e-14)
    np.testing.assert_allclose(result.params["x"], 2.0, atol=1e-6)


@pytest.mark.parametrize("memory", [20, "full", "dense"])
def test_guard_survives_a_function_with_a_forbidden_region(memory):
    """-log x + x is NaN for x <= 0, its gradient is not; an unguarded unit step lands there."""
    fun = lambda x: jnp.sum(x - jnp.log(x))  # noqa: E731
    guarded = lp.minimize(fun, jnp.array([5.0, 0.01]), tol=1e-6, memory_size=memory)
    assert int(guarded.status) == lp.Status.CONVERGED
    np.testing.assert_allclose(guarded.params, 1.0, atol=1e-5)
    bare = lp.minimize(lambda x: jnp.sum(jnp.sqrt(x)), jnp.array([0.01]), guard=None)
    assert int(bare.status) == lp.Status.NON_FINITE
    assert np.isfinite(bare.value)


def test_start_where_f_is_not_finite():
    result = lp.minimize(lambda x: jnp.sum(jnp.log(x)), jnp.array([-1.0]))
    assert int(result.status) == lp.Status.NON_FINITE
    assert int(result.num_evals) == 1


def test_float32_reaches_a_small_gradient():
    x0 = jnp.array([-1.0, 0.5, 0.3], jnp.float32)
    result = lp.minimize(oracles.rosenbrock, x0, tol=1e-2)
    assert result.params.dtype == jnp.float32
    assert int(result.status) == lp.Status.CONVERGED


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_iters": -1}, "max_iters must be an integer of at least 0"),
        ({"tol": -1.0}, "tol must be at least 0"),
        ({"memory_size": 0}, "memory_size must be an integer of at least 1"),
        ({"memory_size": 10**6}, 'at most 1000 pairs, but got 1000000: .* take "full"'),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        lp.minimize(lambda x: jnp.sum(x**2), jnp.ones(2), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"args": 2.0}, "args must be a tuple, such as .*, but got a float"),
        ({"args": np.ones(1)}, "args must be a tuple"),
        ({"args": {"b": 1.0}}, "args must be a tuple"),
        ({"callback": 3}, "callback must be a function of one Progress, but got 3"),
    ],
)
def test_options_of_another_type(options, message):
    minimize = inspect.unwrap(lp.minimize)  # types are checked in the tests alone
    with pytest.raises(TypeError, match=message):
        minimize(lambda x, *args: jnp.sum(x**2), jnp.ones(2), **options)
    with pytest.raises(TypeError, match="fun must be a function of the parameters, but got None"):
        minimize(None, jnp.ones(2))
    with pytest.raises(TypeError, match="x0 must be a pytree of arrays"):
        minimize(lambda x: jnp.sum(x**2), None)
    with pytest.raises(TypeError, match=r"A policy is .*, a class"):
        minimize(lambda x: jnp.sum(x**2), jnp.ones(2), policy=lp.Rule)


def test_success_is_where_a_test_was_met():
    """Of each problem of a batch; that the budget was used up is none."""
    solve = lambda x0: lp.minimize(lambda x: jnp.sum(jnp.cosh(x)), x0, max_iters=1)  # noqa: E731
    ends = jax.vmap(solve)(jnp.array([[1.0, 2.0], [1e-12, 0.0]]))
    assert [lp.Status(int(s)).name for s in ends.status] == ["MAX_ITERS", "CONVERGED"]
    assert ends.success.tolist() == [False, True]
    every = ends._replace(status=jnp.array(list(lp.Status), jnp.int32))
    names = {
        status.name for status, success in zip(lp.Status, every.success, strict=True) if success
    }
    assert names == {"CONVERGED", "TARGET_REACHED", "SMALL_CHANGE"}


def test_objectives_that_are_no_scalars():
    with pytest.raises(TypeError, match="must return a real floating-point scalar"):
        lp.minimize(lambda x: x**2, jnp.ones(2))
    with pytest.raises(TypeError, match="must return a real floating-point scalar"):
        lp.minimize(lambda x: (jnp.sum(x), 1), jnp.ones(2))
    with pytest.raises(TypeError, match=r"must return a pair \(value, aux\)"):
        lp.minimize(lambda x: jnp.sum(x), jnp.ones(2), has_aux=True)


def test_an_objective_written_with_numpy_is_told_of_jax_numpy():
    for fun in (lambda x: np.sum(np.asarray(x) ** 2), lambda x: float(jnp.sum(x**2))):
        with pytest.raises(jax.errors.JAXTypeError) as error:
            lp.minimize(fun, jnp.ones(2))
        assert "must be written with jax.numpy" in "".join(error.value.__notes__)


def test_an_exported_program_gives_the_same():
    solve = jax.jit(lambda x0: lp.minimize(lambda x: jnp.sum(jnp.cosh(x)), x0, max_iters=30))
    x0 = jnp.array([1.0, 2.0])
    exported = jax.export.export(solve)(x0).serialize()
    found = jax.export.deserialize(exported).call(x0)
    jax.tree.map(np.testing.assert_array_equal, found, solve(x0))


def test_integer_parameters():
    with pytest.raises(TypeError, match="must be real floating-point arrays"):
        lp.minimize(lambda x: jnp.sum(x * 1.0), jnp.ones(2, int))
