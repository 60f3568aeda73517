"""Dense memories as a part of everything else: trees, dtypes, batches, units, limits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy.self_scaling import UPDATES
from tests import oracles
from tests.marks import some_of

either = pytest.mark.parametrize("memory", ["dense", "full"])
first_full = pytest.mark.parametrize("memory", some_of(["dense", "full"], quick=(1,)))


def test_the_default_is_by_n():
    """Full up to 400 variables with a guard, else a window of 20 or 10 pairs."""

    def pairs(state):
        return 0 if state.history_grads is None else state.history_grads.shape[1]

    for n, expected in ((1, 0), (400, 0), (401, 20), (10_000, 20), (10_001, 10)):
        state = lp.scale_by_lbfgs_pi().init({"a": jnp.zeros(n - 1), "b": jnp.zeros(())})
        assert pairs(state) == expected, n
        assert (type(state.history).__name__ == "FullHistory") == (expected == 0)
    assert pairs(lp.scale_by_lbfgs_pi(guard=None).init(jnp.zeros(10))) == 20
    assert pairs(lp.scale_by_lbfgs_pi(memory_size=7).init(jnp.zeros(10))) == 7


@first_full
def test_trees_go_in_and_come_out(memory):
    """Steps on a tree are those on the raveled vector."""
    tree = {"a": jnp.ones((2, 3)), "b": (jnp.zeros(()), -jnp.ones(2))}
    flat, back = jax.flatten_util.ravel_pytree(tree)
    weights = jnp.arange(1.0, 10.0)
    f = lambda v: jnp.sum(weights * (v - 0.3) ** 2) + jnp.sum(v**4)  # noqa: E731
    one = lp.minimize(f, flat, memory_size=memory)
    other = lp.minimize(lambda p: f(jax.flatten_util.ravel_pytree(p)[0]), tree, memory_size=memory)
    assert jax.tree.structure(other.params) == jax.tree.structure(tree)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), other.params,
                 back(one.params))  # fmt: skip
    assert int(one.num_evals) == int(other.num_evals)


@first_full
def test_dtypes_are_kept_whatever_the_leaves(memory):
    p = {"w": jnp.ones((3, 2), "bfloat16"), "b": jnp.ones((), "float32")}
    tx = lp.lbfgs_pi(memory_size=memory)
    state = tx.init(p)
    updates, new = jax.jit(tx.update)(jax.tree.map(jnp.ones_like, p), state, p)
    kinds = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)  # noqa: E731
    assert kinds(updates) == kinds(p)
    assert kinds(new) == kinds(state)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state[0].history)} == {"float32", "int32"}


@pytest.mark.parametrize("policy", [None, "general", "paper-mnist", "unit"])
@either
def test_any_policy_solves_with_it(policy, memory):
    x0 = jnp.tile(jnp.array([-1.2, 1.0]), 3)
    result = lp.minimize(oracles.rosenbrock, x0, memory_size=memory, policy=policy, max_iters=2000)
    assert lp.Status(int(result.status)) == lp.Status.CONVERGED


def test_the_policy_of_a_dense_h_is_dense_and_its_memory_a_dense_h():
    x0 = jnp.tile(jnp.array([-1.2, 1.0]), 3)
    by = [
        lp.minimize(oracles.rosenbrock, x0, max_iters=40, **options).trajectory.value
        for options in ({"memory_size": "dense"}, {"policy": "dense"}, {"policy": "rule"})
    ]
    np.testing.assert_array_equal(by[0], by[1])
    rule = lp.minimize(oracles.rosenbrock, x0, max_iters=40, memory_size="dense", policy="rule")
    assert not np.array_equal(by[0], rule.trajectory.value)
    assert not np.array_equal(by[2], rule.trajectory.value)


@first_full
def test_a_batch_is_its_problems_one_by_one(memory):
    starts = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)))
    # Twelve steps: the first start's valley makes of a rounding error some 1e-2 in twenty-five.
    solve = lambda x: lp.minimize(oracles.rosenbrock, x, memory_size=memory, max_iters=12)  # noqa: E731
    batch = jax.jit(jax.vmap(solve))(starts)
    for i, x in enumerate(starts):
        one = jax.jit(solve)(x)
        np.testing.assert_allclose(batch.params[i], one.params, rtol=1e-8, atol=1e-10)


@first_full
def test_a_nan_is_taken_back_and_h_stays_as_it_was(memory):
    tx = lp.lbfgs_pi(memory_size=memory)
    x = jnp.array([-1.2, 1.0, 0.3])
    state = tx.init(x)
    for k in range(120):
        value, g = jax.value_and_grad(oracles.rosenbrock)(x)
        before = state
        if k == 9:
            value, g = jnp.nan, jnp.full_like(g, jnp.nan)
        updates, state = tx.update(g, state, x, value=value)
        if k == 9:
            jax.tree.map(np.testing.assert_array_equal, state[0].history, before[0].history)
        x = optax.apply_updates(x, updates)
        assert np.isfinite(x).all()
    assert oracles.rosenbrock(x) < 1e-10


@pytest.mark.parametrize(
    ("unit", "length"), [(1e16, 1.0), (1e-16, 1.0), (1.0, 1e6), (1e-8, 1e-6), (1e-90, 1e30)]
)
@pytest.mark.parametrize(
    ("memory", "update"),
    some_of(
        [*(("dense", name) for name in UPDATES), ("full", "bfgs")],
        quick=(0, 1, 2, 3, 4),
    ),
)  # fmt: skip
def test_the_trajectory_is_free_of_units(memory, update, unit, length):
    """F times a number, x times another: the same f, step by step."""
    x0 = jnp.array([-1.2, 1.0, 0.4, 0.7])
    stopping = lp.Stopping(gtol=0.0)
    solve = jax.jit(
        lambda c, b: lp.minimize(
            lambda x: c * (0.1 + oracles.rosenbrock(x / b)), b * x0, max_iters=30, tol=stopping,
            memory_size=memory, policy=lp.Rule(update=update),
        )
    )  # fmt: skip
    plain, other = solve(1.0, 1.0), solve(unit, length)
    np.testing.assert_allclose(
        other.trajectory.value / unit, plain.trajectory.value, rtol=1e-5, atol=1e-9
    )


@either
def test_matrices_stay_finite_in_float32_whatever_the_units(memory):
    """Long after the minimum too, where what all pairs leave of the first matrix is nearly 0."""
    tx = lp.lbfgs_pi(memory_size=memory)

    def run(x, unit, length):
        def step(carry, _):
            x, state = carry
            value, g = jax.value_and_grad(lambda x: unit * oracles.rosenbrock(x / length))(x)
            updates, state = tx.update(g, state, x, value=value)
            return (optax.apply_updates(x, updates), state), value / unit

        return jax.lax.scan(step, (x * length, tx.init(x)), length=300)

    rng = np.random.default_rng(0)
    starts = rng.normal(size=(48, 2)) * 1.5
    units, lengths = (10.0 ** rng.uniform(-most, most, 48) for most in (10, 5))
    lanes = (jnp.asarray(a, jnp.float32) for a in (starts, units, lengths))
    (_, state), values = jax.jit(jax.vmap(run))(*lanes)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state[0].history))
    assert np.all(np.nanmin(values, axis=1) < 1e-3)


@either
def test_a_run_that_is_saved_goes_on_to_the_bit(memory):
    tx = lp.lbfgs_pi(memory_size=memory)

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
    with pytest.raises(ValueError, match=r"A full memory for 20,000 .* 6\.4 GB, .*Full\(limit_gb"):
        lp.lbfgs_pi(memory_size="full").init(jnp.zeros(20_000))
    with pytest.raises(ValueError, match=r"3,000 parameters has 0\.1 GB, more than .* 0\.01 GB"):
        lp.lbfgs_pi(memory_size=lp.Dense(limit_gb=0.01)).init(jnp.zeros(3000))
    mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Auto,))
    alone = SingleDeviceSharding(jax.devices()[0])
    for rows in (NamedSharding(mesh, P()), NamedSharding(mesh, P(None, "x")), alone):
        with pytest.raises(ValueError, match=r"rows must be a sharding of the first axis, Named"):
            lp.Dense(rows=rows)
    explicit = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Explicit,))
    with pytest.raises(ValueError, match=r"a mesh of automatic axes: make it with axis_types="):
        lp.Full(rows=NamedSharding(explicit, P("x")))
    with pytest.raises(ValueError, match='must be a number, "full" or "dense", but got \'all\''):
        lp.lbfgs_pi(memory_size="all")
    with pytest.raises(ValueError, match="A rule's update must be one of bfgs"):
        lp.Rule(update="dfp")


@pytest.mark.parametrize(
    ("memory", "spoiled"),
    [("dense", -1.0), ("dense", 1e306), ("full", -1.0), ("full", 1e200), ("full", 1e306)],
)
def test_a_matrix_that_is_indefinite_or_overflows_is_begun_anew(memory, spoiled):
    """From then on every entry is finite, and the run ends at a minimum."""
    x = jnp.array([-1.2, 1.0, 0.5, 2.0])
    tx = lp.lbfgs_pi(memory_size=memory)
    evaluate = jax.jit(jax.value_and_grad(oracles.rosenbrock))
    update, state = jax.jit(tx.update), tx.init(x)
    for i in range(250):
        value, grads = evaluate(x)
        updates, state = update(grads, state, x, value=value)
        x = optax.apply_updates(x, updates)
        if i == 6:
            history = state[0].history
            scaled = {
                name: spoiled * getattr(history, name)
                for name in ("matrix", "start", "rest", "way", "ways")
                if hasattr(history, name)
            }
            history = history._replace(**scaled)
            state = (state[0]._replace(history=history), *state[1:])
        elif i > 6:
            assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state[0].history)), i
    assert jnp.linalg.norm(evaluate(x)[1]) < 1e-9
