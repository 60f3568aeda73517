"""Sums of squares of any number of variables: Moré, Garbow & Hillstrom 1981."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_lbfgs_pi.suite.least_squares import MGH
from jax_lbfgs_pi.suite.problem import Residuals, Vector, formula, ordinals, repeated


def _ordinals(n: int) -> np.ndarray:
    return np.arange(1, n + 1, dtype=np.float64)


def _grid(n: int) -> np.ndarray:
    return _ordinals(n) / (n + 1)


@formula(
    "rosenbrock",
    repeated(-1.2, 1.0),
    (2, 10, 100, 1_000, 10_000),
    source=MGH.format(21),
    minimum=0.0,
    squares=True,
    scales=(10, 100),
    near=2,
)
def rosenbrock(x: Vector, data: Any) -> Residuals:
    """Rosenbrock's valley, in pairs of variables."""
    a, b = x[::2], x[1::2]
    return jnp.concatenate([10 * (b - a**2), 1 - a])


@formula(
    "powell_singular",
    repeated(3.0, -1.0, 0.0, 1.0),
    (4, 40, 1_000),
    source=MGH.format(22),
    minimum=0.0,
    squares=True,
    scales=(10, 100),
)
def powell_singular(x: Vector, data: Any) -> Residuals:
    """Powell's singular function, in fours of variables."""
    a, b, c, d = x.reshape(-1, 4).T
    return jnp.concatenate([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2])


@formula(
    "penalty_1",
    _ordinals,
    (4, 10, 100),
    source=MGH.format(23),
    minimum={4: 2.24997750089994e-5, 10: 7.0876514670904e-5}.get,
    squares=True,
    scales=(10,),
)
def penalty_1(x: Vector, data: Any) -> Residuals:
    """The first penalty function."""
    return jnp.append(1e-5**0.5 * (x - 1), x @ x - 0.25)


@formula(
    "penalty_2",
    repeated(0.5),
    (4, 10, 50),
    source=MGH.format(24),
    minimum={4: 9.37629300735544e-6, 10: 2.93660537456746e-4}.get,
    squares=True,
    scales=(10,),
)
def penalty_2(x: Vector, data: Any) -> Residuals:
    """The second penalty function."""
    i = ordinals(x) / 10
    y = jnp.exp(i[1:]) + jnp.exp(i[:-1])
    e = jnp.exp(x / 10)
    weights = jnp.flip(ordinals(x))
    return jnp.concatenate(
        [
            jnp.stack([x[0] - 0.2, weights @ x**2 - 1]),
            1e-5**0.5 * (e[1:] + e[:-1] - y),
            1e-5**0.5 * (e[1:] - jnp.exp(jnp.asarray(-0.1, x.dtype))),
        ]
    )


@formula(
    "variably_dimensioned",
    lambda n: 1 - _ordinals(n) / n,
    (10, 100),
    source=MGH.format(25),
    minimum=0.0,
    squares=True,
)
def variably_dimensioned(x: Vector, data: Any) -> Residuals:
    """The variably dimensioned function."""
    s = ordinals(x) @ (x - 1)
    return jnp.concatenate([x - 1, jnp.stack([s, s**2])])


@formula(
    "trigonometric",
    lambda n: np.full(n, 1 / n),
    (10, 100, 1_000),
    source=MGH.format(26),
    minimum=0.0,
    squares=True,
    scales=(10,),
)
def trigonometric(x: Vector, data: Any) -> Residuals:
    """Spedicato's trigonometric function."""
    return len(x) - jnp.sum(jnp.cos(x)) + ordinals(x) * (1 - jnp.cos(x)) - jnp.sin(x)


@formula(
    "brown_almost_linear",
    repeated(0.5),
    (10, 40),
    source=MGH.format(27),
    minimum=0.0,
    squares=True,
    near=1,
)
def brown_almost_linear(x: Vector, data: Any) -> Residuals:
    """Brown's almost linear function."""
    return jnp.append((x + jnp.sum(x) - (len(x) + 1))[:-1], jnp.prod(x) - 1)


