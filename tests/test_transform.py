import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax.training.train_state import TrainState
from jax.flatten_util import ravel_pytree

import jax_lbfgs_pi as lp
from tests import oracles

PARAMS = {"w": jnp.array([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.array(0.3, jnp.float64)}


def loss(params):
    """A smooth, mildly ill-conditioned function of a tree, minimal at 0."""
    scale = jnp.array([[1.0, 5.0], [10.0, 2.0]])
    return 0.5 * jnp.sum(scale * params["w"] ** 2) + jnp.log(jnp.cosh(params["b"]))


def run(tx, params, steps, fun=loss, with_value=False):
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(fun)(params)
        extra = {"value": value} if with_value else {}
        updates, state = tx.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state


def test_equals_plain_loops_on_rosenbrock():
    policy = lp.init_policy(jax.random.key(5))
    theta = jax.tree.map(np.asarray, policy.params)["params"]
    evaluate = jax.jit(jax.value_and_grad(oracles.rosenbrock))
    x0 = np.array([-1.0, 1.2, 0.7, -0.4])
    xs, *_ = oracles.unroll(
        lambda x: jax.tree.map(np.asarray, evaluate(jnp.array(x))), theta, x0, 30, m=3
    )
    x = jnp.array(x0)
    tx = lp.lbfgs_pi(policy, memory_size=3, guard=None)
    x, _ = run(tx, x, 30, oracles.rosenbrock)
    np.testing.assert_allclose(x, xs[-1], rtol=1e-6)


def test_lbfgs_pi_is_the_scaling_and_a_sign():
    grads = jax.grad(loss)(PARAMS)
    policy = lp.cosine_policy()
    one, two = lp.lbfgs_pi(policy), lp.scale_by_lbfgs_pi(policy)
    descent, _ = one.update(grads, one.init(PARAMS), PARAMS)
    scaled, state = two.update(grads, two.init(PARAMS), PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, -b), descent, scaled)
    # The first step is along -g; its cosine is 1.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), scaled, grads)
    np.testing.assert_allclose(state.step_size, 1.0, rtol=1e-12)
    np.testing.assert_allclose(state.grad_norm, optax.tree.norm(grads), rtol=1e-12)


@pytest.mark.parametrize("policy", ["unit", "cosine"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_both_precisions_converge_and_keep_their_dtypes(policy, dtype):
    params = jax.tree.map(lambda x: x.astype(dtype), PARAMS)
    out, state = run(lp.lbfgs_pi(lp.load_policy(policy)), params, 80)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(out))
    kinds = {leaf.dtype for leaf in jax.tree.leaves(state[0].history)}
    assert kinds == {jnp.dtype(dtype), jnp.dtype(jnp.int32)}
    start = optax.tree.norm(jax.grad(loss)(params))
    end = optax.tree.norm(jax.grad(loss)(out))
    assert float(end) < 1e-5 * float(start)


def test_mixed_precision_tree():
    params = {"a": jnp.ones(3, jnp.float32), "b": jnp.ones(2, jnp.bfloat16)}
    fun = lambda p: jnp.sum(p["a"] ** 2) + jnp.sum(p["b"].astype(jnp.float32) ** 2)  # noqa: E731
    out, _ = run(lp.lbfgs_pi(), params, 10, fun)
    assert (out["a"].dtype, out["b"].dtype) == (jnp.float32, jnp.bfloat16)
    assert float(fun(out)) < 1e-4 * float(fun(params))


# -- composition -------------------------------------------------------------------------------


def test_chain_with_clipping():
    tx = optax.chain(optax.clip_by_global_norm(1.0), lp.lbfgs_pi())
    grads = jax.grad(loss)(PARAMS)
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(optax.tree.norm(updates), 1.0, rtol=1e-12)
    for with_value in (False, True):
        out, _ = run(tx, PARAMS, 60, with_value=with_value)
        assert float(loss(out)) < 1e-10 * float(loss(PARAMS))


def test_step_is_read_from_the_parameters_whatever_follows_in_the_chain():
    """With half the step in a later transform, s is half too, and so the products are true."""
    tx = optax.chain(lp.lbfgs_pi(guard=None), optax.scale(0.5))
    params, state = run(tx, PARAMS, 1)
    grads = jax.grad(loss)(params)
    _, state = tx.update(grads, state, params)
    s = optax.tree.sub(params, PARAMS)
    y = optax.tree.sub(grads, jax.grad(loss)(PARAMS))
    history = state[0][0].history
    newest = int(history.head) - 1
    np.testing.assert_allclose(history.products.sy[newest], optax.tree.vdot(s, y), rtol=1e-12)
    yy = history.products.yy[newest, newest]
    np.testing.assert_allclose(yy, optax.tree.vdot(y, y), rtol=1e-12)


def test_masked_moves_its_part_alone_as_if_there_were_no_other():
    tx = optax.masked(lp.lbfgs_pi(), {"w": True, "b": False})
    alone = lambda w: loss({"w": w, "b": PARAMS["b"]})  # noqa: E731
    expected, _ = run(lp.lbfgs_pi(), PARAMS["w"], 5, alone)
    state, params = tx.init(PARAMS), PARAMS
    for _ in range(5):
        grads = jax.grad(loss)(params)
        updates, state = tx.update(grads, state, params)
        updates["b"] = jnp.zeros(())  # optax.masked passes what it masks through
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["w"], expected, rtol=1e-12)


def test_everything_masked():
    tx = optax.masked(lp.lbfgs_pi(), {"w": False, "b": False})
    grads = jax.grad(loss)(PARAMS)
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, updates, grads)


