"""Functions from Andrei's collection, of any number of variables."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_lbfgs_pi.suite.problem import Scalar, Vector, formula, ordinals, repeated

ANDREI = "Andrei 2008, Advanced Modeling and Optimization 10, {}"


def _i(n: int) -> np.ndarray:
    return np.arange(1, n + 1, dtype=np.float64)


@formula(
    "white_holst",
    repeated(-1.2, 1.0),
    (10, 1_000),
    source=ANDREI.format("extended White & Holst"),
    minimum=0.0,
    near=1,
)
def white_holst(x: Vector, data: Any) -> Scalar:
    """A valley along a cubic, in pairs of variables."""
    a, b = x[::2], x[1::2]
    return jnp.sum(100 * (b - a**3) ** 2 + (1 - a) ** 2)


@formula(
    "himmelblau",
    repeated(1.0),
    (2, 100),
    source=ANDREI.format("extended Himmelblau"),
    minimum=0.0,
    scales=(10,),
    near=1,
)
def himmelblau(x: Vector, data: Any) -> Scalar:
    """Himmelblau's function, in pairs of variables."""
    a, b = x[::2], x[1::2]
    return jnp.sum((a**2 + b - 11) ** 2 + (a + b**2 - 7) ** 2)


@formula(
    "raydan_1",
    repeated(1.0),
    (100, 1_000),
    source=ANDREI.format("Raydan 1"),
    minimum=lambda n: n * (n + 1) / 20,
)
def raydan_1(x: Vector, data: Any) -> Scalar:
    """Raydan's first strictly convex function."""
    return jnp.sum(ordinals(x) / 10 * (jnp.exp(x) - x))


@formula("raydan_2", repeated(1.0), (1_000,), source=ANDREI.format("Raydan 2"), minimum=float)
def raydan_2(x: Vector, data: Any) -> Scalar:
    """Raydan's second strictly convex function."""
    return jnp.sum(jnp.exp(x) - x)


@formula(
    "diagonal_1",
    lambda n: np.full(n, 1 / n),
    (100,),
    source=ANDREI.format("diagonal 1"),
    minimum=lambda n: float(np.sum(_i(n) * (1 - np.log(_i(n))))),
)
def diagonal_1(x: Vector, data: Any) -> Scalar:
    """Exponentials minus lines that get steeper."""
    return jnp.sum(jnp.exp(x) - ordinals(x) * x)


@formula(
    "diagonal_2",
    lambda n: 1 / _i(n),
    (100, 1_000),
    source=ANDREI.format("diagonal 2"),
    minimum=lambda n: float(np.sum((1 + np.log(_i(n))) / _i(n))),
)
def diagonal_2(x: Vector, data: Any) -> Scalar:
    """Exponentials minus lines that get flatter."""
    return jnp.sum(jnp.exp(x) - x / ordinals(x))


@formula("diagonal_3", repeated(1.0), (100,), source=ANDREI.format("diagonal 3"))
def diagonal_3(x: Vector, data: Any) -> Scalar:
    """Exponentials minus sines that get higher."""
    return jnp.sum(jnp.exp(x) - ordinals(x) * jnp.sin(x))


@formula(
    "diagonal_5",
    repeated(1.1),
    (1_000,),
    source=ANDREI.format("diagonal 5"),
    minimum=lambda n: n * float(np.log(2)),
    scales=(10,),
)
def diagonal_5(x: Vector, data: Any) -> Scalar:
    """Logarithms of hyperbolic cosines."""
    return jnp.sum(jnp.logaddexp(x, -x))


@formula(
    "hager",
    repeated(1.0),
    (100,),
    source=ANDREI.format("Hager"),
    minimum=lambda n: float(np.sum(np.sqrt(_i(n)) * (1 - np.log(_i(n)) / 2))),
)
def hager(x: Vector, data: Any) -> Scalar:
    """Exponentials minus lines of root slopes."""
    return jnp.sum(jnp.exp(x) - jnp.sqrt(ordinals(x)) * x)


@formula(
    "generalized_tridiagonal_1",
    repeated(2.0),
    (10, 1_000),
    source=ANDREI.format("generalized tridiagonal 1"),
    near=1,
)
def generalized_tridiagonal_1(x: Vector, data: Any) -> Scalar:
    """Squares and fourth powers of neighbours' sums and differences."""
    a, b = x[:-1], x[1:]
    return jnp.sum((a + b - 3) ** 2 + (a - b + 1) ** 4)


@formula(
    "generalized_tridiagonal_2",
    repeated(-1.0),
    (10, 1_000),
    source=ANDREI.format("generalized tridiagonal 2"),
    minimum={10: 0.0}.get,
)
def generalized_tridiagonal_2(x: Vector, data: Any) -> Scalar:
    """Broyden's tridiagonal function with cubics."""
    padded = jnp.pad(x, 1)
    return jnp.sum(((5 - 3 * x - x**2) * x - padded[:-2] - 3 * padded[2:] + 1) ** 2)


