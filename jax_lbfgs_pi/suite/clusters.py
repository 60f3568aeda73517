"""Clusters of particles in space: energies of all pairs."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_lbfgs_pi.suite.problem import Scalar, Vector, formula

WALES_DOYE = "Wales & Doye 1997, J. Physical Chemistry A 101: Lennard-Jones clusters"
DOYE_WALES = "Doye & Wales 1997, J. Chemical Society, Faraday Transactions 93: Morse, ρ = 6"
WALES_ULKER = "Wales & Ulker 2006, Physical Review B 74: Thomson's problem"
MORE_WU = "Moré & Wu 1997, SIAM J. Optimization 7: distance geometry, all distances known"


def spread_out(n: int, seed: int = 0) -> np.ndarray:
    """Points drawn in a ball, none within 0.9 of another; their coordinates in turn."""
    rng = np.random.default_rng((seed, n))
    radius, points = 0.8 * (n / 3) ** (1 / 3) + 0.4, np.empty((0, 3))
    while len(points) < n // 3:
        point = rng.uniform(-radius, radius, size=3)
        free = np.all(np.linalg.norm(points - point, axis=1) > 0.9)
        if free and np.linalg.norm(point) < radius:
            points = np.vstack([points, point])
    return points.ravel()


def _squared_distances(points: Float[Array, "N 3"]) -> Float[Array, " pairs"]:
    first, second = np.triu_indices(len(points), 1)
    return jnp.sum((points[first] - points[second]) ** 2, axis=1)


@formula(
    "lennard_jones",
    spread_out,
    (15, 39, 60, 114),
    source=WALES_DOYE,
    minimum={
        15: -9.103852415707,
        39: -44.32680141953,
        60: -77.17704256796,
        114: -173.9284265906,
    }.get,
    near=2,
)
def lennard_jones(x: Vector, data: Any) -> Scalar:
    """Lennard-Jones's pair energy."""
    attraction = _squared_distances(x.reshape(-1, 3)) ** -3
    return 4 * jnp.sum(attraction**2 - attraction)


@formula(
    "morse",
    spread_out,
    (15, 39),
    source=DOYE_WALES,
    minimum={15: -9.044930495974, 39: -42.43986269058}.get,
    near=1,
)
def morse(x: Vector, data: Any) -> Scalar:
    """Morse's pair energy with ρ = 6."""
    bond = jnp.exp(6 * (1 - jnp.sqrt(_squared_distances(x.reshape(-1, 3)))))
    return jnp.sum(bond * (bond - 2))


@formula(
    "thomson",
    spread_out,
    (36, 96),
    source=WALES_ULKER,
    minimum={36: 49.1652530576, 96: 412.2612746505}.get,
)
def thomson(x: Vector, data: Any) -> Scalar:
    """Electrons on a sphere: the points' directions count."""
    points = x.reshape(-1, 3)
    directions = points / jnp.linalg.norm(points, axis=1, keepdims=True)
    return jnp.sum(_squared_distances(directions) ** -0.5)


def _distances(n: int) -> dict[str, np.ndarray]:
    points = spread_out(n, seed=1).reshape(-1, 3)
    first, second = np.triu_indices(n // 3, 1)
    return {"squares": np.sum((points[first] - points[second]) ** 2, axis=1)}


@formula("distance_geometry", spread_out, (30, 150), source=MORE_WU, minimum=0.0, data=_distances)
def distance_geometry(x: Vector, data: Any) -> Scalar:
    """Points that have given distances."""
    return jnp.sum((_squared_distances(x.reshape(-1, 3)) - data["squares"]) ** 2)