def test_apply_if_finite_skips_a_bad_gradient_and_its_trace_in_the_state():
    tx = optax.apply_if_finite(lp.lbfgs_pi(guard=None), max_consecutive_errors=3)
    params, state = run(tx, PARAMS, 3)
    bad = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), params)
    updates, after = tx.update(bad, state, params)
    jax.tree.map(lambda u: np.testing.assert_array_equal(u, 0.0), updates)
    jax.tree.map(np.testing.assert_array_equal, after.inner_state, state.inner_state)


@pytest.mark.slow
def test_multi_steps_equals_full_batch():
    """Gradients accumulated over three thirds are the gradient of the whole."""
    parts = [1.0, 2.0, 3.0]
    part_loss = lambda params, c: c * loss(params)  # noqa: E731
    multi = optax.MultiSteps(lp.lbfgs_pi(), every_k_schedule=3)
    state, params = multi.init(PARAMS), PARAMS
    for _ in range(4):
        for c in parts:
            grads = jax.grad(part_loss)(params, c)
            updates, state = multi.update(grads, state, params)
            params = optax.apply_updates(params, updates)
    expected, _ = run(lp.lbfgs_pi(), PARAMS, 4, lambda p: 2.0 * loss(p))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), params, expected
    )


def test_flax_train_state():
    model = nn.Dense(3, param_dtype=float)
    x = jax.random.normal(jax.random.key(0), (20, 4))
    y = jnp.sin(x @ jax.random.normal(jax.random.key(1), (4, 3)))
    state = TrainState.create(
        apply_fn=model.apply, params=model.init(jax.random.key(2), x), tx=lp.lbfgs_pi()
    )

    @jax.jit
    def step(state):
        fun = lambda params: jnp.mean((state.apply_fn(params, x) - y) ** 2)  # noqa: E731
        return state.apply_gradients(grads=jax.grad(fun)(state.params))

    for _ in range(40):
        state = step(state)
    design = np.concatenate([x, np.ones((20, 1))], axis=1)
    best = np.mean((design @ np.linalg.lstsq(design, y, rcond=None)[0] - y) ** 2)
    value = float(jnp.mean((state.apply_fn(state.params, x) - y) ** 2))
    np.testing.assert_allclose(value, best, rtol=1e-8)


def test_vmap_over_32_problems_equals_one_after_the_other():
    starts = jax.random.normal(jax.random.key(0), (32, 4))
    tx = lp.lbfgs_pi()

    def solve(x):
        def step(carry, _):
            x, state = carry
            updates, state = tx.update(jax.grad(oracles.rosenbrock)(x), state, x)
            return (optax.apply_updates(x, updates), state), oracles.rosenbrock(x)

        return jax.lax.scan(step, (x, tx.init(x)), length=15)[1]

    together = jax.jit(jax.vmap(solve))(starts)
    one_by_one = np.stack([jax.jit(solve)(x) for x in starts])
    np.testing.assert_allclose(together, one_by_one, rtol=1e-6)


def test_donated_state_and_one_trace():
    traces = []
    tx = lp.lbfgs_pi()

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        traces.append(1)
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params = jax.tree.map(jnp.copy, PARAMS)
    state = tx.init(params)
    expected, _ = run(tx, PARAMS, 10)
    for _ in range(10):
        params, state = step(params, state)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9), params, expected)
    assert len(traces) == 1


def test_state_is_2m_plus_2_vectors():
    n, m = 1000, 7
    state = lp.scale_by_lbfgs_pi(memory_size=m).init(jnp.zeros(n))
    size = sum(leaf.size for leaf in jax.tree.leaves(state))
    assert (2 * m + 2) * n <= size <= (2 * m + 2) * n + 3 * m * m + 25


