"""The L-BFGS direction d = -H g: the two-loop recursion, and its vector-free (Gram) form.

Both skip the pairs with `s_iᵀy_i <= 0`, which keeps H positive definite on non-convex functions
(paper §3; Nocedal & Wright 2006, p. 537), and both are differentiable with respect to everything.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jax_lbfgs_pi import trees
from jax_lbfgs_pi.history import History, age_order, initial_scaling, memory_size
from jax_lbfgs_pi.trees import Params


def two_loop_direction(grads: Params, history: History) -> Params:
    """D = -H g by the two-loop recursion (paper, Algorithm 1).

    The reference: 4m passes over the parameters, one after the other. `gram_direction` gives the
    same vector in two.

    Args:
      grads: g, a pytree like the parameters.
      history: the curvature pairs; with none in it, d = -g.

    Returns:
      d, a pytree like `grads`.
    """
    order = age_order(history)
    rho, valid = _curvature(jnp.diagonal(history.sy))

    def pair(i: Array) -> tuple[Params, Params]:
        return tuple(jax.tree.map(lambda leaf: leaf[i], tree) for tree in history[:2])

    def add(scale: Array, v: Params, q: Params) -> Params:
        return jax.tree.map(lambda a, b: b + (scale * a).astype(b.dtype), v, q)

    def first_loop(q: Params, i: Array) -> tuple[Params, Array]:
        s, y = pair(i)
        alpha = jnp.where(valid[i], rho[i] * trees.vdot(s, q), 0.0)
        return add(-alpha, y, q), alpha

    def second_loop(r: Params, xs: tuple[Array, Array]) -> tuple[Params, None]:
        i, alpha = xs
        s, y = pair(i)
        beta = jnp.where(valid[i], rho[i] * trees.vdot(y, r), 0.0)
        return add(alpha - beta, s, r), None

    q, alphas = jax.lax.scan(first_loop, grads, order, reverse=True)
    gamma = initial_scaling(history)
    r = jax.tree.map(lambda leaf: (gamma * leaf).astype(leaf.dtype), q)
    r, _ = jax.lax.scan(second_loop, r, (order, alphas))
    return jax.tree.map(jnp.negative, r)


def gram_direction(grads: Params, history: History) -> Params:
    """D = -H g in vector-free form (Chen, Wang & Zhou, "Large-scale L-BFGS using MapReduce", 2014).

    The recursion runs on the coefficients of d over [S, Y, g]: one pass over the history for its
    products with g, O(m²) arithmetic, one pass for the combination. With R the upper triangle of
    SᵀY in order of age (the compact form of Byrd, Nocedal & Schnabel 1994), the first loop solves
    `R α = Sᵀg` and the second `Rᵀ c = D α - γ Yᵀ(g - Y α)`; then `d = -γ (g - Y α) - S c`.

    Args:
      grads: g, a pytree like the parameters.
      history: the curvature pairs; with none in it, d = -g.

    Returns:
      d, a pytree like `grads`.
    """
    m = memory_size(history)
    alpha, c, gamma = direction_coefficients(
        history,
        s_g=trees.stacked_vdot(history.s, grads, m),
        y_g=trees.stacked_vdot(history.y, grads, m),
    )
    from_y, from_s = trees.combine(gamma * alpha, history.y), trees.combine(c, history.s)
    return jax.tree.map(
        lambda g, by_y, by_s: (by_y - by_s - gamma * g).astype(g.dtype), grads, from_y, from_s
    )


def direction_coefficients(
    history: History, *, s_g: Float[Array, " m"], y_g: Float[Array, " m"]
) -> tuple[Float[Array, " m"], Float[Array, " m"], Float[Array, ""]]:
    """α, c and γ of `d = -γ (g - Y α) - S c`, by slot, from inner products alone.

    Args:
      history: the curvature pairs.
      s_g: Sᵀg by slot, shape `(m,)`.
      y_g: Yᵀg by slot, shape `(m,)`.
    """
    order = age_order(history)
    gamma = initial_scaling(history)
    sy, yy = history.sy[order][:, order], history.yy[order][:, order]
    s_g, y_g = s_g[order], y_g[order]
    _, valid = _curvature(jnp.diagonal(sy))
    # A skipped pair becomes a row and column of the identity with right-hand side 0: it gets the
    # coefficients 0 and touches no other pair.
    both = valid[:, None] & valid[None, :]
    upper = jnp.triu(jnp.where(both, sy, 0.0)) + jnp.diag(
        jnp.where(valid, 0.0, 1.0).astype(sy.dtype)
    )
    yy = jnp.where(both, yy, 0.0)
    s_g, y_g = jnp.where(valid, s_g, 0.0), jnp.where(valid, y_g, 0.0)

    solve = jax.scipy.linalg.solve_triangular
    alpha = solve(upper, s_g)
    y_q = y_g - jnp.matmul(yy, alpha, precision=jax.lax.Precision.HIGHEST)
    c = solve(upper, jnp.diagonal(upper) * alpha - gamma * y_q, trans=1)
    back = jnp.argsort(order)
    return alpha[back], c[back], gamma


def _curvature(s_y: Float[Array, " m"]) -> tuple[Float[Array, " m"], Bool[Array, " m"]]:
    """ρ_i = 1/(s_iᵀy_i), and which pairs may be used; ρ is 1 at the others, so it stays finite."""
    valid = s_y > 0
    return 1.0 / jnp.where(valid, s_y, 1.0), valid


DIRECTIONS = {"gram": gram_direction, "two_loop": two_loop_direction}
