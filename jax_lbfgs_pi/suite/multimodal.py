"""Classic functions that couple all variables or have many minima."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_lbfgs_pi.suite.problem import Scalar, Vector, formula, ordinals, repeated


def _uniform(bound: float, seed: int) -> Any:
    return lambda n: np.random.default_rng((seed, n)).uniform(-bound, bound, size=n)


def _hilbert(n: int) -> dict[str, np.ndarray]:
    i = np.arange(n, dtype=np.float64)
    return {"A": 1 / (i[:, None] + i[None, :] + 1)}


@formula(
    "hilbert",
    lambda n: -4 / np.arange(1, n + 1),
    (6, 12),
    source="Schittkowski 1987, no. 274-276: Hilbert matrix",
    minimum=0.0,
    data=_hilbert,
)
def hilbert(x: Vector, data: Any) -> Scalar:
    """The quadratic form of a Hilbert matrix."""
    return x @ (data["A"] @ x)


@formula(
    "zakharov",
    repeated(1.0),
    (10, 40),
    source="Rahnamayan, Tizhoosh & Salama 2007, Zakharov function",
    minimum=0.0,
    near=1,
)
def zakharov(x: Vector, data: Any) -> Scalar:
    """Zakharov's sphere with a steep valley."""
    s = ordinals(x) @ x / 2
    return jnp.sum(x**2) + s**2 + s**4


@formula(
    "styblinski_tang",
    _uniform(5, 1),
    (10, 100),
    source="Styblinski & Tang 1990, Neural Networks 3",
    minimum=lambda n: -39.16616570377142 * n,
    near=1,
)
def styblinski_tang(x: Vector, data: Any) -> Scalar:
    """Two unequal minima in each variable."""
    return jnp.sum(x**4 - 16 * x**2 + 5 * x) / 2


@formula(
    "griewank",
    _uniform(600, 2),
    (10, 50),
    source="Griewank 1981, J. Optimization Theory and Applications 34",
    minimum=0.0,
    near=1,
)
def griewank(x: Vector, data: Any) -> Scalar:
    """Griewank's ripples on a wide sphere."""
    return jnp.sum(x**2) / 4000 - jnp.prod(jnp.cos(x / jnp.sqrt(ordinals(x)))) + 1


@formula(
    "levy",
    _uniform(10, 3),
    (10, 100),
    source="Levy & Montalvo 1985, SIAM J. Scientific and Statistical Computing 6",
    minimum=0.0,
)
def levy(x: Vector, data: Any) -> Scalar:
    """Levy and Montalvo's ripples on a sphere."""
    w = 1 + (x - 1) / 4
    inner = jnp.sum((w[:-1] - 1) ** 2 * (1 + 10 * jnp.sin(jnp.pi * w[:-1] + 1) ** 2))
    last = (w[-1] - 1) ** 2 * (1 + jnp.sin(2 * jnp.pi * w[-1]) ** 2)
    return jnp.sin(jnp.pi * w[0]) ** 2 + inner + last