def test_optimistix_minimiser():
    optimistix = pytest.importorskip("optimistix", reason="needs the extra 'dev'")
    solver = optimistix.OptaxMinimiser(lp.lbfgs_pi(), rtol=1e-8, atol=1e-8)
    target = jnp.array([1.0, -2.0, 3.0])
    fun = lambda x, _: jnp.sum(jnp.array([1.0, 10.0, 100.0]) * (x - target) ** 2)  # noqa: E731
    solution = optimistix.minimise(fun, solver, jnp.zeros(3), max_steps=500)
    np.testing.assert_allclose(solution.value, target, atol=1e-5)


def test_any_function_of_the_products_is_a_policy():
    """The exact step on a quadratic: t = -dᵀg / dᵀAd is not a function of the products; 1/2 is."""
    tx = lp.lbfgs_pi(lambda products: jnp.where(products.ss > 0, 0.25, 0.5))
    params, _ = run(tx, jnp.array([2.0, 4.0]), 2, lambda x: 0.5 * jnp.sum(x**2))
    np.testing.assert_allclose(params, 0.5 * 0.75 * jnp.array([2.0, 4.0]), rtol=1e-12)


# -- the guard, whose verdicts are in test_acceptance ------------------------------------------


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, 1e3])
def test_after_a_retreat_the_history_is_as_it_was(bad):
    tx, m = lp.scale_by_lbfgs_pi(lp.constant_policy(0.3), memory_size=3), 3
    params, state, pairs = PARAMS, tx.init(PARAMS), []
    for _ in range(5):
        grads = jax.grad(loss)(params)
        updates, state = tx.update(grads, state, params)
        params = jax.tree.map(jnp.subtract, params, updates)
        pairs.append([ravel_pytree(tree)[0] for tree in (params, jax.grad(loss)(params))])
    _, state = tx.update(jax.grad(loss)(params), state, params)
    assert int(state.num_retreats) == 0

    # Each of these leads up the slope by far, or nowhere.
    worse = jax.tree.map(lambda x: x + 0.1, params)
    after = state
    for count in (1, 2):
        _, after = tx.update(jax.tree.map(lambda x: jnp.full_like(x, bad), params), after, worse)
        assert int(after.num_retreats) == int(after.rejections) == count
        for name in ("prev_params", "prev_grads", "count", "history", "history_grads", "pair"):
            jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(state, name))
    s_and_y = [tuple(pair) for pair in np.diff(np.array(pairs), axis=0)]
    check_directions(jax.grad(loss)(params), after.history, s_and_y[-m:])

    # The next pair is taken from where the failed steps began.
    better = jax.tree.map(lambda x: 0.9 * x, params)
    _, last = tx.update(jax.grad(loss)(better), after, better)
    new = [ravel_pytree(tree)[0] for tree in (better, jax.grad(loss)(better))]
    new_pair = tuple(np.array(new) - np.array(pairs[-1]))
    check_directions(jax.grad(loss)(better), last.history, [*s_and_y[-m + 1 :], new_pair])
    assert int(last.rejections) == 0


def test_a_pair_that_tells_nothing_is_not_stored():
    """A step that did not move, and one along which the gradient did not change or changed sign."""
    tx = lp.scale_by_lbfgs_pi(lp.constant_policy(0.3), memory_size=3)
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(4):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        params = jax.tree.map(jnp.subtract, params, updates)
    grads = jax.grad(loss)(params)
    _, state = tx.update(grads, state, params)
    down = jax.tree.map(lambda x, g: x - 1e-3 * g, params, grads)
    longer = jax.tree.map(lambda g: 1.1 * g, grads)
    for new_params, new_grads in ((params, grads), (down, grads), (down, longer)):
        _, after = tx.update(new_grads, state, new_params)
        assert int(after.num_retreats) == 0
        assert int(after.count) == int(state.count) + 1
        jax.tree.map(np.testing.assert_array_equal, after.history, state.history)
        jax.tree.map(np.testing.assert_array_equal, after.pair, state.pair)


def check_directions(grads, history, pairs):
    g, _ = ravel_pytree(grads)
    expected = -oracles.dense_inverse_hessian(pairs, g.size) @ g
    for direction in (lp.gram_direction, lp.two_loop_direction):
        d, _ = ravel_pytree(direction(grads, history))
        np.testing.assert_allclose(d, expected, rtol=1e-9)


def test_first_step_survives_products_that_overflow():
    """Before the first step x0 is no step: x0ᵀg0 may be infinite."""
    x = jnp.array([1e20], jnp.float32)
    tx = lp.lbfgs_pi("unit")
    updates, state = tx.update(jnp.array([1e19], jnp.float32), tx.init(x), x)
    np.testing.assert_allclose(updates, [-1e19], rtol=1e-6)
    numbers = jax.tree.leaves(state[0]._replace(values=()))
    assert all(np.isfinite(leaf).all() for leaf in numbers)


