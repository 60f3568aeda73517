"""Generalized linear models on features of uneven scale."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jax_lbfgs_pi.suite.families.base import Draw, Family, log_uniform, offset, reflections


def features(
    key: PRNGKeyArray, num: int, n: int
) -> tuple[Float[Array, "num n"], Float[Array, " n"]]:
    """Correlated Gaussian features and their scales: 10^[-1, 0.5], worse in a third of draws."""
    keys = jax.random.split(key, 4)
    scales = 10.0 ** jax.random.uniform(keys[0], (n,), minval=-1.0, maxval=0.5)
    scales = jnp.where(jax.random.uniform(keys[1]) < 1 / 3, scales**2, scales)
    X = jax.random.normal(keys[2], (num, n))
    # What all features share: a projection of it is taken out, or put in twice.
    common = reflections(keys[3], n, 1)[0]
    X = X + (X @ common)[:, None] * common[None, :]
    return X * scales[None, :], scales


def _logistic(n: int, num: int) -> Family:
    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 6)
        X, scales = features(keys[0], num, n)
        rule = jax.random.normal(keys[1], (n,)) / scales
        score = X @ rule * log_uniform(keys[2], 0.1, 3.0) / jnp.sqrt(n)
        labels = jnp.sign(score + jax.random.logistic(keys[3], (num,)))
        data = {"X": X, "labels": labels, "ridge": log_uniform(keys[4], 1e-6, 1e-1)}
        return offset(keys[5], n, 0.01, 3.0), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        margins = data["labels"] * (data["X"] @ x)
        return jnp.mean(jax.nn.softplus(-margins)) + 0.5 * data["ridge"] * x @ x

    return Family(f"logistic-{n}", sample, loss)


def _poisson(n: int, num: int) -> Family:
    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 6)
        X, scales = features(keys[0], num, n)
        X = X.at[:, 0].set(1.0)
        scales = scales.at[0].set(1.0)
        rule = jax.random.normal(keys[1], (n,)) / scales / jnp.sqrt(n)
        rate = jnp.exp(jnp.clip(X @ rule + jax.random.uniform(keys[2], maxval=2.0), -4.0, 4.0))
        # Nearly Poisson, without the rejections that drawing such counts takes.
        counts = jnp.round(rate + jnp.sqrt(rate) * jax.random.normal(keys[3], (num,)))
        data = {
            "X": X,
            "counts": jnp.maximum(counts, 0.0),
            "ridge": log_uniform(keys[4], 1e-6, 0.1),
        }
        return rule + offset(keys[5], n, 0.01, 2.0) / scales / jnp.sqrt(n), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        eta = data["X"] @ x
        return jnp.mean(jnp.exp(eta) - data["counts"] * eta) + 0.5 * data["ridge"] * x @ x

    return Family(f"poisson-{n}", sample, loss)


REGRESSIONS = [_logistic(10, 40), _logistic(30, 60), _poisson(10, 40), _poisson(30, 60)]
