"""Chains of overlapping terms: Lukšan and Vlček's functions, and others of that shape."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_lbfgs_pi.suite.problem import Residuals, Scalar, Vector, formula, ordinals, repeated

LUKSAN = "Lukšan & Vlček 1999, report V-767, no. {}"
DIXON_PRICE = "Dixon & Price 1989, J. Optimization Theory and Applications 60"
NEUMAIER = "Neumaier 2003, Trid function"
NESTEROV = "Nesterov 2004, Introductory Lectures on Convex Optimization, sec. 2.1.2, L = 4"
CHEBYSHEV = "Gürbüzbalaban & Overton 2012, Nesterov's smooth Chebyshev-Rosenbrock function"


@formula(
    "chained_rosenbrock",
    repeated(-1.2, 1.0),
    (10, 100, 1_000),
    source=LUKSAN.format(1),
    minimum=0.0,
    squares=True,
    near=1,
)
def chained_rosenbrock(x: Vector, data: Any) -> Residuals:
    """Rosenbrock's valley in a chain."""
    a, b = x[:-1], x[1:]
    return jnp.concatenate([10 * (a**2 - b), a - 1])


def _fours(x: Vector) -> tuple[Vector, Vector, Vector, Vector]:
    """Four neighbours at a time, every second one the first."""
    return x[:-3:2], x[1:-2:2], x[2:-1:2], x[3::2]


def _wood_start(n: int) -> np.ndarray:
    return np.concatenate([[-3.0, -1.0, -3.0, -1.0], repeated(-2.0, 0.0)(n - 4)])


@formula(
    "chained_wood", _wood_start, (10, 1_000), source=LUKSAN.format(2), minimum=0.0, squares=True
)
def chained_wood(x: Vector, data: Any) -> Residuals:
    """Wood's function in a chain."""
    a, b, c, d = _fours(x)
    sides = [10 * (a**2 - b), a - 1, 90**0.5 * (c**2 - d), c - 1]
    return jnp.concatenate([*sides, 10**0.5 * (b + d - 2), 10**-0.5 * (b - d)])


@formula(
    "chained_powell_singular",
    repeated(3.0, -1.0, 0.0, 1.0),
    (40, 5_000),
    source=LUKSAN.format(3),
    minimum=0.0,
    squares=True,
)
def chained_powell_singular(x: Vector, data: Any) -> Residuals:
    """Powell's singular function in a chain."""
    a, b, c, d = _fours(x)
    lines = [a + 10 * b, 5**0.5 * (c - d)]
    return jnp.concatenate([*lines, (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2])


@formula(
    "cragg_levy",
    lambda n: np.where(np.arange(n) % 4 == 0, 1.0, 2.0),
    (4, 50, 1_000),
    source=LUKSAN.format(4),
    minimum={4: 0.0}.get,
    near=1,
)
def cragg_levy(x: Vector, data: Any) -> Scalar:
    """Cragg and Levy's function in a chain."""
    a, b, c, d = _fours(x)
    valleys = (jnp.exp(a) - b) ** 4 + 100 * (b - c) ** 6 + jnp.tan(c - d) ** 4
    return jnp.sum(valleys + a**8 + (d - 1) ** 2)


@formula(
    "broyden_tridiagonal_powers",
    repeated(-1.0),
    (10, 1_000),
    source=LUKSAN.format(5),
    minimum=0.0,
)
def broyden_tridiagonal_powers(x: Vector, data: Any) -> Scalar:
    """Broyden's tridiagonal function with the power 7/3."""
    padded = jnp.pad(x, 1)
    r = jnp.abs((3 - 2 * x) * x - padded[:-2] - padded[2:] + 1)
    safe = jnp.where(r > 0, r, 1)
    return jnp.sum(jnp.where(r > 0, safe ** (7 / 3), 0))


@formula(
    "augmented_lagrangian",
    repeated(-2.0, 2.0, 2.0, -1.0, -1.0),
    (5, 100, 1_000),
    source=LUKSAN.format("11, from Powell's start of 1969"),
    near=1,
)
def augmented_lagrangian(x: Vector, data: Any) -> Scalar:
    """An augmented Lagrangian of Powell's equality constrained exponential."""
    a, b, c, d, e = x.reshape(-1, 5).T
    sphere = a**2 + b**2 + c**2 + d**2 + e**2 - 10 + 0.002008
    products = b * c - 5 * d * e + 0.001900
    cubes = a**3 + b**3 + 1 + 0.000261
    return jnp.sum(jnp.exp(a * b * c * d * e) + 10 * (sphere**2 + products**2 + cubes**2))


@formula(
    "chained_brown",
    repeated(-1.0, 1.0),
    (100, 1_000),
    source=LUKSAN.format(14),
    minimum=0.0,
    near=1,
)
def chained_brown(x: Vector, data: Any) -> Scalar:
    """Brown's powers of squares in a chain."""
    square = x**2
    safe = jnp.where(square > 0, square, 1)
    a, b = safe[:-1], safe[1:]
    first = jnp.where(square[:-1] > 0, a ** (square[1:] + 1), 0)
    second = jnp.where(square[1:] > 0, b ** (square[:-1] + 1), 0)
    return jnp.sum(first + second)


@formula("dixon_price", repeated(1.0), (10, 100), source=DIXON_PRICE, minimum=0.0, near=1)
def dixon_price(x: Vector, data: Any) -> Scalar:
    """Dixon and Price's function."""
    chain = ordinals(x)[1:] * (2 * x[1:] ** 2 - x[:-1]) ** 2
    return (x[0] - 1) ** 2 + jnp.sum(chain)


@formula("trid", np.zeros, (10, 50), source=NEUMAIER, minimum=lambda n: -n * (n + 4) * (n - 1) / 6)
def trid(x: Vector, data: Any) -> Scalar:
    """Neumaier's tridiagonal quadratic."""
    return jnp.sum((x - 1) ** 2) - x[1:] @ x[:-1]


@formula(
    "nesterov_quadratic",
    np.zeros,
    (50, 1_000),
    source=NESTEROV,
    minimum=lambda n: (1 / (n + 1) - 1) / 2,
)
def nesterov_quadratic(x: Vector, data: Any) -> Scalar:
    """Nesterov's quadratic that is worst for first-order methods."""
    return (x[0] ** 2 + jnp.sum((x[1:] - x[:-1]) ** 2) + x[-1] ** 2) / 2 - x[0]


def _chebyshev_start(n: int) -> np.ndarray:
    return np.concatenate([[-1.0], np.ones(n - 1)])


@formula("chebyshev_rosenbrock", _chebyshev_start, (4, 8), source=CHEBYSHEV, minimum=0.0, near=1)
def chebyshev_rosenbrock(x: Vector, data: Any) -> Scalar:
    """Nesterov's smooth Chebyshev-Rosenbrock function: a valley that oscillates."""
    return (x[0] - 1) ** 2 / 4 + jnp.sum((x[1:] - 2 * x[:-1] ** 2 + 1) ** 2)
