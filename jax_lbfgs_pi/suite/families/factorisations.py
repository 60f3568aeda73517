"""Factors of a small matrix, and a signal from squared measurements."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jax_lbfgs_pi.suite.families.base import Draw, Family, log_uniform, spread_scales

_SMALL, _LARGE = (8, 6, 2), (24, 16, 3)


def _factorisation(name: str, sizes: tuple[int, int, int], masked: bool) -> Family:
    """A ≈ U Vᵀ, on all entries or on those that are known; `sizes` are rows, columns and rank."""
    rows, columns, rank = sizes
    cut = rows * rank
    n = cut + columns * rank

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 8)
        left = jax.random.normal(keys[0], (rows, rank)) * spread_scales(keys[1], rank, 1.5)[None]
        A = left @ jax.random.normal(keys[2], (columns, rank)).T
        A = A + log_uniform(keys[3], 1e-4, 1.0) * jax.random.normal(keys[4], A.shape)
        known = jax.random.bernoulli(keys[5], 0.7, A.shape) if masked else jnp.ones(A.shape)
        x0 = log_uniform(keys[6], 0.03, 2.0) * jax.random.normal(keys[7], (n,))
        # Entries that are not known leave directions free: a small ridge makes them matter.
        return x0, {"A": A, "known": known.astype(A.dtype), "ridge": jnp.array(1e-4 * masked)}

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        U, V = x[:cut].reshape(rows, rank), x[cut:].reshape(columns, rank)
        R = data["known"] * (U @ V.T - data["A"])
        return 0.5 * jnp.sum(R * R) + data["ridge"] * x @ x

    return Family(name, sample, loss)


def _symmetric(size: int, rank: int) -> Family:
    """A ≈ U Uᵀ."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 6)
        U = jax.random.normal(keys[0], (size, rank)) * spread_scales(keys[1], rank, 1.0)[None]
        E = jax.random.normal(keys[2], (size, size))
        A = U @ U.T + log_uniform(keys[3], 1e-4, 0.5) * (E + E.T)
        return log_uniform(keys[4], 0.03, 2.0) * jax.random.normal(keys[5], (size * rank,)), A

    def loss(x: Float[Array, " n"], A: Float[Array, "size size"]) -> Float[Array, ""]:
        U = x.reshape(size, rank)
        R = U @ U.T - A
        return 0.25 * jnp.sum(R * R)

    return Family("symmetric-factorisation", sample, loss)


def _phase_retrieval(n: int, num: int) -> Family:
    """A signal x from (aᵢᵀx)², up to its sign."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 7)
        A = jax.random.normal(keys[0], (num, n)) * spread_scales(keys[1], n, 0.7)[None]
        signal = jax.random.normal(keys[2], (n,))
        y = (A @ signal) ** 2
        y = y + log_uniform(keys[3], 1e-4, 1.0) * jax.random.normal(keys[4], (num,))
        x0 = log_uniform(keys[5], 0.1, 3.0) * jax.random.normal(keys[6], (n,))
        return x0, {"A": A, "y": y}

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        r = (data["A"] @ x) ** 2 - data["y"]
        return 0.25 * jnp.mean(r * r)

    return Family(f"phase-retrieval-{n}", sample, loss)


FACTORISATIONS = [
    _factorisation("factorisation", _SMALL, masked=False),
    _factorisation("factorisation-large", _LARGE, masked=False),
    _factorisation("completion", _SMALL, masked=True),
    _symmetric(8, 2),
    _phase_retrieval(10, 40),
]
