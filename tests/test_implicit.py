"""The derivative of a minimum: against dense algebra and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jax_lbfgs_pi as lp
from tests.marks import some_of

H = jnp.diag(jnp.array([1.0, 4.0, 9.0]))
THETA = jnp.array([1.0, 2.0, -1.0])


def fun(x, theta):
    return 0.5 * x @ H @ x + 0.1 * jnp.sum(x**4) - x @ theta


def solve(theta):
    return lp.minimize(fun, jnp.zeros(3), (theta,), tol=1e-11)


def exact(theta):
    """dx/dθ: the inverse Hessian at the minimum, as the derivative of the gradient by θ is -1."""
    x = np.asarray(solve(theta).params)
    return np.linalg.inv(np.asarray(H) + np.diag(1.2 * x**2))


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("wrap", some_of([lambda f: f, jax.jit], quick=(1,)), ids=["eager", "jit"])
def test_jacobians_of_the_minimum_in_both_modes(mode, wrap):
    jacobian = wrap(mode(lambda theta: solve(theta).params))(THETA)
    np.testing.assert_allclose(jacobian, exact(THETA), rtol=1e-8, atol=1e-10)


def test_without_parameters_the_value_still_has_a_derivative():
    slope = jax.grad(lambda a: lp.minimize(lambda _, a: a**2, {}, (a,)).value)(2.0)
    assert slope == 4.0


def test_a_closure_differentiates_as_args_do():
    closed = jax.grad(lambda t: lp.minimize(lambda x: fun(x, t), jnp.zeros(3), tol=1e-11).params[1])
    np.testing.assert_allclose(closed(THETA), exact(THETA)[1], rtol=1e-8, atol=1e-10)


def test_the_value_by_the_envelope_theorem_and_its_second_derivative():
    value = lambda theta: solve(theta).value  # noqa: E731
    np.testing.assert_allclose(jax.grad(value)(THETA), -solve(THETA).params, rtol=1e-9)
    for hessian in (jax.hessian(value), jax.jacrev(jax.grad(value))):
        np.testing.assert_allclose(hessian(THETA), -exact(THETA), rtol=1e-7, atol=1e-9)


def test_under_vmap():
    thetas = jnp.stack([THETA, 2 * THETA, -THETA])
    found = jax.vmap(jax.jacrev(lambda theta: solve(theta).params))(thetas)
    np.testing.assert_allclose(found, [exact(t) for t in thetas], rtol=1e-7, atol=1e-9)


def test_what_is_no_function_of_the_minimum_has_derivative_zero():
    for field in (lambda r: r.grad_norm, lambda r: jnp.sum(r.trajectory.value)):
        np.testing.assert_array_equal(jax.grad(lambda t, f=field: f(solve(t)))(THETA), 0.0)
    by_start = jax.grad(lambda x0: lp.minimize(fun, x0, (THETA,)).params[0])(jnp.zeros(3))
    np.testing.assert_array_equal(by_start, 0.0)


def test_aux_integers_and_trees_of_parameters():
    """Ridge regression with a kernel width, in closed form, beside finite differences."""
    rng = np.random.default_rng(0)
    A, labels = rng.normal(size=(30, 4)), rng.integers(0, 2, size=30)

    def loss(p, strength, labels):
        r = A @ p["w"] + p["b"] - labels
        value = jnp.mean(r**2) + strength * jnp.sum(p["w"] ** 2)
        return value, {"worst": jnp.max(jnp.abs(r)), "count": jnp.argmax(r)}

    start = {"w": jnp.zeros(4), "b": jnp.zeros(())}

    def outcome(strength):
        result = lp.minimize(loss, start, (strength, labels), has_aux=True, tol=1e-12)
        return result.params["b"] + jnp.sum(result.params["w"] ** 3) + result.aux["worst"]

    def in_closed_form(strength):
        design = np.concatenate([A, np.ones((30, 1))], axis=1)
        penalty = 30 * strength * np.diag([1.0] * 4 + [0.0])
        w = np.linalg.solve(design.T @ design + penalty, design.T @ labels)
        return w[4] + np.sum(w[:4] ** 3) + np.max(np.abs(design @ w - labels))

    step = 1e-5
    expected = (in_closed_form(0.3 + step) - in_closed_form(0.3 - step)) / (2 * step)
    for derivative in (jax.grad(outcome), jax.jacfwd(outcome)):
        np.testing.assert_allclose(derivative(jnp.array(0.3)), expected, rtol=1e-6)
    batch = jax.vmap(jax.grad(outcome))(jnp.array([0.3, 1.0]))
    np.testing.assert_allclose(batch[0], expected, rtol=1e-6)


def test_a_policy_may_be_traced_and_has_no_influence_on_the_minimum():
    policy = lp.load_policy("general")
    found = jax.grad(lambda p: jnp.sum(lp.minimize(fun, jnp.zeros(3), (THETA,), policy=p).params))(
        policy
    )
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize(
    ("policy", "memory"),
    some_of(
        [("rule", "full"), ("rule", 20), ("rule", "dense"), (None, None), (None, 20),
         (None, "dense"), ("paper-mnist", 20)],
        quick=(0, 1),
    ),
)  # fmt: skip
def test_an_unroll_past_convergence_has_the_derivative_of_the_minimum(policy, memory):
    """60 steps, most of them on the minimum to the last bit: no 0 / 0, no rounding amplified."""

    def last(theta):
        tx = lp.lbfgs_pi(policy, memory_size=memory)
        f = lambda x: fun(x, theta)  # noqa: E731

        def step(carry, _):
            x, state = carry
            value, grads = jax.value_and_grad(f)(x)
            updates, state = tx.update(grads, state, x, value=value)
            return (optax.apply_updates(x, updates), state), None

        return jax.lax.scan(step, (jnp.zeros(3), tx.init(jnp.zeros(3))), length=60)[0][0]

    for mode in (jax.jacrev, jax.jacfwd):
        np.testing.assert_allclose(jax.jit(mode(last))(THETA), exact(THETA), rtol=1e-4, atol=1e-6)


WEIGHTS = np.geomspace(1e6, 1e-6, 5)


def of_units(n, theta):
    """Variables whose units differ by 1e6 either way, the minimum at θ; and each weight."""
    weights = jnp.asarray(np.resize(WEIGHTS, n))

    def loss(x):
        return jnp.sum(weights * (0.5 * (x - theta) ** 2 + (x - theta) ** 4))

    return lp.minimize(loss, jnp.zeros(n), tol=1e-10).params, weights


@pytest.mark.parametrize("n", [5, 110], ids=["formed", "by products"])
def test_variables_in_any_units(n):
    """By conjugate gradients in the units as given, the small ones would have no derivative."""
    theta = jnp.linspace(0.1, 0.2, n)
    _, forward = jax.jvp(lambda t: of_units(n, t)[0], (theta,), (jnp.ones(n),))
    np.testing.assert_allclose(forward, 1.0, rtol=1e-6)
    backward = jax.grad(lambda t: jnp.sum(of_units(n, t)[1] * of_units(n, t)[0]))(theta)
    np.testing.assert_allclose(backward, np.resize(WEIGHTS, n), rtol=1e-6)


def test_a_direction_in_which_f_is_flat_stays():
    """The classes of a softmax, shifted together, are the same: a Hessian of rank 2 of 3."""

    def probabilities(theta):
        def loss(x):
            return -theta @ jax.nn.log_softmax(x)

        return jax.nn.softmax(lp.minimize(loss, jnp.zeros(3), tol=1e-10).params)

    theta = jnp.array([0.2, 0.3, 0.5])
    jacobian = jax.jacrev(probabilities)(theta)
    expected = np.eye(3) - np.asarray(theta)[:, None]  # of θ / Σθ, at Σθ = 1
    np.testing.assert_allclose(jacobian, expected, atol=1e-7)


@pytest.mark.parametrize("n", [2, 110], ids=["formed", "by products"])
def test_parameters_of_two_dtypes(n):
    start = {"a": jnp.zeros(n, jnp.bfloat16), "b": jnp.zeros(n, jnp.float32)}

    def fit(theta):
        def loss(p):
            return jnp.sum((p["a"].astype(theta.dtype) - theta) ** 2 + (p["b"] - theta) ** 2)

        return lp.minimize(loss, start).params

    theta = jnp.float32(2.0)
    for derivative in (jax.jacfwd(fit)(theta), jax.jacrev(fit)(theta)):
        for leaf in jax.tree.leaves(derivative):
            np.testing.assert_allclose(leaf.astype(jnp.float32), 1.0, rtol=1e-2)
