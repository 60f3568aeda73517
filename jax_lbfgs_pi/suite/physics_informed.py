"""Physics-informed networks: differential equations by the squares of their residuals."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_lbfgs_pi.suite.instances import Parts, add_instances
from jax_lbfgs_pi.trees import Params

_NUM_INSIDE, _NUM_EDGE = 250, 60


def network(params: Params, points: Float[Array, "num 2"]) -> Float[Array, " num"]:
    """A tanh network from the plane to the line."""
    x = points
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["W"] + layer["b"][None, :])
    return (x @ params[-1]["W"] + params[-1]["b"][None, :])[:, 0]


def slopes(
    u: Callable[[Array], Array], points: Float[Array, "num 2"], axis: int
) -> tuple[Float[Array, " num"], Float[Array, " num"]]:
    """First and second derivative of u along an axis, by forward mode."""
    along = jnp.zeros_like(points).at[:, axis].set(1.0)

    def first(p: Array) -> Array:
        return jax.jvp(u, (p,), (along,))[1]

    return jax.jvp(first, (points,), (along,))


def _total(residuals: Array, weight: float, *edges: Array) -> Array:
    return jnp.mean(residuals**2) + weight * sum(jnp.mean(edge**2) for edge in edges)


def poisson_loss(params: Params, data: dict[str, Any]) -> Float[Array, ""]:
    """-Δu = q on the unit square, u = 0 on its edge."""
    u = functools.partial(network, params)
    bend = slopes(u, data["inside"], 0)[1] + slopes(u, data["inside"], 1)[1]
    return _total(bend + data["source"], 10.0, u(data["edge"]))


def burgers_loss(params: Params, data: dict[str, Any]) -> Float[Array, ""]:
    """∂u/∂t + u ∂u/∂x = ν ∂²u/∂x² for x in [-1, 1], with u given at t = 0 and at both ends."""
    u = functools.partial(network, params)
    u_t = slopes(u, data["inside"], 0)[0]
    u_x, u_xx = slopes(u, data["inside"], 1)
    r = u_t + u(data["inside"]) * u_x - data["viscosity"] * u_xx
    return _total(r, 1.0, u(data["start"]) - data["u_start"], u(data["edge"]))


def wave_loss(params: Params, data: dict[str, Any]) -> Float[Array, ""]:
    """∂²u/∂t² = c² ∂²u/∂x² for x in [0, 1], with u given at t = 0, at rest, and at both ends."""
    u = functools.partial(network, params)
    u_tt, u_xx = slopes(u, data["inside"], 0)[1], slopes(u, data["inside"], 1)[1]
    speed = slopes(u, data["start"], 0)[0]
    start = u(data["start"]) - data["u_start"]
    return _total(u_tt - data["c"] ** 2 * u_xx, 10.0, start, speed, u(data["edge"]))


def _layers(rng: np.random.Generator, *widths: int) -> Params:
    return [
        {
            "W": np.sqrt(2.0 / (first + second)) * rng.normal(size=(first, second)),
            "b": 0.1 * rng.normal(size=second),
        }
        for first, second in itertools.pairwise(widths)
    ]


def _times_and_ends(rng: np.random.Generator, left: float) -> dict[str, np.ndarray]:
    """Points (t, x) inside, at t = 0, and at both ends of [left, 1]."""
    inside = np.stack(
        [rng.uniform(size=_NUM_INSIDE), rng.uniform(left, 1.0, size=_NUM_INSIDE)], axis=1
    )
    start = np.stack([np.zeros(_NUM_EDGE), np.linspace(left, 1.0, _NUM_EDGE)], axis=1)
    ends = np.where(np.arange(_NUM_EDGE) % 2 == 0, left, 1.0)
    edge = np.stack([np.linspace(0.0, 1.0, _NUM_EDGE), ends], axis=1)
    return {"inside": inside, "start": start, "edge": edge}


def _poisson(index: int) -> Parts:
    rng = np.random.default_rng((41, index))
    inside = rng.uniform(size=(_NUM_INSIDE, 2))
    edge = rng.uniform(size=(_NUM_EDGE, 2))
    edge[np.arange(_NUM_EDGE), np.arange(_NUM_EDGE) % 2] = np.arange(_NUM_EDGE) // 2 % 2
    modes = rng.normal(size=(2, 2))
    waves = [np.sin(np.pi * np.outer(inside[:, i], [1, 2])) for i in range(2)]
    factor = np.pi**2 * np.add.outer([1, 4], [1, 4])  # eigenvalues of -Δ
    source = np.einsum("ij,ni,nj->n", factor * modes / 4, *waves)
    return poisson_loss, _layers(rng, 2, 20, 20, 1), {
        "inside": inside, "edge": edge, "source": source,
    }  # fmt: skip


def _burgers(index: int) -> Parts:
    rng = np.random.default_rng((42, index))
    data: dict[str, Any] = _times_and_ends(rng, -1.0)
    data["u_start"] = -np.sin(np.pi * data["start"][:, 1])
    data["viscosity"] = np.array([0.05, 0.02, 0.01, 0.01 / np.pi][index % 4])
    return burgers_loss, _layers(rng, 2, 20, 20, 20, 1), data


def _wave(index: int) -> Parts:
    rng = np.random.default_rng((43, index))
    data: dict[str, Any] = _times_and_ends(rng, 0.0)
    x = data["start"][:, 1]
    data["u_start"] = np.sin(np.pi * x) + rng.normal() * 0.5 * np.sin(2 * np.pi * x)
    data["c"] = np.array(rng.uniform(0.5, 2.0))
    return wave_loss, _layers(rng, 2, 20, 20, 1), data


add_instances("pinn-poisson", 4, _poisson, "manufactured: waves that are zero on the edge")
add_instances("pinn-burgers", 4, _burgers, "Raissi, Perdikaris & Karniadakis (2019)")
add_instances("pinn-wave", 4, _wave, "a string that is plucked")
