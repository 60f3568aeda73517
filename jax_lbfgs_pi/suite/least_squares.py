"""Sums of squares of a few variables, without observations: Moré, Garbow & Hillstrom 1981."""

from typing import Any

import jax.numpy as jnp

from jax_lbfgs_pi.suite.problem import Residuals, Vector, formula

MGH = "Moré, Garbow & Hillstrom 1981, no. {}"


@formula(
    "freudenstein_roth",
    (0.5, -2.0),
    source=MGH.format(2),
    minimum=0.0,
    squares=True,
    scales=(10, 100),
)
def freudenstein_roth(x: Vector, data: Any) -> Residuals:
    """Freudenstein and Roth's function."""
    a, b = x
    return jnp.stack(
        [-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b],
    )


@formula(
    "powell_badly_scaled",
    (0.0, 1.0),
    source=MGH.format(3),
    minimum=0.0,
    squares=True,
    near=1,
)
def powell_badly_scaled(x: Vector, data: Any) -> Residuals:
    """Powell's badly scaled function."""
    a, b = x
    return jnp.stack([1e4 * a * b - 1, jnp.exp(-a) + jnp.exp(-b) - 1.0001])


@formula(
    "brown_badly_scaled",
    (1.0, 1.0),
    source=MGH.format(4),
    minimum=0.0,
    squares=True,
    scales=(10,),
)
def brown_badly_scaled(x: Vector, data: Any) -> Residuals:
    """Brown's badly scaled function."""
    a, b = x
    return jnp.stack([a - 1e6, b - 2e-6, a * b - 2])


@formula(
    "beale",
    (1.0, 1.0),
    source=MGH.format(5),
    minimum=0.0,
    squares=True,
    scales=(10,),
    near=2,
)
def beale(x: Vector, data: Any) -> Residuals:
    """Beale's function."""
    a, b = x
    return jnp.stack([1.5 - a * (1 - b), 2.25 - a * (1 - b**2), 2.625 - a * (1 - b**3)])


@formula(
    "jennrich_sampson",
    (0.3, 0.4),
    source=MGH.format(6),
    minimum=124.362182355615,
    squares=True,
    near=1,
)
def jennrich_sampson(x: Vector, data: Any) -> Residuals:
    """Jennrich and Sampson's function, with ten residuals."""
    i = jnp.arange(1, 11, dtype=x.dtype)
    return 2 + 2 * i - (jnp.exp(i * x[0]) + jnp.exp(i * x[1]))


@formula(
    "helical_valley",
    (-1.0, 0.0, 0.0),
    source=MGH.format(7),
    minimum=0.0,
    squares=True,
    scales=(10, 100),
    near=1,
)
def helical_valley(x: Vector, data: Any) -> Residuals:
    """Fletcher and Powell's helical valley."""
    a, b, c = x
    # The published angle, between -1/4 and 3/4 of a turn: it jumps where a = 0, b < 0.
    turns = jnp.arctan2(-a, b) / (2 * jnp.pi) + 0.25
    return jnp.stack([10 * (c - 10 * turns), 10 * (jnp.sqrt(a**2 + b**2) - 1), c])


@formula("box_3d", (0.0, 10.0, 20.0), source=MGH.format(12), minimum=0.0, squares=True, near=1)
def box_3d(x: Vector, data: Any) -> Residuals:
    """Box's function of three variables, with ten residuals."""
    t = jnp.arange(1, 11, dtype=x.dtype) / 10
    return jnp.exp(-t * x[0]) - jnp.exp(-t * x[1]) - x[2] * (jnp.exp(-t) - jnp.exp(-10 * t))


@formula(
    "wood",
    (-3.0, -1.0, -3.0, -1.0),
    source=MGH.format(14),
    minimum=0.0,
    squares=True,
    scales=(10, 100),
    near=2,
)
def wood(x: Vector, data: Any) -> Residuals:
    """Wood's function."""
    a, b, c, d = x
    return jnp.stack(
        [
            10 * (b - a**2),
            1 - a,
            90**0.5 * (d - c**2),
            1 - c,
            10**0.5 * (b + d - 2),
            10**-0.5 * (b - d),
        ]
    )


@formula(
    "brown_dennis",
    (25.0, 5.0, -5.0, -1.0),
    source=MGH.format(16),
    minimum=85822.2016263563,
    squares=True,
    scales=(10,),
    near=1,
)
def brown_dennis(x: Vector, data: Any) -> Residuals:
    """Brown and Dennis's function, with twenty residuals."""
    t = jnp.arange(1, 21, dtype=x.dtype) / 5
    return (x[0] + t * x[1] - jnp.exp(t)) ** 2 + (x[2] + x[3] * jnp.sin(t) - jnp.cos(t)) ** 2
