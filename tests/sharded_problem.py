"""The optimization of the sharding tests, which knows nothing of devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jax_lbfgs_pi as lp

NUM_STEPS = 25
SHAPES = {"a": (16, 3), "b": (5, 24), "c": (8,), "d": (3,)}


def start(names):
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=SHAPES[name]) for name in names}


def loss(params):
    """Ill-conditioned, not quadratic."""
    total = 0.0
    for leaf in jax.tree.leaves(params):
        scale = np.logspace(0, 2, leaf.shape[-1])
        scale = scale.reshape((1,) * (leaf.ndim - 1) + scale.shape)
        total += jnp.sum(scale * leaf**2) + 0.1 * jnp.sum(jnp.cosh(leaf))
    return total


def least_squares():
    """Eight rows of a system in three unknowns."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 3)), rng.normal(size=8)


def optimize(params, init=lambda tx: tx.init, tx=None):
    """Parameters and state after some steps, and f before the last one."""
    tx = lp.lbfgs_pi(lp.init_policy(jax.random.key(0)), memory_size=5) if tx is None else tx
    state = init(tx)(params)

    @jax.jit
    def step(params, state):
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state, value

    for _ in range(NUM_STEPS):
        # One step at a time: two at once wait for each other where cores are few.
        params, state, value = jax.block_until_ready(step(params, state))
    return params, state, value
