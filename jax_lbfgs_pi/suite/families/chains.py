"""Sums of squares over neighbours: Rosenbrock's valley, tridiagonal systems, Powell's blocks."""

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
)


def _rosenbrock(n: int) -> Family:
    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 5)
        steep = log_uniform(keys[0], 1.0, 1000.0) * log_uniform(keys[1], 0.5, 2.0, (n - 1,))
        data = {
            "steep": steep,
            "bend": jax.random.uniform(keys[2], (n - 1,), minval=0.5, maxval=1.5),
            "target": jax.random.uniform(keys[3], (n - 1,), minval=-1.2, maxval=1.2),
        }
        return offset(keys[4], n, 0.1, 2.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        valley = x[1:] - data["bend"] * x[:-1] ** 2
        return jnp.sum(data["steep"] * valley**2 + (x[:-1] - data["target"]) ** 2)

    return Family(f"rosenbrock-chain-{n}", sample, loss)


def _tridiagonal(n: int) -> Family:
    def residuals(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, " n"]:
        left, right = jnp.pad(x[:-1], (1, 0)), jnp.pad(x[1:], (0, 1))
        own = (data["linear"] - data["square"] * x) * x
        return own - data["left"] * left - data["right"] * right

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 7)
        data = {
            "linear": jax.random.uniform(keys[0], (n,), minval=2.0, maxval=4.0),
            "square": jax.random.uniform(keys[1], (n,), minval=-2.0, maxval=2.0),
            "left": jax.random.uniform(keys[2], (n,), minval=0.0, maxval=2.0),
            "right": jax.random.uniform(keys[3], (n,), minval=0.0, maxval=2.0),
        }
        solution = 0.5 * jax.random.normal(keys[4], (n,))
        data["constant"] = residuals(solution, data)
        data["weights"] = log_uniform(keys[6], 0.1, 10.0, (n,))
        return solution + offset(keys[5], n, 0.1, 3.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        r = residuals(x, data) - data["constant"]
        return jnp.sum(data["weights"] * r * r)

    return Family(f"tridiagonal-{n}", sample, loss)


def _powell(n: int) -> Family:
    """Powell's singular function in rotated coordinates: its Hessian vanishes at the minimum."""
    blocks = n // 4

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 4)
        normals = reflections(keys[0], n)
        data = {
            "normals": normals,
            "weights": log_uniform(keys[1], 0.1, 10.0, (4, blocks)),
            "mix": log_uniform(keys[2], 0.2, 10.0, (4, blocks)),
        }
        return rotate_back(normals, offset(keys[3], n, 0.3, 4.0)), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        y = rotate(data["normals"], x).reshape(4, blocks)
        w, c = data["weights"], data["mix"]
        squares = w[0] * (y[0] + c[0] * y[1]) ** 2 + w[1] * (y[2] - c[1] * y[3]) ** 2
        fourths = w[2] * (y[1] - c[2] * y[2]) ** 4 + w[3] * (y[0] - c[3] * y[3]) ** 4
        return jnp.sum(squares + fourths)

    return Family(f"powell-blocks-{n}", sample, loss)


def _boundary(n: int) -> Family:
    """A two-point boundary value problem u'' = a (u + t + b)³, its differences squared."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 3)
        t = jnp.arange(1, n + 1) / (n + 1.0)
        data = {
            "strength": log_uniform(keys[0], 0.1, 5.0),
            "shift": t + jax.random.uniform(keys[1], minval=0.0, maxval=2.0),
        }
        return t * (t - 1.0) + offset(keys[2], n, 0.05, 2.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        padded = jnp.pad(x, 1)
        bend = 2.0 * x - padded[:-2] - padded[2:]
        r = bend * (n + 1) ** 2 + data["strength"] * (x + data["shift"]) ** 3
        return jnp.mean(r * r)

    return Family(f"boundary-value-{n}", sample, loss)


def _bratu(n: int) -> Family:
    """Bratu's u'' + λ exp(u) = 0 below its turning point, its differences squared."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 3)
        uneven = 0.3 * jax.random.normal(keys[2], (n,))
        strength = log_uniform(keys[0], 0.1, 2.5) * jnp.exp(uneven)
        return offset(keys[1], n, 0.03, 1.5), {"strength": strength}

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        padded = jnp.pad(x, 1)
        bend = (padded[:-2] + padded[2:] - 2.0 * x) * (n + 1) ** 2
        r = bend + data["strength"] * jnp.exp(x)
        return jnp.mean(r * r)

    return Family(f"bratu-{n}", sample, loss)


CHAINS = [
    *[_rosenbrock(n) for n in (2, 6, 20, 120)],
    *[_tridiagonal(n) for n in (6, 20)],
    *[_powell(n) for n in (4, 16)],
    _boundary(12),
    _bratu(16),
]
