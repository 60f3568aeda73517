"""The backward pass of meta-training, against automatic differentiation of the whole unroll."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import Policy
from jax_lbfgs_pi.training.adjoint import unroll_and_grad
from tests.marks import some_of

X0 = {"w": jnp.array([[1.0, -2.0, 0.5], [0.3, 3.0, -1.0]]), "b": jnp.array([0.3, 1.0])}


def fun(params):
    """Smooth, not convex, of a tree."""
    w, b = params["w"], params["b"]
    return jnp.sum(jnp.array([[1.0, 5.0, 2.0]]) * w**2) + jnp.sum(jnp.cos(w @ w.T)) + jnp.sum(b**4)


def policy_of(seed, **options):
    return lp.init_policy(jax.random.key(seed), tau_min=-6.0, tau_max=-0.5, **options)


def by_automatic_differentiation(policy, inner, num_steps, loss, m):
    def loss_of(theta):
        tx = lp.lbfgs_pi(Policy(theta, policy.network), memory_size=m, guard=None)
        end, trajectory = lp.unroll(tx, fun, inner, num_steps)
        return loss(trajectory.value), (end, trajectory)

    return jax.value_and_grad(loss_of, has_aux=True)(policy.params)


def weighted(values):
    return jnp.sum(jnp.linspace(1.0, 2.0, values.size) * values) + jnp.log(values[-1] + 50.0)


@pytest.mark.parametrize(
    ("layer", "learn_limits"),
    some_of(itertools.product(("implicit", "clip", "cvx"), (False, True)), quick=(3,)),
)
def test_equals_automatic_differentiation_of_the_unroll(layer, learn_limits):
    """Two unrolls, the second with the memory of the first; the ring buffer wraps several times."""
    if layer == "cvx":
        pytest.importorskip("moreau", reason="needs the extra 'cvx'")
    m, num_steps = 3, 11
    policy = policy_of(4, learn_limits=learn_limits)
    inner = lp.init_inner(lp.lbfgs_pi(policy, memory_size=m, guard=None), fun, X0)
    for _ in range(2):
        expected, (end, trajectory) = (
            f := jax.jit(
                lambda inner: by_automatic_differentiation(
                    policy.with_clip_layer("implicit"), inner, num_steps, weighted, m
                )
            )(inner)
        )[0]
        grads = f[1]
        value, last, seen, actual = jax.jit(
            lambda inner: unroll_and_grad(
                policy.with_clip_layer(layer), fun, inner, num_steps, weighted
            )
        )(inner)
        np.testing.assert_allclose(value, expected, rtol=1e-10)
        np.testing.assert_allclose(seen.value, trajectory.value, rtol=1e-9)
        np.testing.assert_allclose(seen.step_size, trajectory.step_size, rtol=1e-7)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), last, end)
        a, b = ravel_pytree(actual)[0], ravel_pytree(grads)[0]
        assert np.linalg.norm(b) > 1e-3
        limit = 1e-5 if layer == "cvx" else 1e-8
        assert np.linalg.norm(a - b) < limit * np.linalg.norm(b)
        inner = end


def test_one_evaluation_a_step_is_executed():
    calls = []

    def counted(params):
        jax.debug.callback(lambda: calls.append(1))
        return fun(params)

    policy = policy_of(4, clip_layer="implicit")
    inner = lp.init_inner(lp.lbfgs_pi(policy, guard=None), fun, X0)
    jax.block_until_ready(
        jax.jit(lambda inner: unroll_and_grad(policy, counted, inner, 9, jnp.sum))(inner)
    )
    jax.effects_barrier()
    assert len(calls) == 9


@pytest.mark.slow
def test_stores_two_vectors_a_step():
    """Backpropagation through the scan keeps the history of each; see the compiled programs."""
    n, num_steps, m = 2000, 40, 5
    scale = jnp.linspace(1.0, 2.0, n)
    quadratic = lambda x: 0.5 * jnp.sum(scale * x**2)  # noqa: E731
    policy = policy_of(0, clip_layer="implicit")
    tx = lp.lbfgs_pi(policy, memory_size=m, guard=None)
    inner = lp.init_inner(tx, quadratic, jnp.ones(n))

    def whole(inner):
        loss = lambda theta: jnp.sum(  # noqa: E731
            lp.unroll(
                lp.lbfgs_pi(Policy(theta, policy.network), memory_size=m, guard=None),
                quadratic, inner, num_steps,
            )[1].value
        )  # fmt: skip
        return jax.grad(loss)(policy.params)

    def ours(inner):
        return unroll_and_grad(policy, quadratic, inner, num_steps, jnp.sum)[3]

    def vectors(function):
        compiled = jax.jit(function).lower(inner).compile()
        return compiled.memory_analysis().temp_size_in_bytes / 8 / n

    assert vectors(ours) < 2 * num_steps + 15 * m
    assert vectors(whole) > (2 * m + 2) * num_steps


@pytest.mark.slow
def test_remat_changes_the_memory_and_not_the_gradient():
    policy, num_steps = policy_of(4, clip_layer="implicit"), 30
    inner = lp.init_inner(lp.lbfgs_pi(policy, guard=None), fun, X0)

    def grads(remat):
        def loss(theta):
            tx = lp.lbfgs_pi(Policy(theta, policy.network), guard=None)
            return jnp.sum(
                lp.unroll(tx, fun, inner, num_steps, freeze_grads=False, remat=remat)[1].value
            )

        return jax.jit(jax.grad(loss)).lower(policy.params).compile()

    plain, remat = grads(False), grads(True)
    a, b = (ravel_pytree(f(policy.params))[0] for f in (plain, remat))
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9 * float(jnp.linalg.norm(a)))
    size = lambda f: f.memory_analysis().temp_size_in_bytes  # noqa: E731
    assert size(remat) < 0.8 * size(plain)
