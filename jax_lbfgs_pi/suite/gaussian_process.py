"""Hyperparameters of Gaussian processes, in logarithms, by marginal likelihood."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_lbfgs_pi.suite.families.likelihoods import normal_energy
from jax_lbfgs_pi.suite.instances import Parts, add_instances

_JITTER = 1e-6


def ard_kernel(
    params: Float[Array, " n"], squares: Float[Array, "num num inputs"]
) -> Float[Array, "num num"]:
    """Squared-exponential: log-amplitude, a log-length for each input, log-noise."""
    smooth = jnp.exp(2.0 * params[0] - 0.5 * squares @ jnp.exp(-2.0 * params[1:-1]))
    noise = jnp.exp(2.0 * params[-1]) + _JITTER
    return smooth + noise * jnp.eye(squares.shape[0], dtype=smooth.dtype)


def seasonal_kernel(
    params: Float[Array, " 7"], lags: Float[Array, "num num"]
) -> Float[Array, "num num"]:
    """A trend plus a decaying season plus noise.

    The logarithms are those of the trend's amplitude and length, the season's amplitude, length of
    decay, roughness and period, and the noise.
    """
    trend = jnp.exp(2.0 * params[0] - 0.5 * (lags * jnp.exp(-params[1])) ** 2)
    waves = jnp.sin(jnp.pi * lags * jnp.exp(-params[5])) * jnp.exp(-params[4])
    decay = 0.5 * (lags * jnp.exp(-params[3])) ** 2
    season = jnp.exp(2.0 * params[2] - decay - 2.0 * waves**2)
    noise = jnp.exp(2.0 * params[6]) + _JITTER
    return trend + season + noise * jnp.eye(lags.shape[0], dtype=lags.dtype)


def ard_loss(params: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
    """Negative log marginal likelihood."""
    return _energy(ard_kernel(params, data["squares"]), data["y"])


def seasonal_loss(params: Float[Array, " 7"], data: dict[str, Any]) -> Float[Array, ""]:
    """Negative log marginal likelihood."""
    return _energy(seasonal_kernel(params, data["lags"]), data["y"])


def _energy(K: Array, y: Array) -> Array:
    return normal_energy(K, y) + 0.5 * y.shape[0] * jnp.log(2.0 * jnp.pi)


def _diabetes(index: int) -> Parts:
    from sklearn.datasets import load_diabetes

    rng = np.random.default_rng((31, index))
    X, y = load_diabetes(return_X_y=True)
    mine = rng.permutation(len(y))[:100]
    X, y = np.asarray(X[mine], float), np.asarray(y[mine], float)
    X, y = X / X.std(axis=0), (y - y.mean()) / y.std()
    squares = (X[:, None, :] - X[None, :, :]) ** 2
    return ard_loss, 0.5 * rng.normal(size=12), {"squares": squares, "y": y}


def _sine(index: int) -> Parts:
    rng = np.random.default_rng((32, index))
    t = np.sort(rng.uniform(0.0, 10.0, size=80))
    season = np.sin(2 * np.pi * t) + 0.4 * np.cos(4 * np.pi * t + index)
    y = 0.3 * t + 0.02 * t**2 + season + 0.1 * rng.normal(size=80)
    y = (y - y.mean()) / y.std()
    x0 = np.log([1.0, 5.0, 0.5, 10.0, 1.0, 1.0, 0.3]) + 0.2 * rng.normal(size=7)
    x0[5] *= 0.2  # too far from the period its neighbours' minima catch every method
    return seasonal_loss, x0, {"lags": t[:, None] - t[None, :], "y": y}


add_instances("gp-diabetes", 4, _diabetes, "scikit-learn's diabetes")
add_instances("gp-sine", 4, _sine, "synthetic, like the carbon dioxide at Mauna Loa")
