"""How a dense H is scaled, and which member of Broyden's family it follows: τ and φ.

Of `b = sᵀBs / sᵀy` and `h = yᵀHy / sᵀy` alone, inner products that a step has. The formulas are
those of Al-Baali (1998), as Kiyani et al. (2025) state them for physics-informed networks.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_lbfgs_pi import linalg

Answer = tuple[Float[Array, ""], Float[Array, ""]]


def bfgs(b: Float[Array, ""], h: Float[Array, ""], n: int) -> Answer:
    """No scaling, φ = 1."""
    del h, n
    return jnp.ones_like(b), jnp.ones_like(b)


def self_scaled_bfgs(b: Float[Array, ""], h: Float[Array, ""], n: int) -> Answer:
    """τ = min(1, 1/b), φ = 1: H grows where the model was too steep, and never shrinks."""
    del h, n
    return jnp.minimum(1.0, 1.0 / b), jnp.ones_like(b)


def self_scaled_broyden(b: Float[Array, ""], h: Float[Array, ""], n: int) -> Answer:
    """τ, and φ between BFGS and DFP or a little beyond, by b and h.

    With `a = b h - 1`, `c = √(a / (1 + a))`, `ρ = min(1, h (1 - c))`,
    `θ = max((ρ - 1) / a, min(1/ρ, (1 - b) / b))` and `σ = 1 + θ a`: `φ = (1 - θ) / (1 + a θ)`, and
    τ = min(1, 1/b) min(σ^(1/(1-n)), 1/θ) for θ > 0, else min(min(1, 1/b) σ^(1/(1-n)), σ).
    """
    a = jnp.maximum(b * h - 1.0, jnp.finfo(b.dtype).eps)  # 0 where s ∥ Hy: all members are one
    c = linalg.root(a / (1.0 + a))
    rho = jnp.minimum(1.0, h / ((1.0 + a) * (1.0 + c)))  # h (1 - c), without cancellation
    theta = jnp.maximum((rho - 1.0) / a, jnp.minimum(1.0 / rho, (1.0 - b) / b))
    sigma = 1.0 + theta * a
    phi = (1.0 - theta) / sigma
    scale = jnp.minimum(1.0, 1.0 / b)
    power = sigma ** (1.0 / (1.0 - n)) if n > 1 else jnp.ones_like(b)
    positive = linalg.positive(theta)
    inverse = 1.0 / jnp.where(positive, theta, 1.0)
    tau = jnp.where(
        positive, scale * jnp.minimum(power, inverse), jnp.minimum(scale * power, sigma)
    )
    return tau, phi


UPDATES: dict[str, Callable[..., Answer]] = {
    "bfgs": bfgs,
    "self-scaled-bfgs": self_scaled_bfgs,
    "self-scaled-broyden": self_scaled_broyden,
}
"""By name."""
