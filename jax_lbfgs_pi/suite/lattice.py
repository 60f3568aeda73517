"""Energies of functions on grids: variational problems of MINPACK-2, and others of that kind."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_lbfgs_pi.suite.problem import Residuals, Scalar, Vector, formula, repeated

MINPACK2 = "Averick, Carter, Moré & Xue 1992, MINPACK-2, {}"
Grid = Float[Array, "a b"]


def _square(x: Vector) -> Grid:
    side = math.isqrt(len(x))
    return x.reshape(side, side)


def _steps(padded: Grid) -> tuple[Grid, Grid]:
    """Differences between neighbours, along the first and the second axis."""
    return jnp.diff(padded, axis=0), jnp.diff(padded, axis=1)


def _dirichlet(padded: Grid) -> Scalar:
    """∫ ½|∇v|²: the step lengths cancel on a square grid."""
    down, across = _steps(padded)
    return (jnp.sum(down**2) + jnp.sum(across**2)) / 2


def _inside(n: int) -> np.ndarray:
    """Coordinates of the inner points along a side of the unit square."""
    side = math.isqrt(n)
    return np.arange(1, side + 1) / (side + 1)


def _distance(n: int) -> np.ndarray:
    to_end = np.minimum(_inside(n), 1 - _inside(n))
    return np.minimum(to_end[:, None], to_end[None, :]).ravel()


@formula("torsion", _distance, (100, 2_500), source=MINPACK2.format("EPT without the bounds"))
def torsion(x: Vector, data: Any) -> Scalar:
    """Elastic torsion of a square bar, with c = 5."""
    v = _square(x)
    return _dirichlet(jnp.pad(v, 1)) - 5 * jnp.sum(v) / (len(v) + 1) ** 2


def _bearing_start(n: int) -> np.ndarray:
    return np.repeat(np.maximum(np.sin(2 * np.pi * _inside(n)), 0), math.isqrt(n))


def _bearing(n: int) -> dict[str, np.ndarray]:
    side = math.isqrt(n)
    at, between = _inside(n), (np.arange(side + 1) + 0.5) / (side + 1)
    return {
        "load": 0.1 * np.sin(2 * np.pi * at),
        "gap": (1 + 0.1 * np.cos(2 * np.pi * at)) ** 3,
        "gap_between": (1 + 0.1 * np.cos(2 * np.pi * between)) ** 3,
    }


@formula(
    "journal_bearing",
    _bearing_start,
    (100, 2_500),
    source=MINPACK2.format("PJB without the bounds, in five-point differences"),
    data=_bearing,
)
def journal_bearing(x: Vector, data: Any) -> Scalar:
    """Pressure in a journal bearing, with ε = 0.1 and b = 10."""
    v = _square(x)
    hx, hy = 2 * jnp.pi / (len(v) + 1), 20 / (len(v) + 1)
    padded = jnp.pad(v, 1)
    down, across = jnp.diff(padded[:, 1:-1], axis=0), jnp.diff(padded[1:-1], axis=1)
    along = hy / hx * jnp.sum(data["gap_between"] * jnp.sum(down**2, axis=1))
    beside = hx / hy * jnp.sum(data["gap"] * jnp.sum(across**2, axis=1))
    return (along + beside) / 2 - hx * hy * jnp.sum(data["load"] * jnp.sum(v, axis=1))


def enneper(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Height of Enneper's surface over points of the plane, by Newton's method."""
    u, v = first.copy(), -second
    for _ in range(10):
        f = u + u * v**2 - u**3 / 3 - first
        g = -v - u**2 * v + v**3 / 3 - second
        fu, fv, gu, gv = 1 + v**2 - u**2, 2 * u * v, -2 * u * v, -1 - u**2 + v**2
        det = fu * gv - fv * gu
        u, v = u - (f * gv - g * fv) / det, v - (g * fu - f * gu) / det
    return u**2 - v**2


def _frame(n: int) -> dict[str, np.ndarray]:
    side = math.isqrt(n)
    at = np.linspace(-0.5, 0.5, side + 2)
    heights = enneper(*np.meshgrid(at, at, indexing="ij"))
    heights[1:-1, 1:-1] = 0
    return {"frame": heights}


def _lofted(n: int) -> np.ndarray:
    frame, s = _frame(n)["frame"], _inside(n)
    between_ends = (1 - s)[:, None] * frame[:1, 1:-1] + s[:, None] * frame[-1:, 1:-1]
    between_sides = (1 - s)[None, :] * frame[1:-1, :1] + s[None, :] * frame[1:-1, -1:]
    return (between_ends + between_sides).ravel() / 2


