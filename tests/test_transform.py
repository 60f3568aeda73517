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
    assert state[0].history.products.sy.dtype == dtype
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
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-7), params, expected)


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
    assert (2 * m + 2) * n <= size <= (2 * m + 2) * n + 3 * m * m + 10


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


# -- the guard ---------------------------------------------------------------------------------


def test_guard_takes_back_nine_tenths_of_a_step_into_non_finite_numbers():
    fun = lambda x: jnp.sum((x - 1.9) ** 2 + 1e-12 * jnp.sqrt(2.0 - x))  # noqa: E731
    tx = lp.lbfgs_pi(lambda products: jnp.asarray(1.0))
    x, state = jnp.array([0.0]), tx.init(jnp.array([0.0]))
    seen = []
    for _ in range(3):
        updates, state = tx.update(jax.grad(fun)(x), state, x)
        x = optax.apply_updates(x, updates)
        seen.append(float(x[0]))
    assert seen[0] == pytest.approx(3.8)  # f'(0) = -3.8: over the edge
    assert seen[1] == pytest.approx(0.38)  # back to a tenth of that step
    assert np.isfinite(seen[2])
    assert int(state[0].num_retreats) == 1


def test_guard_judges_a_rise_by_the_predicted_decrease():
    """F rises by (L/2 t - 1) t ‖g‖² where t ‖g‖² was predicted: allowed up to `guard` times."""
    curvature = 10.0
    fun = lambda x: 0.5 * curvature * jnp.sum(x**2)  # noqa: E731
    ratio = curvature / 2 - 1  # rise over predicted decrease at t = 1
    for guard, retreats in [(ratio * 1.01, 0), (ratio * 0.99, 1)]:
        tx = lp.lbfgs_pi(lambda products: jnp.asarray(1.0), guard=guard)
        x = jnp.array([1.0, -2.0])
        state = tx.init(x)
        for _ in range(2):
            value, grads = jax.value_and_grad(fun)(x)
            updates, state = tx.update(grads, state, x, value=value)
            x = optax.apply_updates(x, updates)
        assert int(state[0].num_retreats) == retreats


def test_guard_without_value_is_the_same_on_a_quadratic():
    """There ½(g_{k-1} + g_k)ᵀs is exactly the rise of f."""
    fun = lambda x: jnp.sum(jnp.array([0.5, 3.0, 40.0]) * x**2)  # noqa: E731
    x = jnp.array([1.0, -2.0, 0.1])
    with_value, state_with = run(lp.lbfgs_pi(guard=0.0), x, 12, fun, with_value=True)
    without, state_without = run(lp.lbfgs_pi(), x, 12, fun)
    np.testing.assert_allclose(with_value, without, rtol=1e-6)
    assert int(state_with[0].num_retreats) == int(state_without[0].num_retreats) > 0


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, 1e3])
def test_after_a_retreat_the_history_is_that_of_the_other_pairs(bad):
    """The failed pair lies in the oldest slot, which counts as empty; twice in a row likewise."""
    tx, m = lp.scale_by_lbfgs_pi(lp.constant_policy(0.3), memory_size=3), 3
    params, state, pairs = PARAMS, tx.init(PARAMS), []
    for _ in range(5):
        grads = jax.grad(loss)(params)
        updates, state = tx.update(grads, state, params)
        params = jax.tree.map(jnp.subtract, params, updates)
        pairs.append([ravel_pytree(tree)[0] for tree in (params, jax.grad(loss)(params))])
    _, state = tx.update(jax.grad(loss)(params), state, params)
    assert int(state.num_retreats) == 0

    worse = jax.tree.map(lambda x: x + 0.1, params)
    _, after = tx.update(jax.tree.map(lambda x: jnp.full_like(x, bad), params), state, worse)
    assert int(after.num_retreats) == 1
    assert float(after.step_size) == 0.0
    for name in ("prev_params", "prev_grads", "count", "history_grads"):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(state, name))

    _, after = tx.update(jax.tree.map(lambda x: jnp.full_like(x, bad), params), after, worse)
    assert int(after.num_retreats) == 2
    s_and_y = [tuple(pair) for pair in np.diff(np.array(pairs), axis=0)]
    check_directions(jax.grad(loss)(params), after.history, s_and_y[-m + 1 :])

    # The next pair is taken from where the failed steps began, and finds its slot free.
    better = jax.tree.map(lambda x: 0.9 * x, params)
    _, last = tx.update(jax.grad(loss)(better), after, better)
    new = [ravel_pytree(tree)[0] for tree in (better, jax.grad(loss)(better))]
    new_pair = tuple(np.array(new) - np.array(pairs[-1]))
    check_directions(jax.grad(loss)(better), last.history, [*s_and_y[-m + 1 :], new_pair])


def check_directions(grads, history, pairs):
    g, _ = ravel_pytree(grads)
    expected = -oracles.dense_inverse_hessian(pairs, g.size) @ g
    for direction in (lp.gram_direction, lp.two_loop_direction):
        d, _ = ravel_pytree(direction(grads, history))
        np.testing.assert_allclose(d, expected, rtol=1e-9)


def test_first_step_survives_products_that_overflow():
    """Before the first step x0 is no step: x0ᵀg0 may be infinite."""
    x = jnp.array([1e20], jnp.float32)
    tx = lp.lbfgs_pi()
    updates, state = tx.update(jnp.array([1e19], jnp.float32), tx.init(x), x)
    np.testing.assert_allclose(updates, [-1e19], rtol=1e-6)
    assert all(
        np.isfinite(leaf).all() for leaf in jax.tree.leaves(state[0]._replace(prev_value=0.0))
    )


def test_guard_tolerates_rounding_of_f():
    """A rise by the last bit of f is no failure, though the predicted decrease is smaller yet."""
    tx = lp.lbfgs_pi()
    one = jnp.float32(1.0)
    x = jnp.array([1e-5], jnp.float32)
    retreats = {}
    for rise in (jnp.finfo(jnp.float32).eps, 1e-4):
        _, state = tx.update(1e-5 * one[None], tx.init(x), x, value=one)
        _, state = tx.update(0.5e-5 * one[None], state, 0.5 * x, value=one + rise)
        retreats[float(rise)] = int(state[0].num_retreats)
    assert list(retreats.values()) == [0, 1]


def test_value_is_never_required_and_changes_nothing_where_the_guard_is_content():
    with_value, _ = run(lp.lbfgs_pi(guard=jnp.inf), PARAMS, 6, with_value=True)
    without, _ = run(lp.lbfgs_pi(guard=None), PARAMS, 6)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9), with_value, without)


# -- bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64, jnp.bool_])
def test_parameters_that_are_not_real_floating_point(dtype):
    with pytest.raises(TypeError, match=r"must be real floating-point arrays, but the leaf '\['k'"):
        lp.lbfgs_pi().init({"k": jnp.zeros(3, dtype), "w": jnp.zeros(2)})


def test_update_without_params():
    tx = lp.lbfgs_pi()
    with pytest.raises(ValueError, match="reads its last step from the parameters"):
        tx.update(PARAMS, tx.init(PARAMS))


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
        ({"guard": -1.0}, "guard must be None or at least 0"),
        ({"guard": float("nan")}, "guard must be None or at least 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        lp.lbfgs_pi(**options)
