"""Curves fitted by least squares, with parameters of very different sizes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jax_lbfgs_pi.suite.families.base import Draw, Family, log_uniform, spread_scales

Times = Float[Array, " num"]
Parameters = Float[Array, " n"]
_NUM_POINTS = 24


def exponentials(t: Times, p: Parameters) -> Times:
    """Two decays over a constant."""
    return p[0] * jnp.exp(-p[1] * t) + p[2] * jnp.exp(-p[3] * t) + p[4]


def gaussians(t: Times, p: Parameters) -> Times:
    """Two peaks over a constant; inverse widths, so that the curve has no pole."""
    first = p[0] * jnp.exp(-((p[1] * (t - p[2])) ** 2))
    return first + p[3] * jnp.exp(-((p[4] * (t - p[5])) ** 2)) + p[6]


def michaelis_menten(t: Times, p: Parameters) -> Times:
    """Saturation; the square keeps the pole from the data."""
    return p[0] * t / (p[1] ** 2 + t)


def rational(t: Times, p: Parameters) -> Times:
    """A ratio of polynomials, whose denominator is positive."""
    return (p[0] + p[1] * t) / (1.0 + (p[2] * t) ** 2 + (p[3] * t) ** 4)


def logistic_growth(t: Times, p: Parameters) -> Times:
    """Growth to a capacity."""
    return p[0] * jax.nn.sigmoid(p[1] * (t - p[2]))


def oscillation(t: Times, p: Parameters) -> Times:
    """A damped cosine over a constant."""
    return p[0] * jnp.exp(-p[1] * t) * jnp.cos(p[2] * t + p[3]) + p[4]


def power_law(t: Times, p: Parameters) -> Times:
    """A power over a constant."""
    return p[0] * t ** p[1] + p[2]


# For each parameter the range it is drawn from, log-uniformly.
_MODELS: dict[str, tuple[Callable[[Times, Parameters], Times], list[tuple[float, float]]]] = {
    "exponentials": (exponentials, [(0.3, 3), (0.3, 2), (0.3, 3), (2, 20), (0.05, 1)]),
    "gaussians": (
        gaussians,
        [(0.3, 3), (2, 10), (0.1, 0.5), (0.3, 3), (2, 10), (0.5, 0.9), (0.05, 1)],
    ),
    "michaelis-menten": (michaelis_menten, [(0.3, 3), (0.2, 1.5)]),
    "rational": (rational, [(0.3, 3), (0.3, 3), (0.3, 3), (0.3, 3)]),
    "logistic-growth": (logistic_growth, [(0.3, 3), (2, 20), (0.2, 0.8)]),
    "oscillation": (oscillation, [(0.3, 3), (0.3, 3), (5, 20), (0.1, 3), (0.05, 1)]),
    "power-law": (power_law, [(0.3, 3), (0.3, 3), (0.05, 1)]),
}


def _curve(name: str) -> Family:
    model, ranges = _MODELS[name]
    n = len(ranges)

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 8)
        logs = jnp.log(jnp.array(ranges, float))
        truth = jnp.exp(logs[:, 0] + jax.random.uniform(keys[0], (n,)) * (logs[:, 1] - logs[:, 0]))
        t = jnp.sort(jax.random.uniform(keys[1], (_NUM_POINTS,), minval=0.02, maxval=1.0))
        y = model(t, truth)
        noise = log_uniform(keys[2], 1e-5, 0.2) * jnp.std(y)
        y = y + noise * jax.random.normal(keys[3], y.shape)
        distance = log_uniform(keys[4], 0.03, 0.7)
        start = truth * jnp.exp(distance * jax.random.normal(keys[5], (n,)))
        scales = spread_scales(keys[6], n, 3.0)
        return start / scales, {"t": t, "y": y, "scales": scales}

    def loss(x: Parameters, data: dict[str, Any]) -> Float[Array, ""]:
        residuals = model(data["t"], data["scales"] * x) - data["y"]
        return 0.5 * residuals @ residuals

    return Family(f"curve-{name}", sample, loss)


CURVES = [_curve(name) for name in _MODELS]
