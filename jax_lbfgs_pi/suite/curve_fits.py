"""Curves fitted to tables of observations: Moré, Garbow & Hillstrom 1981."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_lbfgs_pi.suite.least_squares import MGH
from jax_lbfgs_pi.suite.problem import Residuals, Vector, formula


def _table(y: Any, **columns: Any) -> Callable[[int], dict[str, np.ndarray]]:
    return lambda n: {name: np.asarray(c, np.float64) for name, c in {"y": y, **columns}.items()}


# fmt: off
_BARD = (
    0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39,
)
_GAUSSIAN = (
    0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989,
    0.3521, 0.2420, 0.1295, 0.0540, 0.0175, 0.0044, 0.0009,
)
_MEYER = (
    34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744,
    8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872,
)
_KOWALIK_OSBORNE = (
    0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246,
)
_KOWALIK_OSBORNE_AT = (
    4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625,
)
_OSBORNE_1 = (
    0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751,
    0.718, 0.685, 0.658, 0.628, 0.603, 0.580, 0.558, 0.538, 0.522, 0.506, 0.490,
    0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411, 0.406,
)
_OSBORNE_2 = (
    1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608,
    0.655, 0.616, 0.606, 0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661,
    0.612, 0.558, 0.533, 0.495, 0.500, 0.423, 0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428,
    0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668, 0.645, 0.632, 0.591, 0.559,
    0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098, 0.054,
)
# fmt: on


@formula(
    "bard",
    (1.0, 1.0, 1.0),
    source=MGH.format(8),
    minimum=8.214877306578979e-3,
    data=_table(_BARD),
    squares=True,
    scales=(10,),
    near=1,
)
def bard(x: Vector, data: Any) -> Residuals:
    """Bard's function."""
    u = jnp.arange(1, 16, dtype=x.dtype)
    v = 16 - u
    return data["y"] - (x[0] + u / (v * x[1] + jnp.minimum(u, v) * x[2]))


@formula(
    "gaussian",
    (0.4, 1.0, 0.0),
    source=MGH.format(9),
    minimum=1.12793276961896e-8,
    data=_table(_GAUSSIAN, t=np.arange(7, -8, -1) / 2),
    squares=True,
    scales=(10,),
)
def gaussian(x: Vector, data: Any) -> Residuals:
    """A Gaussian bell."""
    return x[0] * jnp.exp(-x[1] * (data["t"] - x[2]) ** 2 / 2) - data["y"]


@formula(
    "meyer",
    (0.02, 4000.0, 250.0),
    source=MGH.format(10),
    minimum=87.9458551705869,
    data=_table(_MEYER, t=np.arange(50, 130, 5)),
    squares=True,
)
def meyer(x: Vector, data: Any) -> Residuals:
    """Meyer's thermistor."""
    return x[0] * jnp.exp(x[1] / (data["t"] + x[2])) - data["y"]


@formula(
    "gulf",
    (5.0, 2.5, 0.15),
    source=MGH.format(11),
    minimum=0.0,
    data=_table(25 + (-50 * np.log(np.arange(1, 100) / 100)) ** (2 / 3), t=np.arange(1, 100) / 100),
    squares=True,
)
def gulf(x: Vector, data: Any) -> Residuals:
    """Gulf Research and Development's function, with 99 residuals."""
    distance = jnp.abs(data["y"] - x[1])
    safe = jnp.where(distance > 0, distance, 1)
    power = jnp.where(distance > 0, safe ** x[2], 0)
    return jnp.exp(-power / x[0]) - data["t"]


@formula(
    "kowalik_osborne",
    (0.25, 0.39, 0.415, 0.39),
    source=MGH.format(15),
    minimum=3.07505603849238e-4,
    data=_table(_KOWALIK_OSBORNE, u=_KOWALIK_OSBORNE_AT),
    squares=True,
    scales=(10,),
    near=1,
)
def kowalik_osborne(x: Vector, data: Any) -> Residuals:
    """Kowalik and Osborne's enzyme reaction."""
    u = data["u"]
    return data["y"] - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


@formula(
    "osborne_1",
    (0.5, 1.5, -1.0, 0.01, 0.02),
    source=MGH.format(17),
    minimum=5.46489469748263e-5,
    data=_table(_OSBORNE_1, t=10 * np.arange(33)),
    squares=True,
)
def osborne_1(x: Vector, data: Any) -> Residuals:
    """Osborne's two exponentials."""
    t = data["t"]
    return data["y"] - (x[0] + x[1] * jnp.exp(-t * x[3]) + x[2] * jnp.exp(-t * x[4]))


def _biggs(n: int) -> dict[str, np.ndarray]:
    t = np.arange(1, 14) / 10
    return {"t": t, "y": np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)}


@formula(
    "biggs_exp6",
    (1.0, 2.0, 1.0, 1.0, 1.0, 1.0),
    source=MGH.format(18),
    minimum=0.0,
    data=_biggs,
    squares=True,
    near=1,
)
def biggs_exp6(x: Vector, data: Any) -> Residuals:
    """Biggs's three exponentials, with 13 residuals."""
    t = data["t"]
    fit = x[2] * jnp.exp(-t * x[0]) - x[3] * jnp.exp(-t * x[1]) + x[5] * jnp.exp(-t * x[4])
    return fit - data["y"]


@formula(
    "osborne_2",
    (1.3, 0.65, 0.65, 0.7, 0.6, 3.0, 5.0, 7.0, 2.0, 4.5, 5.5),
    source=MGH.format(19),
    minimum=4.01377362935478e-2,
    data=_table(_OSBORNE_2, t=np.arange(65) / 10),
    squares=True,
)
def osborne_2(x: Vector, data: Any) -> Residuals:
    """Osborne's exponential and three Gaussian bells."""
    t = data["t"]
    fit = x[0] * jnp.exp(-t * x[4])
    for i in range(3):
        fit += x[1 + i] * jnp.exp(-((t - x[8 + i]) ** 2) * x[5 + i])
    return data["y"] - fit


def _watson(n: int) -> dict[str, np.ndarray]:
    t = np.arange(1, 30) / 29
    powers = np.vander(t, n, increasing=True)
    slopes = np.zeros_like(powers)
    slopes[:, 1:] = np.arange(1, n) * powers[:, :-1]
    return {"powers": powers, "slopes": slopes}


@formula(
    "watson",
    np.zeros,
    (6, 9, 12),
    source=MGH.format(20),
    minimum={6: 2.28767005355242e-3, 9: 1.39976013809e-6, 12: 4.722381102e-10}.get,
    data=_watson,
    squares=True,
    near=1,
)
def watson(x: Vector, data: Any) -> Residuals:
    """Watson's differential equation, solved by a polynomial."""
    r = data["slopes"] @ x - (data["powers"] @ x) ** 2 - 1
    return jnp.concatenate([r, jnp.stack([x[0], x[1] - x[0] ** 2 - 1])])
