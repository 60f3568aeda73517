"""The window of the last m curvature pairs, and what the direction needs of their inner products.

The pairs live in a ring buffer: a new pair overwrites the oldest one in place, and nothing is ever
rolled or ravelled. Beside them stands a small matrix of inner products in order of age, which a new
pair extends by a row and a column; each product is computed once, when its pair arrives.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_lbfgs_pi import trees
from jax_lbfgs_pi.trees import Params


class History(NamedTuple):
    """The last m curvature pairs `s_i = x_{i+1} - x_i`, `y_i = g_{i+1} - g_i`.

    Rows of `s` and `y` are slots of a ring buffer; slots never written hold zeros.

    Attributes:
      s: steps; a pytree like the parameters, leaves of shape `(m, *leaf.shape)`.
      y: gradient differences; leaves of shape `(m, *leaf.shape)`.
      products: `[R⁻¹ | YᵀY | diag SᵀY]`, the pairs in order of age, the oldest first; shape
        `(m, 2m + 1)`. See `Products`. One array, as each buffer of an optimizer's state costs a
        microsecond or two for each update.
      head: the slot that the next pair overwrites, an int32 scalar in `[0, m)`.
    """

    s: Params
    y: Params
    products: Float[Array, "m 2*m+1"]
    head: Int[Array, ""]


class Products(NamedTuple):
    """Inner products of the pairs, oldest first; `History.products` taken apart.

    A pair is skipped if `s_iᵀy_i <= 0`: that keeps H positive definite on non-convex functions
    (paper §3; Nocedal & Wright 2006, p. 537). It has a row and a column of the identity in R.

    Attributes:
      inverse: R⁻¹, R the upper triangle of SᵀY, shape `(m, m)`. The inverse rather than R: a new
        pair extends it by one column, the oldest leaves with its first row and column, and the
        recursions become products of a matrix and a vector.
      yy: YᵀY, shape `(m, m)`; 0 between a skipped pair and any other.
      sy: `s_iᵀy_i`, skipped or not, shape `(m,)`.
    """

    inverse: Float[Array, "m m"]
    yy: Float[Array, "m m"]
    sy: Float[Array, " m"]


def init_history(params: Params, memory_size: int) -> History:
    """An empty history for parameters like `params`.

    Args:
      params: pytree of real floating-point arrays.
      memory_size: m >= 1, the number of pairs kept.

    Raises:
      ValueError: if `memory_size` is not a positive integer.
      TypeError: if a leaf of `params` is not real floating-point.
    """
    check_memory_size(memory_size)
    trees.check_floating(params)
    m = memory_size
    dtype = trees.scalar_dtype(jax.tree.map(jnp.asarray, params))
    return History(
        s=jax.tree.map(lambda leaf: trees.zeros_like(leaf, rows=m), params),
        y=jax.tree.map(lambda leaf: trees.zeros_like(leaf, rows=m), params),
        products=jnp.eye(m, 2 * m + 1, dtype=dtype),
        head=jnp.zeros((), jnp.int32),
    )


def check_memory_size(memory_size: Any) -> None:
    """Raises ValueError unless `memory_size` is a positive integer."""
    if not isinstance(memory_size, int) or memory_size < 1:
        raise ValueError(f"memory_size must be an integer of at least 1, but got {memory_size!r}.")


def memory_size(history: History) -> int:
    """m, the number of pairs the history has room for."""
    return history.products.shape[0]


def get_products(history: History) -> Products:
    """The inner products of the pairs."""
    m = memory_size(history)
    table = history.products
    return Products(table[:, :m], table[:, m : 2 * m], table[:, 2 * m])


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
    written = write(history, s, y)
    with_y = by_age(pairs_vdot(written, y), written.head)
    return written._replace(products=append(history.products, with_y))


def write(history: History, s: Params, y: Params) -> History:
    """Writes a pair over the oldest one; the products are left to `append`."""

    def row(stack: Array, new: Array) -> Array:
        return jax.lax.dynamic_update_index_in_dim(stack, new.astype(stack.dtype), history.head, 0)

    return history._replace(
        s=jax.tree.map(row, history.s, s),
        y=jax.tree.map(row, history.y, y),
        head=jnp.where(history.head == memory_size(history) - 1, 0, history.head + 1),
    )


def at_slot(history: History) -> Bool[Array, " m"]:
    """Which slot the next pair overwrites."""
    return jnp.arange(memory_size(history)) == history.head


def pairs_vdot(history: History, v: Params) -> Float[Array, "2 m"]:
    """Sᵀv and Yᵀv, by slot."""
    m = memory_size(history)
    return jnp.stack([trees.stacked_vdot(stack, v, m) for stack in (history.s, history.y)])


def append(
    products: Float[Array, "m 2*m+1"], with_y: Float[Array, "2 m"]
) -> Float[Array, "m 2*m+1"]:
    """The products after a push.

    Args:
      products: before it.
      with_y: `s_iᵀ y` and `y_iᵀ y` for the new y and the pairs i of the new window, the new one
        last.
    """
    m = products.shape[0]
    new_sy, usable = with_y[0, -1], with_y[0, -1] > 0
    kept = products[1:]  # without the oldest pair's row, and below without its columns
    old_inverse, old_yy, old_sy = kept[:, 1:m], kept[:, m + 1 : 2 * m], kept[:, 2 * m :]
    both = usable & (old_sy.T > 0)
    r, yy_column = jnp.where(both, with_y[:, :-1], 0.0)
    # The last column (r, ρ) of R gives that of the inverse: -R⁻¹ r / ρ and 1/ρ.
    scale = 1.0 / jnp.where(usable, new_sy, 1.0)
    column = -scale * trees.matvec(old_inverse, r)
    top = [old_inverse, column[:, None], old_yy, yy_column[:, None], old_sy]
    bottom = [jnp.zeros_like(r), scale[None], yy_column, with_y[::-1, -1]]
    return jnp.concatenate([jnp.concatenate(top, axis=1), jnp.concatenate(bottom)[None]])


def drop_oldest(products: Float[Array, "m 2*m+1"]) -> Float[Array, "m 2*m+1"]:
    """The products with the oldest pair as if it were a slot never written."""
    m = products.shape[0]
    row, column = jnp.arange(m)[:, None], jnp.arange(2 * m + 1)[None, :]
    # R is upper triangular: the oldest pair stands in the first row of R⁻¹, and in a row and a
    # column of YᵀY.
    kept = jnp.where((row == 0) | (column == m), 0.0, products)
    return jnp.where((row == 0) & (column == 0), 1.0, kept)


def by_age(by_slot: Float[Array, "2 m"], head: Int[Array, ""]) -> Float[Array, "2 m"]:
    """Reorders numbers given by slot: the oldest pair's first. `head` is the oldest pair's slot."""
    return _rotate(by_slot, head)


def by_slot(by_age: Float[Array, "2 m"], head: Int[Array, ""]) -> Float[Array, "2 m"]:
    """Undoes `by_age`."""
    return _rotate(by_age, by_age.shape[1] - head)


def _rotate(v: Float[Array, "2 m"], start: Int[Array, ""]) -> Float[Array, "2 m"]:
    """The columns of v from `start` on, cyclically; 0 <= start <= m."""
    return jax.lax.dynamic_slice_in_dim(jnp.concatenate([v, v], axis=1), start, v.shape[1], axis=1)


def initial_scaling(history: History) -> Float[Array, ""]:
    """γ = |sᵀy| / yᵀy of the newest pair, skipped or not; 1 where y = 0 (Algorithm 1, line 6)."""
    products = get_products(history)
    sy, yy = products.sy[-1], products.yy[-1, -1]
    usable = yy > 0
    return jnp.where(usable, jnp.abs(sy) / jnp.where(usable, yy, 1.0), 1.0)