@formula(
    "discrete_boundary_value",
    lambda n: _grid(n) * (_grid(n) - 1),
    (10, 100),
    source=MGH.format(28),
    minimum=0.0,
    squares=True,
    scales=(10, 100),
)
def discrete_boundary_value(x: Vector, data: Any) -> Residuals:
    """A boundary value problem in finite differences."""
    h = 1 / (len(x) + 1)
    padded = jnp.pad(x, 1)
    return 2 * x - padded[:-2] - padded[2:] + h**2 / 2 * (x + h * ordinals(x) + 1) ** 3


@formula(
    "discrete_integral_equation",
    lambda n: _grid(n) * (_grid(n) - 1),
    (10, 100, 1_000),
    source=MGH.format(29),
    minimum=0.0,
    squares=True,
    scales=(10,),
)
def discrete_integral_equation(x: Vector, data: Any) -> Residuals:
    """An integral equation by quadrature."""
    h = 1 / (len(x) + 1)
    t = h * ordinals(x)
    cubes = (x + t + 1) ** 3
    below = jnp.cumsum(t * cubes)
    above = (1 - t) * cubes
    above = jnp.sum(above) - jnp.cumsum(above)
    return x + h / 2 * ((1 - t) * below + t * above)


@formula(
    "broyden_tridiagonal",
    repeated(-1.0),
    (10, 1_000, 10_000),
    source=MGH.format(30),
    minimum=0.0,
    squares=True,
    scales=(10,),
    near=1,
)
def broyden_tridiagonal(x: Vector, data: Any) -> Residuals:
    """Broyden's tridiagonal function."""
    padded = jnp.pad(x, 1)
    return (3 - 2 * x) * x - padded[:-2] - 2 * padded[2:] + 1


@formula(
    "broyden_banded",
    repeated(-1.0),
    (10, 100, 5_000),
    source=MGH.format(31),
    minimum=0.0,
    squares=True,
    scales=(10,),
)
def broyden_banded(x: Vector, data: Any) -> Residuals:
    """Broyden's banded function: five neighbours before, one after."""
    n = len(x)
    padded = jnp.pad(x * (1 + x), (5, 1))
    band = sum(padded[i : i + n] for i in (0, 1, 2, 3, 4, 6))
    return x * (2 + 5 * x**2) + 1 - band


@formula(
    "linear_full_rank",
    repeated(1.0),
    (10, 100),
    source=MGH.format(32),
    minimum=lambda n: float(n),
    squares=True,
)
def linear_full_rank(x: Vector, data: Any) -> Residuals:
    """Linear residuals of full rank, twice as many as variables."""
    rest = -jnp.sum(x) / len(x) - 1
    return jnp.concatenate([x + rest, jnp.full_like(x, rest)])


@formula(
    "linear_rank_one",
    repeated(1.0),
    (10,),
    source=MGH.format(33),
    minimum=lambda n: n * (2 * n - 1) / (4 * n + 1),
    squares=True,
)
def linear_rank_one(x: Vector, data: Any) -> Residuals:
    """Linear residuals of rank one, twice as many as variables."""
    return jnp.arange(1, 2 * len(x) + 1, dtype=x.dtype) * (ordinals(x) @ x) - 1


@formula(
    "chebyquad",
    _grid,
    (8, 9, 10),
    source=MGH.format(35),
    minimum={8: 3.51687372567793e-3, 9: 0.0, 10: 6.5039548008823e-3}.get,
    squares=True,
    near=1,
)
def chebyquad(x: Vector, data: Any) -> Residuals:
    """Fletcher's Chebyshev quadrature."""
    y = 2 * x - 1
    before, now, means = jnp.ones_like(y), y, []
    for i in range(1, len(x) + 1):
        means.append(jnp.mean(now) + (1 / (i**2 - 1) if i % 2 == 0 else 0.0))
        before, now = now, 2 * y * now - before
    return jnp.stack(means)
