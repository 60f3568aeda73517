"""Energies of fields on small lattices, and of atoms."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jax_lbfgs_pi.suite.families.base import Draw, Family, log_uniform, offset, spread_scales


def _double_wells(n: int) -> Family:
    """A chain of sites with two wells each, in a random field."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 5)
        data = {
            "wells": log_uniform(keys[0], 0.3, 3.0, (n,)),
            "coupling": log_uniform(keys[1], 0.03, 100.0),
            "field": offset(keys[2], n, 0.01, 1.0),
            "tilt": jax.random.normal(keys[3], ()),
        }
        return offset(keys[4], n, 0.1, 3.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        wells = 0.25 * data["wells"] * (x * x - 1.0) ** 2 - data["field"] * x
        steps = x[1:] - x[:-1] - 0.1 * data["tilt"]
        return jnp.sum(wells) + 0.5 * data["coupling"] * steps @ steps

    return Family(f"double-wells-{n}", sample, loss)


def _ginzburg_landau(side: int) -> Family:
    """A complex field on a square in a magnetic field, whose phase the links carry."""
    n = 2 * side * side

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 3)
        flux = jax.random.uniform(keys[0], maxval=1.5)
        angles = flux * jnp.arange(side)  # of the links along a row: Landau's gauge
        data = {
            "cosines": jnp.cos(angles),
            "sines": jnp.sin(angles),
            "stiffness": log_uniform(keys[1], 0.03, 10.0),
        }
        return offset(keys[2], n, 0.03, 2.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        re, im = x.reshape(2, side, side)
        c, s = data["cosines"][:, None], data["sines"][:, None]
        along = (re[:, 1:] - c * re[:, :-1] + s * im[:, :-1]) ** 2
        along = along + (im[:, 1:] - s * re[:, :-1] - c * im[:, :-1]) ** 2
        across = (re[1:] - re[:-1]) ** 2 + (im[1:] - im[:-1]) ** 2
        wells = 0.5 * (re * re + im * im - 1.0) ** 2
        return jnp.sum(wells) + data["stiffness"] * (jnp.sum(along) + jnp.sum(across))

    return Family(f"ginzburg-landau-{side}", sample, loss)


def _sine_gordon(side: int) -> Family:
    """Pendulums on a square, with springs that do not want to be straight."""
    n = side * side

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 5)
        strain = log_uniform(keys[0], 0.01, 2.0)
        data = {
            "coupling": log_uniform(keys[1], 0.03, 30.0),
            "weights": log_uniform(keys[2], 0.3, 3.0, (side, side)),
            "strain": strain * jax.random.normal(keys[3], (side, side)),
        }
        return offset(keys[4], n, 0.1, 4.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        u = x.reshape(side, side)
        along = u[:, 1:] - u[:, :-1] - data["strain"][:, 1:]
        across = u[1:] - u[:-1] - data["strain"][1:]
        springs = jnp.sum(along * along) + jnp.sum(across * across)
        pendulums = jnp.sum(data["weights"] * (1.0 - jnp.cos(u)))
        return 0.5 * data["coupling"] * springs + pendulums

    return Family(f"sine-gordon-{side}", sample, loss)


def _poisson_boltzmann(n: int) -> Family:
    """-(D u')' + κ sinh(u) = q as the energy of which it is the minimum, in an uneven medium."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 4)
        data = {
            "medium": spread_scales(keys[0], n + 1, 1.5),
            "ions": log_uniform(keys[1], 0.1, 100.0),
            "charges": offset(keys[2], n, 1.0, 100.0),
        }
        return offset(keys[3], n, 0.03, 3.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        slopes = jnp.diff(jnp.pad(x, 1)) * (n + 1)
        local = data["ions"] * (jnp.cosh(x) - 1.0) - data["charges"] * x
        return (0.5 * jnp.sum(data["medium"] * slopes**2) + jnp.sum(local)) / (n + 1)

    return Family(f"poisson-boltzmann-{n}", sample, loss)


def _morse(atoms: int) -> Family:
    """Atoms in space, each pair in Morse's potential; the stiffer, the shorter its reach."""
    n = 3 * atoms

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 5)
        data = {
            "stiffness": log_uniform(keys[0], 1.5, 6.0),
            "bond": log_uniform(keys[1], 0.5, 2.0),
            "depths": log_uniform(keys[2], 0.5, 2.0, (atoms, atoms)),
        }
        # A cube's corners, shaken: no two atoms start in one place, and none is out of reach.
        corners = jnp.array([[0, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]], float)
        shaken = corners[:atoms] + jax.random.uniform(keys[3], (atoms, 3), minval=-0.3, maxval=0.3)
        x0 = data["bond"] * log_uniform(keys[4], 0.6, 1.3) * shaken.reshape(n)
        return x0, data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        points = x.reshape(atoms, 3)
        steps = points[:, None, :] - points[None, :, :]
        same = jnp.eye(atoms, dtype=x.dtype)
        # One for an atom and itself, as the root has no slope at zero; a speck for two that meet.
        r = jnp.sqrt(jnp.sum(steps * steps, axis=2) + 1e-9 + same)
        rise = jnp.exp(-data["stiffness"] * (r / data["bond"] - 1.0))
        return 0.5 * jnp.sum((1.0 - same) * data["depths"] * (rise * rise - 2.0 * rise))

    return Family(f"morse-{atoms}", sample, loss)


LATTICES = [
    _double_wells(20),
    _ginzburg_landau(4),
    _sine_gordon(6),
    _poisson_boltzmann(24),
    _poisson_boltzmann(120),
    _morse(4),
    _morse(5),
]
