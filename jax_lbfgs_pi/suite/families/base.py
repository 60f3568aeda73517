"""What a family of random problems is, and the draws that families share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Loss = Callable[[Float[Array, " n"], Any], Float[Array, ""]]
"""The objective, `(x, data) -> f`."""

Draw = tuple[Float[Array, " n"], Any]
"""A starting point and the data of the problem it belongs to."""


class Family(NamedTuple):
    """Random small problems without end, of one n, that run side by side under `vmap`.

    Attributes:
      name: unique, such as `quadratic-10`.
      sample: a problem from a key, `key -> (x0, data)`; traceable.
      loss: the objective, `(x, data) -> f`.
    """

    name: str
    sample: Callable[[PRNGKeyArray], Draw]
    loss: Loss


def log_uniform(
    key: PRNGKeyArray, low: float, high: float, shape: tuple[int, ...] = ()
) -> Float[Array, "*shape"]:
    """Numbers between `low` and `high` whose logarithm is uniform."""
    return jnp.exp(jax.random.uniform(key, shape, minval=jnp.log(low), maxval=jnp.log(high)))


def spread_scales(key: PRNGKeyArray, num: int, decades: float) -> Float[Array, " num"]:
    """Factors log-uniform in 10^±e, with e itself uniform in [0, `decades`]."""
    how, which = jax.random.split(key)
    exponents = jax.random.uniform(which, (num,), minval=-1.0, maxval=1.0)
    return 10.0 ** (decades * jax.random.uniform(how) * exponents)


def offset(key: PRNGKeyArray, num: int, low: float, high: float) -> Float[Array, " num"]:
    """A step in a random direction, log-uniform in its size for each coordinate."""
    size, where = jax.random.split(key)
    return log_uniform(size, low, high) * jax.random.normal(where, (num,))


def reflections(key: PRNGKeyArray, n: int, num: int = 4) -> Float[Array, "num n"]:
    """Unit normals of Householder reflections: an orthogonal matrix that is cheap to apply."""
    normals = jax.random.normal(key, (num, n))
    return normals / jnp.linalg.norm(normals, axis=1, keepdims=True)


def rotate(normals: Float[Array, "num n"], x: Float[Array, " n"]) -> Float[Array, " n"]:
    """The product of the reflections, applied to x."""
    for i in range(normals.shape[0]):
        x = x - 2.0 * (normals[i] @ x) * normals[i]
    return x


def rotate_back(normals: Float[Array, "num n"], x: Float[Array, " n"]) -> Float[Array, " n"]:
    """The inverse of `rotate`."""
    return rotate(normals[::-1], x)
