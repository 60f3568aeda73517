import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import Policy
from jax_lbfgs_pi.tasks import get_tasks, quadratic_tasks
from jax_lbfgs_pi.training.config import MetaTrainConfig
from jax_lbfgs_pi.training.outer import outer_loss_and_grad
from tests import oracles
from tests.marks import some_of


def problem(name):
    """A task's objective on flat vectors, in NumPy, and what the package needs of it."""
    if name == "quadratic":
        tasks = quadratic_tasks(1, dim=12, condition=100.0)
    else:
        tasks = get_tasks("digits", "train", size=(1, 4), num_tasks=1)
    data, x0 = tasks[0]
    flat, unravel = ravel_pytree(x0)
    evaluate = jax.jit(jax.value_and_grad(lambda x: tasks.task.loss(unravel(x), data)))

    def value_and_grad(x):
        value, grad = evaluate(jnp.array(x))
        return float(value), np.asarray(grad)

    return tasks.task, data, x0, np.asarray(flat), value_and_grad


# Middle of the range: the clip is not active everywhere, so there is something to differentiate.
def policy_for(name):
    return lp.init_policy(jax.random.key({"quadratic": 2, "mlp": 4}[name]))


@pytest.mark.parametrize("name", ["quadratic", "mlp"])
def test_unroll_equals_plain_loops(name):
    task, data, x0, flat, value_and_grad = problem(name)
    policy = policy_for(name)
    theta = jax.tree.map(np.asarray, policy.params)["params"]
    xs, fs, gs = oracles.unroll(value_and_grad, theta, flat, steps=20, m=5)

    def fun(x):
        return task.loss(x, data)

    tx = lp.lbfgs_pi(policy, memory_size=5, guard=None)
    state = lp.init_inner(tx, fun, x0)
    end, trajectory = lp.unroll(tx, fun, state, 20)
    np.testing.assert_allclose(ravel_pytree(end.params)[0], xs[-1], rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(trajectory.value, fs[1:], rtol=1e-8)
    np.testing.assert_allclose(trajectory.grad_norm, np.linalg.norm(gs[1:], axis=1), rtol=1e-6)
    steps = np.linalg.norm(np.diff(xs, axis=0), axis=1)
    assert steps.min() > 0
    assert trajectory.step_size.shape == (20,)


def test_what_unroll_cannot_go_on_from():
    fun = lambda x: jnp.sum(x**2)  # noqa: E731
    state = lp.init_inner(lp.lbfgs_pi(), fun, jnp.ones(2))
    unroll = inspect.unwrap(lp.unroll)
    for num_steps in (1.5, -1):
        with pytest.raises(ValueError, match="num_steps must be an integer of at least 0"):
            unroll(lp.lbfgs_pi(), fun, state, num_steps)
    with pytest.raises(TypeError, match="goes on from init_inner"):
        unroll(lp.lbfgs_pi(), fun, state.opt_state, 1)


def test_two_unrolls_equal_one():
    task, data, x0, *_ = problem("quadratic")

    def fun(x):
        return task.loss(x, data)

    tx = lp.lbfgs_pi(policy_for("quadratic"), guard=None)
    start = lp.init_inner(tx, fun, x0)
    whole, trajectory = lp.unroll(tx, fun, start, 12)
    half, first = lp.unroll(tx, fun, start, 6)
    end, second = lp.unroll(tx, fun, half, 6)
    np.testing.assert_allclose(end.params, whole.params, rtol=1e-12)
    np.testing.assert_allclose(
        np.concatenate([first.value, second.value]), trajectory.value, rtol=1e-12
    )


@pytest.mark.parametrize(
    ("layer", "name"),
    some_of(itertools.product(("implicit", "clip"), ("quadratic", "mlp")), quick=(0, 3)),
)
def test_meta_gradient_equals_finite_differences_of_the_frozen_surrogate(name, layer):
    """Σ_k f(x_k) with every inner gradient an external input, by plain loops and differences.

    The surrogate of f(x_k) is its linear model with the frozen gradient at the unperturbed iterate.
    """
    K = 8
    task, data, x0, flat, value_and_grad = problem(name)
    policy = policy_for(name)
    config = MetaTrainConfig(unroll_length=K, clip_layer=layer)
    network = policy.with_clip_layer(layer).network
    tx = lp.lbfgs_pi(policy, guard=None, memory_size=config.memory_size)
    inner = lp.init_inner(tx, lambda x: task.loss(x, data), x0)
    *_, grads = outer_loss_and_grad(
        policy.params, inner, data, network=network, task=task, config=config
    )
    actual, _ = ravel_pytree(grads)

    theta_flat, unravel = ravel_pytree(policy.params)
    frozen_x, frozen_f, frozen_g = oracles.unroll(
        value_and_grad, jax.tree.map(np.asarray, policy.params)["params"], flat, K, 5
    )

    def surrogate(vector):
        theta = jax.tree.map(np.asarray, unravel(jnp.array(vector)))["params"]
        xs, _, _ = oracles.unroll(
            lambda x: (0.0, np.zeros_like(x)), theta, flat, K, 5, frozen=frozen_g
        )
        linear = np.sum(frozen_g * (xs - frozen_x), axis=1)
        return np.sum((frozen_f + linear)[1:])

    h = 1e-6
    expected = np.zeros(theta_flat.size)
    for i in range(theta_flat.size):
        step = np.zeros(theta_flat.size)
        step[i] = h
        # Fourth order, so that the differences are good to 1e-9 and the comparison means 1e-6.
        near = surrogate(theta_flat + step) - surrogate(theta_flat - step)
        far = surrogate(theta_flat + 2 * step) - surrogate(theta_flat - 2 * step)
        expected[i] = (8 * near - far) / (12 * h)
    assert np.linalg.norm(expected) > 1e-3
    error = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
    assert error < 1e-6


@pytest.mark.parametrize("name", some_of(["quadratic", "mlp"], quick=(1,)))
def test_unfrozen_meta_gradient_equals_finite_differences_of_the_loss(name):
    K = 6
    task, data, x0, flat, value_and_grad = problem(name)
    policy = policy_for(name)
    config = MetaTrainConfig(unroll_length=K, clip_layer="implicit", freeze_grads=False)
    network = policy.with_clip_layer("implicit").network
    tx = lp.lbfgs_pi(policy, guard=None, memory_size=config.memory_size)
    inner = lp.init_inner(tx, lambda x: task.loss(x, data), x0)
    theta_flat, unravel = ravel_pytree(policy.params)
    *_, grads = outer_loss_and_grad(
        policy.params, inner, data, network=network, task=task, config=config
    )
    actual, _ = ravel_pytree(grads)

    def loss(vector):
        theta = jax.tree.map(np.asarray, unravel(jnp.array(vector)))["params"]
        return np.sum(oracles.unroll(value_and_grad, theta, flat, K, 5)[1][1:])

    rng = np.random.default_rng(0)
    for _ in range(5):
        direction = rng.normal(size=theta_flat.size)
        h = 1e-6
        expected = (loss(theta_flat + h * direction) - loss(theta_flat - h * direction)) / (2 * h)
        assert abs(float(actual @ direction) - expected) < 1e-5 * np.linalg.norm(actual)


def test_frozen_value_and_grad_makes_no_second_pass():
    """Its derivative sends the known gradient on: `fun` is differentiated once, not twice."""
    calls = []

    @jax.custom_vjp
    def fun(x):
        return jnp.sum(x**3)

    def forward(x):
        calls.append("forward")
        return fun(x), x

    def backward(x, bar):
        calls.append("backward")
        return (bar * 3 * x**2,)

    fun.defvjp(forward, backward)
    x = jnp.arange(3.0)
    gradient = jax.grad(lambda z: 2.0 * lp.frozen_value_and_grad(fun)(z)[0])(x)
    np.testing.assert_allclose(gradient, 6 * x**2)
    assert calls == ["forward", "backward"]
    # The gradient itself is an external input.
    zero = jax.grad(lambda z: jnp.sum(lp.frozen_value_and_grad(fun)(z)[1]))(x)
    np.testing.assert_array_equal(zero, 0.0)


def test_gradients_of_an_unroll_have_no_nan_inside():
    """Guarded divisions everywhere: nothing in forward or backward is NaN, even for a moment."""
    task, data, x0, *_ = problem("quadratic")
    policy = policy_for("quadratic").with_clip_layer("implicit")
    tx_of = lambda theta: lp.lbfgs_pi(Policy(theta, policy.network), guard=None)  # noqa: E731
    fun = lambda x: task.loss(x, data)  # noqa: E731

    def loss(theta):
        tx = tx_of(theta)
        return jnp.sum(lp.unroll(tx, fun, lp.init_inner(tx, fun, x0), 4)[1].value)

    with jax.debug_nans(True):
        grads = jax.grad(loss)(policy.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
@pytest.mark.parametrize(
    ("policy", "memory"),
    some_of([("rule", 3), (None, "full"), (lambda p: 0.3, 3), (None, 3)], quick=(0,)),
)
def test_second_derivatives_in_any_two_modes(policy, memory, long, monkeypatch):
    """Of the end by a parameter of the objective: against differences of the first derivative."""
    if long:  # the forms for long vectors
        monkeypatch.setattr("jax_lbfgs_pi.linalg.products.LONG", 1)
        monkeypatch.setattr("jax_lbfgs_pi.linalg.writes.LONG", 1)

    def end(theta):
        def fun(x):
            return jnp.sum(jnp.cosh(x - theta)) + theta * x[0] ** 2

        tx = lp.lbfgs_pi(policy, memory_size=memory)
        start = lp.init_inner(tx, fun, jnp.array([0.2, 2.0]))
        return lp.unroll(tx, fun, start, 3, freeze_grads=False)[0].value

    first = jax.jit(jax.grad(end))
    expected = (first(1.3 + 1e-5) - first(1.3 - 1e-5)) / 2e-5
    for outer, inner in itertools.product((jax.jacfwd, jax.jacrev), repeat=2):
        np.testing.assert_allclose(jax.jit(outer(inner(end)))(1.3), expected, rtol=1e-6)
