"""Networks from points to fields, and their derivatives along axes by forward mode."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np


def init(rng, *widths):
    """Glorot's weights for a tanh network; biases 0."""
    return [
        {"W": np.sqrt(2.0 / (n_in + n_out)) * rng.normal(size=(n_in, n_out)), "b": np.zeros(n_out)}
        for n_in, n_out in itertools.pairwise(widths)
    ]


def mlp(params, x):
    """From `(num, inputs)` to `(num, outputs)`."""
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["W"] + layer["b"][None, :])
    return x @ params[-1]["W"] + params[-1]["b"][None, :]


def derivatives(u, points, axis, order):
    """U and its first derivatives along an axis, up to `order`, each like `u(points)`."""
    along = jnp.zeros_like(points).at[:, axis].set(1.0)

    def with_one_more(previous):
        def extended(p):
            values, slopes = jax.jvp(previous, (p,), (along,))
            return (*values, slopes[-1])

        return extended

    def result(p):
        return (u(p),)

    for _ in range(order):
        result = with_one_more(result)
    return result(points)