@formula(
    "three_exponentials",
    repeated(0.1),
    (2, 100),
    source=ANDREI.format("extended three exponential terms"),
    minimum=lambda n: n * float(np.sqrt(2) * np.exp(-0.1)),
    scales=(10,),
)
def three_exponentials(x: Vector, data: Any) -> Scalar:
    """Three exponential terms, in pairs of variables."""
    a, b = x[::2], x[1::2]
    terms = jnp.exp(a + 3 * b - 0.1) + jnp.exp(a - 3 * b - 0.1) + jnp.exp(-a - 0.1)
    return jnp.sum(terms)


@formula(
    "block_diagonal_bd1",
    repeated(0.1),
    (100,),
    source=ANDREI.format("extended block diagonal BD1"),
    minimum=0.0,
)
def block_diagonal_bd1(x: Vector, data: Any) -> Scalar:
    """A circle that meets an exponential, in pairs of variables."""
    a, b = x[::2], x[1::2]
    return jnp.sum((a**2 + b**2 - 2) ** 2 + (jnp.exp(a - 1) - b) ** 2)


@formula("maratos", repeated(1.1, 0.1), (100,), source=ANDREI.format("extended Maratos"), near=1)
def maratos(x: Vector, data: Any) -> Scalar:
    """A penalized circle with a slope, in pairs of variables."""
    a, b = x[::2], x[1::2]
    return jnp.sum(a + 100 * (a**2 + b**2 - 1) ** 2)


@formula(
    "cliff",
    repeated(0.0, -1.0),
    (2, 100),
    source=ANDREI.format("extended Cliff"),
    minimum=lambda n: n / 2 * (1 + float(np.log(20))) / 20,
    near=1,
)
def cliff(x: Vector, data: Any) -> Scalar:
    """A cliff, in pairs of variables."""
    a, b = x[::2], x[1::2]
    return jnp.sum(((a - 3) / 100) ** 2 - (a - b) + jnp.exp(20 * (a - b)))


@formula(
    "quadratic_diagonal_perturbed",
    repeated(0.5),
    (100, 5_000),
    source=ANDREI.format("quadratic diagonal perturbed"),
    minimum=0.0,
)
def quadratic_diagonal_perturbed(x: Vector, data: Any) -> Scalar:
    """A squared sum and a small ill-conditioned diagonal."""
    return jnp.sum(x) ** 2 + jnp.sum(ordinals(x) / 100 * x**2)


@formula(
    "perturbed_quadratic",
    repeated(0.5),
    (50, 1_000),
    source=ANDREI.format("perturbed quadratic"),
    minimum=0.0,
)
def perturbed_quadratic(x: Vector, data: Any) -> Scalar:
    """An ill-conditioned diagonal and a small squared sum."""
    return jnp.sum(ordinals(x) * x**2) + jnp.sum(x) ** 2 / 100


@formula(
    "hiebert", repeated(0.0), (2, 10), source=ANDREI.format("extended Hiebert"), minimum=0.0, near=1
)
def hiebert(x: Vector, data: Any) -> Scalar:
    """A badly scaled product, in pairs of variables."""
    a, b = x[::2], x[1::2]
    return jnp.sum((a - 10) ** 2 + (a * b - 50_000) ** 2)


@formula("quadratic_penalty_qp1", repeated(1.0), (100,), source=ANDREI.format("QP1"))
def quadratic_penalty_qp1(x: Vector, data: Any) -> Scalar:
    """Quartics with a penalty on the norm."""
    return jnp.sum((x[:-1] ** 2 - 2) ** 2) + (x @ x - 0.5) ** 2


@formula("quadratic_penalty_qp2", repeated(1.0), (100,), source=ANDREI.format("QP2"), minimum=0.0)
def quadratic_penalty_qp2(x: Vector, data: Any) -> Scalar:
    """Squares against sines with a penalty on the norm."""
    return jnp.sum((x[:-1] ** 2 - jnp.sin(x[:-1])) ** 2) + (x @ x - 100) ** 2


@formula("psc1", repeated(3.0, 0.1), (10, 1_000), source=ANDREI.format("extended PSC1"))
def psc1(x: Vector, data: Any) -> Scalar:
    """A quartic with sine and cosine, in pairs of variables."""
    a, b = x[::2], x[1::2]
    return jnp.sum((a**2 + b**2 + a * b) ** 2 + jnp.sin(a) ** 2 + jnp.cos(b) ** 2)


@formula("staircase", repeated(1.0), (20, 1_000), source=ANDREI.format("staircase"), minimum=0.0)
def staircase(x: Vector, data: Any) -> Scalar:
    """Squares of all partial sums."""
    return jnp.sum(jnp.cumsum(x) ** 2)
