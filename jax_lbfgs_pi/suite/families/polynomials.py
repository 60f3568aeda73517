"""Polynomials of fourth degree that are sums of powers, penalties among them."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jax_lbfgs_pi.suite.families.base import Draw, Family, log_uniform, offset


def _variably_dimensioned(n: int) -> Family:
    """A sphere plus the square and the fourth power of one weighted sum."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 4)
        center = jax.random.normal(keys[0], (n,))
        slopes = jnp.arange(1, n + 1) ** jax.random.uniform(keys[1], maxval=1.5)
        slopes = slopes * jax.random.normal(keys[2], (n,))
        data = {"center": center, "slopes": slopes}
        return center + offset(keys[3], n, 0.1, 3.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        step = x - data["center"]
        total = data["slopes"] @ step
        return step @ step + total**2 + total**4

    return Family(f"variably-dimensioned-{n}", sample, loss)


def _penalty(n: int) -> Family:
    """A weak pull to a point, and a wall around an ellipsoid's surface."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 5)
        data = {
            "weak": log_uniform(keys[0], 1e-5, 0.1),
            "center": jax.random.normal(keys[1], (n,)),
            "axes": log_uniform(keys[2], 0.3, 3.0, (n,)),
            "level": log_uniform(keys[3], 0.1, 10.0),
        }
        return offset(keys[4], n, 0.3, 5.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        step = x - data["center"]
        wall = jnp.sum(data["axes"] * x * x) - data["level"]
        return data["weak"] * step @ step + wall**2

    return Family(f"penalty-{n}", sample, loss)


def _random_squares(n: int, num: int) -> Family:
    """Squares of random polynomials of second degree; some have a root in common, some not."""

    def residuals(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, " num"]:
        # (aᵀx)(bᵀx) + cᵀx for each residual.
        return (data["a"] @ x) * (data["b"] @ x) + data["c"] @ x

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 8)
        bend = log_uniform(keys[0], 0.05, 2.0)
        data = {
            "a": bend * jax.random.normal(keys[1], (num, n)),
            "b": jax.random.normal(keys[2], (num, n)),
            "c": jax.random.normal(keys[3], (num, n)),
        }
        solution = jax.random.normal(keys[4], (n,))
        noise = log_uniform(keys[5], 1e-4, 1.0) * jax.random.normal(keys[6], (num,))
        data["constant"] = residuals(solution, data) + noise
        return solution + offset(keys[7], n, 0.1, 3.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        r = residuals(x, data) - data["constant"]
        return 0.5 * r @ r

    return Family(f"random-squares-{n}", sample, loss)


POLYNOMIALS = [
    _variably_dimensioned(10),
    _penalty(10),
    _random_squares(3, 4),
    _random_squares(8, 10),
]