@formula(
    "minimal_surface",
    _lofted,
    (100, 2_500),
    source=MINPACK2.format("MSA"),
    data=_frame,
    near=1,
)
def minimal_surface(x: Vector, data: Any) -> Scalar:
    """The area of a surface on Enneper's frame, of two triangles in each cell."""
    v = jnp.pad(_square(x), 1) + data["frame"]
    cells = len(v) - 1
    down, across = _steps(v)
    lower = jnp.sqrt(1 + cells**2 * (down[:, :-1] ** 2 + across[:-1] ** 2))
    upper = jnp.sqrt(1 + cells**2 * (down[:, 1:] ** 2 + across[1:] ** 2))
    return jnp.sum(lower + upper) / (2 * cells**2)


@formula(
    "combustion",
    lambda n: 6 / 7 * np.sqrt(_distance(n)),
    (100, 900),
    source=MINPACK2.format("SFI, as a sum of squares"),
    minimum=0.0,
    squares=True,
)
def combustion(x: Vector, data: Any) -> Residuals:
    """Bratu's equation of combustion in the steady state, with λ = 6."""
    v = _square(x)
    p = jnp.pad(v, 1)
    laplacian = p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:] - 4 * v
    return (laplacian + 6 * jnp.exp(v) / (len(v) + 1) ** 2).ravel()


def _charges(n: int) -> dict[str, np.ndarray]:
    charges = np.zeros(n)
    rng = np.random.default_rng((1, n))
    places = rng.choice(n, size=10, replace=False)
    charges[places] = rng.choice([-10.0, 10.0], size=10)
    return {"charges": charges}


@formula(
    "poisson_boltzmann",
    np.zeros,
    (100, 10_000),
    source="Holst & Saied 1995, J. Computational Chemistry 16: Poisson-Boltzmann equation",
    data=_charges,
)
def poisson_boltzmann(x: Vector, data: Any) -> Scalar:
    """The potential of point charges in an electrolyte."""
    v = _square(x)
    screening = 100 * jnp.sum(jnp.cosh(x)) / (len(v) + 1) ** 2
    return _dirichlet(jnp.pad(v, 1)) + screening - data["charges"] @ x


@formula(
    "allen_cahn",
    lambda n: np.random.default_rng((2, n)).uniform(-1, 1, size=n),
    (100, 2_500),
    source="Allen & Cahn 1979, Acta Metallurgica 27: double well with gradient",
    minimum=0.0,
)
def allen_cahn(x: Vector, data: Any) -> Scalar:
    """Two phases on a torus, with walls three grid steps wide."""
    v = _square(x)
    walls = sum(jnp.sum((v - jnp.roll(v, 1, axis)) ** 2) for axis in (0, 1))
    return walls / 2 + jnp.sum((v**2 - 1) ** 2) / (4 * 3**2)


@formula(
    "p_laplacian",
    _distance,
    (100, 2_500),
    source="Ciarlet 1978, The Finite Element Method for Elliptic Problems, sec. 5.3",
)
def p_laplacian(x: Vector, data: Any) -> Scalar:
    """The p-Laplacian with p = 4 and a constant load."""
    v = jnp.pad(_square(x), 1)
    cells = len(v) - 1
    down, across = _steps(v)
    lower = (down[:, :-1] ** 2 + across[:-1] ** 2) ** 2
    upper = (down[:, 1:] ** 2 + across[1:] ** 2) ** 2
    return cells**2 * jnp.sum(lower + upper) / 8 - jnp.sum(v) / cells**2


@formula(
    "frenkel_kontorova",
    lambda n: 0.4 * np.arange(1, n + 1),
    (50, 1_000),
    source="Frenkel & Kontorova 1938, with a spring of rest length 0.4",
    near=1,
)
def frenkel_kontorova(x: Vector, data: Any) -> Scalar:
    """A chain of springs on a wavy ground."""
    ground = jnp.sum(1 - jnp.cos(2 * jnp.pi * x)) / (2 * jnp.pi) ** 2
    return jnp.sum((jnp.diff(x) - 0.4) ** 2) / 2 + ground


def _image(n: int) -> dict[str, np.ndarray]:
    s = _inside(n)
    blocks = (np.abs(s[:, None] - 0.4) < 0.2) * 1.0 + (s[None, :] > 0.6) * 0.5
    return {"image": (blocks + np.random.default_rng((3, n)).normal(0, 0.1, blocks.shape)).ravel()}


@formula(
    "total_variation",
    repeated(0.0),
    (100, 2_500),
    source="Vogel & Oman 1996, SIAM J. Scientific Computing 17: smoothed total variation",
    data=_image,
)
def total_variation(x: Vector, data: Any) -> Scalar:
    """An image without its noise."""
    down, across = _steps(_square(x))
    steepness = jnp.sqrt(down[:, :-1] ** 2 + across[:-1] ** 2 + 1e-4)
    return jnp.sum((x - data["image"]) ** 2) / 2 + 0.1 * jnp.sum(steepness)
