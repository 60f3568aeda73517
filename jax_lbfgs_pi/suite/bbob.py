"""Smooth functions of the black-box benchmark BBOB, shifted and rotated by seeded draws.

The transformations that make the originals rugged or asymmetric (T_osz, T_asy) are left out, and
so is the offset of the value.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_lbfgs_pi.suite.problem import Scalar, Vector, formula

BBOB = "Hansen, Finck, Ros & Auger 2009, f{}"
_PEAKS = 101


def _start(n: int) -> np.ndarray:
    return np.random.default_rng((9, n)).uniform(-5, 5, size=n)


def _shift(n: int) -> dict[str, np.ndarray]:
    return {"best": np.random.default_rng((1, n)).uniform(-4, 4, size=n)}


def _basis(n: int, seed: int) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng((seed, n)).normal(size=(n, n)))
    return q * np.sign(np.diag(r))


def _rotation(seed: int) -> Callable[[int], dict[str, np.ndarray]]:
    return lambda n: {**_shift(n), "basis": _basis(n, seed)}


def _turned(x: Vector, data: Any) -> Vector:
    return data["basis"] @ (x - data["best"])


def _ramp(x: Vector) -> Vector:
    """From 0 to 1, over the variables."""
    return jnp.linspace(0, 1, len(x), dtype=x.dtype)


@formula("sphere", _start, (10, 1_000), source=BBOB.format(1), minimum=0.0, data=_shift)
def sphere(x: Vector, data: Any) -> Scalar:
    """The squared distance."""
    return jnp.sum((x - data["best"]) ** 2)


@formula("ellipsoid", _start, (10, 1_000), source=BBOB.format(2), minimum=0.0, data=_shift)
def ellipsoid(x: Vector, data: Any) -> Scalar:
    """An ellipsoid along the axes, of condition 1e6."""
    return jnp.sum(1e6 ** _ramp(x) * (x - data["best"]) ** 2)


@formula(
    "rotated_ellipsoid", _start, (10, 100), source=BBOB.format(10), minimum=0.0, data=_rotation(2)
)
def rotated_ellipsoid(x: Vector, data: Any) -> Scalar:
    """An ellipsoid across the axes, of condition 1e6."""
    return jnp.sum(1e6 ** _ramp(x) * _turned(x, data) ** 2)


@formula("discus", _start, (10, 100), source=BBOB.format(11), minimum=0.0, data=_rotation(3))
def discus(x: Vector, data: Any) -> Scalar:
    """One direction a million times as steep as the others."""
    z = _turned(x, data)
    return 1e6 * z[0] ** 2 + jnp.sum(z[1:] ** 2)


@formula("bent_cigar", _start, (10, 100), source=BBOB.format(12), minimum=0.0, data=_rotation(4))
def bent_cigar(x: Vector, data: Any) -> Scalar:
    """One direction a million times as flat as the others."""
    z = _turned(x, data)
    return z[0] ** 2 + 1e6 * jnp.sum(z[1:] ** 2)


@formula(
    "different_powers",
    _start,
    (10, 40),
    source=BBOB.format("14, without the root"),
    minimum=0.0,
    data=_rotation(5),
)
def different_powers(x: Vector, data: Any) -> Scalar:
    """Powers from 2 to 6."""
    magnitude = jnp.abs(_turned(x, data))
    safe = jnp.where(magnitude > 0, magnitude, 1)
    return jnp.sum(jnp.where(magnitude > 0, safe ** (2 + 4 * _ramp(x)), 0))


def _valley(x: Vector, data: Any) -> Vector:
    scale = max(1.0, len(x) ** 0.5 / 8)
    z = scale * data["basis"] @ x + 0.5
    return 100 * (z[:-1] ** 2 - z[1:]) ** 2 + (z[:-1] - 1) ** 2


@formula(
    "rotated_rosenbrock", _start, (10, 100), source=BBOB.format(9), minimum=0.0, data=_rotation(6)
)
def rotated_rosenbrock(x: Vector, data: Any) -> Scalar:
    """Rosenbrock's chained valley across the axes."""
    return jnp.sum(_valley(x, data))


@formula(
    "griewank_rosenbrock", _start, (10, 40), source=BBOB.format(19), minimum=0.0, data=_rotation(7)
)
def griewank_rosenbrock(x: Vector, data: Any) -> Scalar:
    """Rosenbrock's valley through Griewank's ripples."""
    s = _valley(x, data)
    return 10 * jnp.mean(s / 4000 - jnp.cos(s)) + 10


@formula("rastrigin", _start, (10,), source=BBOB.format(15), minimum=0.0, data=_rotation(8))
def rastrigin(x: Vector, data: Any) -> Scalar:
    """Rastrigin's ripples on a sphere, across the axes."""
    z = _turned(x, data)
    return 10 * jnp.sum(1 - jnp.cos(2 * jnp.pi * z)) + jnp.sum(z**2)


def _peaks(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng((10, n))
    centres = rng.uniform(-5, 5, size=(_PEAKS, n))
    conditions = 1000 ** (2 * rng.permutation(_PEAKS) / (_PEAKS - 1))
    exponents = np.stack([rng.permutation(n) / (n - 1) - 0.5 for _ in range(_PEAKS)])
    heights = np.append(10, 1.1 + 8 * np.arange(_PEAKS - 1) / (_PEAKS - 2))
    basis = _basis(n, 10)
    return {
        "basis": basis,
        "centres": centres @ basis.T,
        "widths": conditions[:, None] ** (exponents / 2),
        "heights": heights,
    }


@formula(
    "gallagher_peaks",
    _start,
    (5, 20),
    source=BBOB.format("21, minus the logarithm of the peaks' sum in place of their maximum"),
    data=_peaks,
    near=1,
)
def gallagher_peaks(x: Vector, data: Any) -> Scalar:
    """A hundred Gaussian peaks of differing shapes."""
    away = (data["basis"] @ x)[None, :] - data["centres"]
    exponents = -jnp.sum(data["widths"] * away**2, axis=1) / (2 * len(x))
    return -jax.nn.logsumexp(jnp.log(data["heights"]) + exponents)
