"""The optimization of the sharding tests, which knows nothing of devices."""

import jax
import jax.numpy as jnp
import numpy as np

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
