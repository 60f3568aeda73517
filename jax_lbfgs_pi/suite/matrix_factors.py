"""Factors of low rank of a matrix of images."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_lbfgs_pi.suite.instances import Parts, add_instances
from jax_lbfgs_pi.tasks import load_digits
from jax_lbfgs_pi.trees import Params

_RANK = 5


def factor_loss(params: Params, data: dict[str, Any]) -> Float[Array, ""]:
    """½ ‖mask ∘ (U Vᵀ - A)‖² plus ½ ridge (‖U‖² + ‖V‖²)."""
    U, V = params["U"], params["V"]
    R = data["mask"] * (U @ V.T - data["A"])
    return 0.5 * jnp.sum(R * R) + 0.5 * data["ridge"] * (jnp.sum(U * U) + jnp.sum(V * V))


def _factors(index: int, known: float, ridge: float, seed: int) -> Parts:
    rng = np.random.default_rng((seed, index))
    images = load_digits()["images"].reshape(-1, 64) / 255.0
    A = images[rng.permutation(len(images))[:60]]
    mask = (rng.uniform(size=A.shape) < known).astype(float)
    x0 = {"U": 0.3 * rng.normal(size=(60, _RANK)), "V": 0.3 * rng.normal(size=(64, _RANK))}
    return factor_loss, x0, {"A": A, "mask": mask, "ridge": np.array(ridge)}


add_instances(
    "matrix-factorisation", 4, lambda i: _factors(i, 1.0, 0.0, 51), "scikit-learn's digits"
)
add_instances(
    "matrix-completion", 4, lambda i: _factors(i, 0.5, 0.01, 52), "scikit-learn's digits, half"
)
