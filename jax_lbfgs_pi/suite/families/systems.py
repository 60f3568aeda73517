"""Problems that need a few steps only: systems of equations near the identity, and mild sums.

Here t = 1 with all that the window knows converges superlinearly, and a residual does best to be
silent: as near the minimum of any problem.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jax_lbfgs_pi.suite.families.base import Draw, Family, log_uniform, offset


def _contraction(n: int) -> Family:
    """Equations x + A φ(x) = b, A dense: as of a discretized integral equation."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 5)
        size = log_uniform(keys[0], 0.03, 1.5) / jnp.sqrt(n)
        data = {
            "A": size * jax.random.normal(keys[1], (n, n)),
            "b": jax.random.normal(keys[2], (n,)),
            "cubic": jax.random.uniform(keys[3]),
        }
        return offset(keys[4], n, 0.1, 3.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        bent = jnp.tanh(x) + data["cubic"] * (x + 1.0) ** 3 / 8.0
        residuals = x + data["A"] @ bent - data["b"]
        return residuals @ residuals

    return Family(f"contraction-{n}", sample, loss)


def _banded_system(n: int) -> Family:
    """Equations (a - b x_i) x_i - c x_{i-1} - d x_{i+1} + e = 0."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 3)
        u = jax.random.uniform(keys[0], (4,))
        data = {
            "a": 2.0 + 2.0 * u[0],
            "b": log_uniform(keys[1], 0.1, 2.0),
            "c": 1.2 * u[1],
            "d": 1.2 * u[2],
            "e": 2.0 * u[3] - 0.5,
        }
        return offset(keys[2], n, 0.3, 2.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        zero = jnp.zeros(1, x.dtype)
        before, after = jnp.concatenate([zero, x[:-1]]), jnp.concatenate([x[1:], zero])
        diagonal = (data["a"] - data["b"] * x) * x
        residuals = diagonal - data["c"] * before - data["d"] * after + data["e"]
        return residuals @ residuals

    return Family(f"banded-system-{n}", sample, loss)


def _separable(n: int) -> Family:
    """Exponentials less straight lines, of weights within a decade, and a square of their sum."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 5)
        spread = 10.0 ** (jax.random.uniform(keys[0]) * jax.random.uniform(keys[1], (n,)))
        data = {
            "weights": spread * log_uniform(keys[2], 0.03, 30.0),
            "coupling": log_uniform(keys[3], 1e-3, 1.0) / n,
        }
        return offset(keys[4], n, 0.1, 2.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        return jnp.sum(data["weights"] * (jnp.exp(x) - x)) + data["coupling"] * jnp.sum(x) ** 2

    return Family(f"separable-{n}", sample, loss)


def _smooth_chain(n: int) -> Family:
    """Quartics of neighbours, bent by sines."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 3)
        data = {
            "coupling": jax.random.uniform(keys[0], minval=-0.8, maxval=0.8),
            "bend": log_uniform(keys[1], 0.1, 3.0),
        }
        return offset(keys[2], n, 0.3, 3.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        a, b = x[:-1], x[1:]
        quartic = (a * a + b * b + data["coupling"] * a * b) ** 2
        bends = jnp.sin(a) ** 2 + 0.5 * (jnp.cos(b) - 1.0) ** 2
        return jnp.sum(quartic + data["bend"] * bends)

    return Family(f"smooth-chain-{n}", sample, loss)


def _sphere_penalty(n: int) -> Family:
    """Squares, and the square of a constraint on their sum."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 3)
        data = {
            "weight": log_uniform(keys[0], 1e-2, 10.0),
            "center": jax.random.normal(keys[1], (n,)),
        }
        return offset(keys[2], n, 0.1, 3.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        return jnp.sum((x - data["center"]) ** 2) + data["weight"] * (x @ x / n - 0.25) ** 2

    return Family(f"sphere-penalty-{n}", sample, loss)


SYSTEMS = [
    _contraction(4),
    _contraction(10),
    _contraction(30),
    _banded_system(6),
    _banded_system(20),
    _separable(5),
    _separable(20),
    _separable(60),
    _smooth_chain(6),
    _smooth_chain(20),
    _sphere_penalty(5),
    _sphere_penalty(20),
]
