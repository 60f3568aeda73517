"""Quadratics of any conditioning, and other sums over rotated and badly scaled coordinates."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jax_lbfgs_pi.suite.families.base import (
    Draw,
    Family,
    log_uniform,
    offset,
    reflections,
    rotate,
    rotate_back,
    spread_scales,
)

_SHAPES: dict[str, Callable[[Float[Array, " n"]], Float[Array, " n"]]] = {
    "log-cosh": lambda z: jnp.logaddexp(z, -z) - jnp.log(2.0),
    "pseudo-huber": lambda z: jnp.sqrt(1.0 + z * z) - 1.0,
    "quartic": lambda z: 0.25 * z**4 + 0.05 * z * z,
    "exponential-wall": lambda z: jnp.exp(z) - z - 1.0,
}


def _quadratic(n: int, decades: float = 8.0, name: str = "quadratic") -> Family:
    """Eigenvalues spread over up to so many decades."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 8)
        # Skewed both ways: a few small among large eigenvalues, and a few large among small.
        skew = log_uniform(keys[0], 0.3, 3.0)
        exponents = jax.random.uniform(keys[1], (n,)) ** skew
        eigenvalues = 10.0 ** (-decades * jax.random.uniform(keys[2]) * exponents)
        center = jax.random.normal(keys[3], (n,))
        # Half the minima are not zero, as no optimizer may count on that.
        least = jax.random.bernoulli(keys[6]) * offset(keys[7], 1, 0.1, 10.0)[0]
        data = {
            "normals": reflections(keys[4], n),
            "eigenvalues": eigenvalues,
            "center": center,
            "least": least,
        }
        return center + offset(keys[5], n, 0.1, 30.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        y = rotate(data["normals"], x - data["center"])
        return 0.5 * jnp.sum(data["eigenvalues"] * y * y) + data["least"]

    return Family(f"{name}-{n}", sample, loss)


def _scaled(shape: str, n: int) -> Family:
    function = _SHAPES[shape]

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 5)
        scales = spread_scales(keys[0], n, 3.0)
        center = jax.random.normal(keys[1], (n,))
        normals = reflections(keys[2], n)
        data = {
            "scales": scales,
            "center": center,
            "normals": normals,
            "weights": log_uniform(keys[3], 0.1, 10.0, (n,)),
        }
        z0 = center + offset(keys[4], n, 0.3, 3.0 if shape == "exponential-wall" else 10.0)
        return rotate_back(normals, z0) / scales, data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        z = rotate(data["normals"], data["scales"] * x) - data["center"]
        return jnp.sum(data["weights"] * function(z))

    return Family(f"scaled-{shape}-{n}", sample, loss)


QUADRATICS = [
    # Those that need a few steps only: a rule that is wrong there is wrong near every minimum.
    _quadratic(4, 0.5, "easy-quadratic"),
    _quadratic(20, 1.5, "easy-quadratic"),
    _quadratic(10),
    _quadratic(40),
    _quadratic(160),
    _scaled("log-cosh", 10),
    _scaled("pseudo-huber", 20),
    _scaled("quartic", 10),
    _scaled("exponential-wall", 10),
]