def test_no_step_leaves_the_range_of_the_dtype():
    x = jnp.array([3e4, -2.0], jnp.float16)
    tx = lp.lbfgs_pi("unit")
    updates, _ = tx.update(jnp.array([-6e4, 1.0], jnp.float16), tx.init(x), x)
    moved = optax.apply_updates(x, updates)
    assert np.isfinite(moved).all()
    np.testing.assert_allclose(moved[1], -3.0)


def test_at_a_first_point_that_is_not_finite_nothing_moves():
    tx = lp.lbfgs_pi()
    updates, state = tx.update(jnp.array([jnp.nan]), tx.init(jnp.ones(1)), jnp.ones(1))
    np.testing.assert_array_equal(updates, 0.0)
    assert int(state[0].count) == 0
    # From a finite one it begins as if nothing had been.
    after, _ = tx.update(jnp.array([2.0]), state, jnp.ones(1))
    expected, _ = tx.update(jnp.array([2.0]), tx.init(jnp.ones(1)), jnp.ones(1))
    np.testing.assert_array_equal(after, expected)


def test_value_is_never_required_and_changes_nothing_where_the_guard_is_content():
    policy = lp.constant_policy(0.05)
    guarded = lp.lbfgs_pi(policy, memory_size=10)  # without a guard the default is a window too
    with_value, one = run(guarded, PARAMS, 6, with_value=True)
    without, two = run(guarded, PARAMS, 6)
    bare, _ = run(lp.lbfgs_pi(policy, memory_size=10, guard=None), PARAMS, 6)
    assert int(one[0].num_retreats) == int(two[0].num_retreats) == 0
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9)
    jax.tree.map(close, with_value, without)
    jax.tree.map(close, with_value, bare)


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64, jnp.bool_])
def test_parameters_that_are_not_real_floating_point(dtype):
    with pytest.raises(TypeError, match=r"must be real floating-point arrays, but the leaf '\['k'"):
        lp.lbfgs_pi().init({"k": jnp.zeros(3, dtype), "w": jnp.zeros(2)})


def test_update_without_params():
    tx = lp.lbfgs_pi()
    with pytest.raises(ValueError, match="reads its last step from the parameters"):
        tx.update(PARAMS, tx.init(PARAMS))


@pytest.mark.parametrize("value", [jnp.ones(3), jnp.ones(1), (1.0, {"aux": 2.0})])
def test_a_value_that_is_no_scalar(value):
    tx = lp.lbfgs_pi()
    with pytest.raises(ValueError, match="value must be f at the current params, a scalar"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS, value=value)


def test_a_state_of_another_transformation():
    tx = lp.lbfgs_pi()
    with pytest.raises(TypeError, match="call init for this transformation"):
        tx.update(PARAMS, optax.adam(1.0).init(PARAMS), PARAMS)


def test_mismatched_trees():
    tx = lp.lbfgs_pi()
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match="grads and params must be pytrees of one structure"):
        tx.update({"w": PARAMS["w"]}, state, PARAMS)
    with pytest.raises(ValueError, match=r"grads and params must agree in shape, .*'\['w'\]'"):
        tx.update({"w": jnp.zeros(4), "b": PARAMS["b"]}, state, PARAMS)
    with pytest.raises(ValueError, match="state and params must be pytrees of one structure"):
        tx.update([PARAMS["b"]], state, [PARAMS["b"]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory_size": 0}, "memory_size must be an integer of at least 1"),
        ({"policy": "no such policy"}, "Unknown policy 'no such policy'"),
        ({"guard": 1.0}, "guard"),
        ({"policy": 1.0}, "policy"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        lp.lbfgs_pi(**options)


def test_memory_by_default_is_by_the_number_of_variables():
    for n, m in ((401, 20), (10_000, 20), (10_001, 10)):
        params = {"a": jnp.zeros(n - 1), "b": 0.0}
        assert lp.scale_by_lbfgs_pi().init(params).history_grads.shape == (2, m)
        assert lp.scale_by_lbfgs_pi(memory_size=7).init(params).history_grads.shape == (2, 7)


@pytest.mark.parametrize("policy", [None, "cosine", lambda p: 0.5])
def test_parameters_that_are_python_numbers(policy):
    tx = lp.lbfgs_pi(policy)
    updates, _ = tx.update(2.0, tx.init(5.0), 5.0)
    expected, _ = tx.update(jnp.array(2.0), tx.init(jnp.array(5.0)), jnp.array(5.0))
    np.testing.assert_array_equal(updates, expected)
