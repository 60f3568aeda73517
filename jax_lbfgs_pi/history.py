"""The window of the last m curvature pairs, and what the direction needs of their inner products.

The pairs live in a ring buffer: a new pair overwrites the oldest one in place, and nothing is ever
rolled or ravelled. Beside them stands a small matrix of inner products, by slot too: a new pair
replaces a row and a column of each block, and each product is computed once, when its pair arrives.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_lbfgs_pi import linalg, trees
from jax_lbfgs_pi.trees import Params


class Products(NamedTuple):
    """Inner products of the pairs, rows and columns by slot.

    A pair is skipped if `s_iᵀy_i <= 0`: that keeps H positive definite on non-convex functions
    (paper §3; Nocedal & Wright 2006, p. 537). It has a row and a column of the identity in R.

    Attributes:
      inverse: R⁻¹, shape `(m, m)`; `R_ij = s_iᵀy_j` where pair i is no younger than j, else 0: in
        order of age the upper triangle of SᵀY. The inverse rather than R: the recursions become
        products of a matrix and a vector, which ask for no order. A new pair brings one column;
        the oldest has nothing but its diagonal in the column that is replaced.
      yy: YᵀY, shape `(m, m)`; 0 between a skipped pair and any other.
      sy: `s_iᵀy_i`, skipped or not, shape `(m,)`.
      omega: ω of the pairs' secant equations, `H y = ω s` (see `Scaling`), shape `(m,)`.
    """

    inverse: Float[Array, "m m"]
    yy: Float[Array, "m m"]
    sy: Float[Array, " m"]
    omega: Float[Array, " m"]


class History(NamedTuple):
    """The last m curvature pairs `s_i = x_{i+1} - x_i`, `y_i = g_{i+1} - g_i`.

    Rows of `s` and `y` are slots of a ring buffer; slots never written hold zeros.

    Attributes:
      s: steps; a pytree like the parameters, leaves of shape `(m, *leaf.shape)`.
      y: gradient differences; leaves of shape `(m, *leaf.shape)`.
      products: what the direction needs of their inner products.
      head: the slot that the next pair overwrites, an int32 scalar in `[0, m)`.
    """

    s: Params
    y: Params
    products: Products
    head: Int[Array, ""]


def init_history(params: Params, memory_size: int) -> History:
    """An empty history for parameters like `params`.

    Args:
      params: pytree of real floating-point arrays.
      memory_size: m >= 1, the number of pairs kept.

    Raises:
      ValueError: if `memory_size` is not a positive integer.
      TypeError: if a leaf of `params` is not real floating-point.
    """
    m = trees.as_count("memory_size", memory_size, least=1)
    trees.check_floating(params)
    dtype = trees.scalar_dtype(jax.tree.map(jnp.asarray, params))
    return History(
        s=jax.tree.map(lambda leaf: trees.zeros_like(leaf, rows=m), params),
        y=jax.tree.map(lambda leaf: trees.zeros_like(leaf, rows=m), params),
        products=init_products(m, dtype),
        head=jnp.zeros((), jnp.int32),
    )


def init_products(m: int, dtype: jnp.dtype) -> Products:
    """Those of m empty slots."""
    return Products(
        inverse=jnp.eye(m, dtype=dtype),
        yy=jnp.zeros((m, m), dtype),
        sy=jnp.zeros(m, dtype),
        omega=jnp.ones(m, dtype),
    )


def memory_size(history: History) -> int:
    """m, the number of pairs the history has room for."""
    return history.products.sy.shape[0]


def push(history: History, s: Params, y: Params) -> History:
    """Overwrites the oldest pair by `(s, y)`, whatever the sign of `sᵀy`.

    Args:
      history: the window so far.
      s: step, a pytree like the parameters.
      y: gradient difference, likewise.

    Returns:
      The history with the new pair and its inner products.

    Raises:
      ValueError: if `s` and `y` differ in structure or shape.
    """
    trees.check_same_structure(s, y, names=("s", "y"))
    slot = head_mask(history)
    written = write(history, s, y)
    products = replace(history.products, slot, pairs_vdot(written, y), linalg.vdot(s, y))
    return written._replace(products=products)


def write(history: History, s: Params, y: Params) -> History:
    """Writes a pair over the oldest one; the products are left to `replace`."""

    def row(stack: Array, new: Array) -> Array:
        return linalg.write_row(stack, new, history.head)

    return history._replace(
        s=jax.tree.map(row, history.s, s),
        y=jax.tree.map(row, history.y, y),
        head=_next(history),
    )


def write_if(
    history: History,
    stored: Bool[Array, ""],
    points: tuple[Params, Params],
    grads: tuple[Params, Params],
) -> History:
    """Writes the pair between two points if it is `stored`: each new one before the old."""

    def row(stack: Array, new: Array, old: Array) -> Array:
        return linalg.write_difference(stack, new, old, history.head, stored)

    return history._replace(
        s=jax.tree.map(row, history.s, *points),
        y=jax.tree.map(row, history.y, *grads),
        head=jnp.where(stored, _next(history), history.head),
    )


def _next(history: History) -> Int[Array, ""]:
    return jnp.where(history.head == memory_size(history) - 1, 0, history.head + 1)


def head_mask(history: History) -> Bool[Array, " m"]:
    """Which slot the next pair overwrites."""
    return jnp.arange(memory_size(history), dtype=jnp.int32) == history.head


def newest_mask(history: History, num_pairs: Float[Array, ""]) -> Bool[Array, " m"]:
    """The slots of the newest `num_pairs` pairs."""
    m = memory_size(history)
    newer = history.head - 1 - jnp.arange(m, dtype=history.head.dtype)
    return jnp.where(newer < 0, newer + m, newer).astype(num_pairs.dtype) < num_pairs


def curvatures(history: History) -> Float[Array, " m"]:
    """`y_iᵀy_i / s_iᵀy_i`, by slot; 0 for skipped pairs and where there is none."""
    sy, yy = history.products.sy, jnp.diagonal(history.products.yy)
    usable = linalg.positive(sy)
    return jnp.where(usable, yy / jnp.where(usable, sy, 1.0), 0.0)


def in_span(history: History, with_g: Float[Array, "2 m"]) -> Float[Array, ""]:
    """Σ (s_iᵀg)² / s_iᵀy_i over the pairs that are not skipped."""
    sy = history.products.sy
    usable = linalg.positive(sy)
    size = jnp.where(usable, with_g[0], 0.0)
    return jnp.sum(size * (size / jnp.where(usable, sy, 1.0)))


def pairs_vdot(history: History, v: Params) -> Float[Array, "2 m"]:
    """Sᵀv and Yᵀv, by slot."""
    return linalg.stacked_vdots((history.s, history.y), v, memory_size(history))


def replace(
    products: Products,
    slot: Bool[Array, " m"],
    with_y: Float[Array, "2 m"],
    sy: Float[Array, ""],
) -> Products:
    """The products after a new pair (s, y), with ω = 1, took the place of the oldest.

    Args:
      products: before that.
      slot: the mask of its slot.
      with_y: `s_iᵀ y` and `y_iᵀ y` for the pairs i of the new window.
      sy: `sᵀy`, which stands in `with_y` too.
    """
    usable = linalg.positive(sy)
    both = usable & linalg.positive(products.sy) & ~slot
    # The new column (r, ρ) of R gives that of the inverse: -R⁻¹ r / ρ and 1/ρ.
    scale = 1.0 / jnp.where(usable, sy, 1.0)
    r = jnp.where(both, with_y[0], 0.0)
    column = jnp.where(slot, scale, -scale * linalg.matvec(products.inverse, r))
    with_others = jnp.where(both | slot, with_y[1], 0.0)
    new_row, new_column = slot[:, None], slot[None, :]
    return Products(
        inverse=jnp.where(new_column, column[:, None], jnp.where(new_row, 0.0, products.inverse)),
        yy=jnp.where(
            new_column, with_others[:, None], jnp.where(new_row, with_others[None], products.yy)
        ),
        sy=jnp.where(slot, with_y[0], products.sy),
        omega=jnp.where(slot, 1.0, products.omega),
    )


def initial_scaling(history: History) -> Float[Array, ""]:
    """γ = |sᵀy| / yᵀy of the newest pair, skipped or not; 1 where y = 0 (Algorithm 1, line 6)."""
    newest = history.head - 1  # -1 is the last slot
    sy, yy = history.products.sy[newest], history.products.yy[newest, newest]
    usable = linalg.positive(yy)
    return jnp.where(usable, jnp.abs(sy) / jnp.where(usable, yy, 1.0), 1.0)
