"""The L-BFGS direction d = -H g: the two-loop recursion, and its vector-free (Gram) form.

Both skip the pairs with `s_iᵀy_i <= 0`, which keeps H positive definite on non-convex functions
(paper §3; Nocedal & Wright 2006, p. 537), and both are differentiable with respect to everything.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jax_lbfgs_pi import linalg
from jax_lbfgs_pi.history import (
    History,
    Products,
    initial_scaling,
    memory_size,
    pairs_vdot,
)
from jax_lbfgs_pi.trees import Params


class Coefficients(NamedTuple):
    """The coefficients of `d = S c + Y a + b g`.

    Attributes:
      pairs: c and a, by slot, shape `(2, m)`.
      g: b, that of the gradient, a scalar: -γ.
    """

    pairs: Float[Array, "2 m"]
    g: Float[Array, ""]


def two_loop_direction(grads: Params, history: History) -> Params:
    """The direction d = -H g by the two-loop recursion (paper, Algorithm 1).

    The reference: 4m passes over the parameters, one after the other. `gram_direction` gives the
    same vector in two.

    Args:
      grads: g, a pytree like the parameters.
      history: the curvature pairs; with none in it, d = -g.

    Returns:
      d, a pytree like `grads`.
    """
    m = memory_size(history)
    order = (history.head + jnp.arange(m)) % m
    s_y = history.products.sy[order]
    valid = linalg.positive(s_y)
    rho = 1.0 / jnp.where(valid, s_y, 1.0)
    omega = history.products.omega[order]

    def pair(slot: Array) -> tuple[Params, Params]:
        return tuple(jax.tree.map(lambda leaf: leaf[slot], tree) for tree in history[:2])

    def add(scale: Array, v: Params, q: Params) -> Params:
        return jax.tree.map(lambda a, b: b + (scale * a).astype(b.dtype), v, q)

    def first_loop(q: Params, xs: tuple[Array, ...]) -> tuple[Params, Array]:
        slot, rho, valid = xs
        s, y = pair(slot)
        alpha = jnp.where(valid, rho * linalg.vdot(s, q), 0.0)
        return add(-alpha, y, q), alpha

    def second_loop(r: Params, xs: tuple[Array, ...]) -> tuple[Params, None]:
        slot, rho, valid, omega, alpha = xs
        s, y = pair(slot)
        beta = jnp.where(valid, rho * linalg.vdot(y, r), 0.0)
        return add(omega * alpha - beta, s, r), None

    q, alphas = jax.lax.scan(first_loop, grads, (order, rho, valid), reverse=True)
    gamma = initial_scaling(history)
    r = jax.tree.map(lambda leaf: (gamma * leaf).astype(leaf.dtype), q)
    r, _ = jax.lax.scan(second_loop, r, (order, rho, valid, omega, alphas))
    return jax.tree.map(jnp.negative, r)


def gram_direction(grads: Params, history: History) -> Params:
    """The direction d = -H g in vector-free form.

    After Chen, Wang & Zhou, "Large-scale L-BFGS using MapReduce", 2014.

    The recursion runs on the coefficients of d over [S, Y, g]: one pass over the history for its
    products with g, O(m²) arithmetic, one pass for the combination. With R the upper triangle of
    SᵀY in order of age (the compact form of Byrd, Nocedal & Schnabel 1994), the first loop solves
    `R α = Sᵀg` and the second `Rᵀ c = Ω D α - γ Yᵀ(g - Y α)`, Ω of the
    pairs' ω, D of their sᵀy; then `d = -γ (g - Y α) - S c`.

    Args:
      grads: g, a pytree like the parameters.
      history: the curvature pairs; with none in it, d = -g.

    Returns:
      d, a pytree like `grads`.
    """
    coefficients = direction_coefficients(
        history.products, initial_scaling(history), pairs_vdot(history, grads)
    )
    return combine(coefficients, history, grads)


def direction_coefficients(
    products: Products,
    gamma: Float[Array, ""],
    with_g: Float[Array, "2 m"],
    trusted: Bool[Array, " m"] | None = None,
) -> Coefficients:
    """The coefficients of d = -H g, from inner products alone.

    Args:
      products: those of the curvature pairs.
      gamma: γ, the initial scaling.
      with_g: Sᵀg and Yᵀg, by slot.
      trusted: the slots of the pairs to be used, the newest ones; None for all. The trailing block
        of R⁻¹ is the inverse of the trailing block of R, so a mask is all that it takes.
    """
    inverse, yy, sy, omega = products
    usable = linalg.positive(sy)
    if trusted is not None:
        usable &= trusted
    # With right-hand sides 0, skipped pairs get coefficients 0 and touch no other pair.
    s_g, y_g = jnp.where(usable[None], with_g, 0.0)
    alpha = linalg.matvec(inverse, s_g)
    if trusted is not None:
        alpha = jnp.where(trusted, alpha, 0.0)
    beta = omega * sy * alpha - gamma * (y_g - linalg.matvec(yy, alpha))
    if trusted is not None:
        beta = jnp.where(trusted, beta, 0.0)
    c = linalg.matvec(inverse.T, beta)
    return Coefficients(jnp.stack([-c, gamma * alpha]), -gamma)


def combine(coefficients: Coefficients, history: History, grads: Params) -> Params:
    """The combination S c + Y a + b g in one pass; a pytree like `grads`."""
    c, a = coefficients.pairs

    def one_leaf(s: Array, y: Array, g: Array) -> Array:
        return linalg.weighted_sum(coefficients.g, g, (c, s), (a, y)).astype(g.dtype)

    return jax.tree.map(one_leaf, history.s, history.y, grads)
