"""The window of the last m curvature pairs, and the inner products between them.

The pairs live in a ring buffer: a new pair overwrites the oldest one in place, and nothing is ever
rolled or ravelled. Beside them stand their inner products (the Gram matrix of [S, Y]), each
computed once, from its vectors, when the pair arrives; the vector-free direction needs no others.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_lbfgs_pi import trees
from jax_lbfgs_pi.trees import Params


class History(NamedTuple):
    """The last m curvature pairs `s_i = x_{i+1} - x_i`, `y_i = g_{i+1} - g_i`.

    Rows are slots of a ring buffer. Slots never written hold zeros, which every user of the history
    skips, as a zero pair has `sᵀy = 0`.

    Attributes:
      s: steps; a pytree like the parameters, leaves of shape `(m, *leaf.shape)`.
      y: gradient differences; leaves of shape `(m, *leaf.shape)`.
      ss: `ss[i, j] = s_iᵀ s_j`, shape `(m, m)`.
      sy: `sy[i, j] = s_iᵀ y_j`, shape `(m, m)`.
      yy: `yy[i, j] = y_iᵀ y_j`, shape `(m, m)`.
      head: the slot that the next pair overwrites, an int32 scalar in `[0, m)`.
    """

    s: Params
    y: Params
    ss: Float[Array, "m m"]
    sy: Float[Array, "m m"]
    yy: Float[Array, "m m"]
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
    check_memory_size(memory_size)
    trees.check_floating(params)

    def zeros(leaf: Array) -> Array:
        return jnp.zeros((memory_size, *jnp.shape(leaf)), jnp.result_type(leaf))

    dtype = trees.scalar_dtype(jax.tree.map(jnp.asarray, params))
    # Three arrays, not one thrice: a buffer that is there twice could not be donated.
    ss, sy, yy = (jnp.zeros((memory_size, memory_size), dtype) for _ in range(3))
    return History(
        s=jax.tree.map(zeros, params),
        y=jax.tree.map(zeros, params),
        ss=ss,
        sy=sy,
        yy=yy,
        head=jnp.zeros((), jnp.int32),
    )


def check_memory_size(memory_size: Any) -> None:
    """Raises ValueError unless `memory_size` is a positive integer."""
    if not isinstance(memory_size, int) or memory_size < 1:
        raise ValueError(f"memory_size must be an integer of at least 1, but got {memory_size!r}.")


def memory_size(history: History) -> int:
    """m, the number of pairs the history has room for."""
    return history.sy.shape[0]


def push(history: History, s: Params, y: Params, *, keep: Bool[Array, ""] | None = None) -> History:
    """Overwrites the oldest pair by `(s, y)`, whatever the sign of `sᵀy`.

    Args:
      history: the window so far.
      s: step, a pytree like the parameters.
      y: gradient difference, likewise.
      keep: if given and false, the history comes back unchanged. The choice is made on the one slot
        that would change, not on the whole history.

    Returns:
      The history with the new pair and its 2(2m+1) inner products.

    Raises:
      ValueError: if `s` and `y` differ in structure or shape.
    """
    trees.check_same_structure(s, y, names=("s", "y"))
    slot, m = history.head, memory_size(history)

    def write(stack: Array, row: Array) -> Array:
        row = row.astype(stack.dtype)
        if keep is not None:
            row = jnp.where(keep, row, stack[slot])
        return stack.at[slot].set(row)

    steps = jax.tree.map(write, history.s, s)
    diffs = jax.tree.map(write, history.y, y)
    if keep is not None:  # the products below must be those of the row that was written
        s = jax.tree.map(lambda stack: stack[slot], steps)
        y = jax.tree.map(lambda stack: stack[slot], diffs)
    s_s, s_y = trees.stacked_vdot(steps, s, m), trees.stacked_vdot(steps, y, m)
    y_s, y_y = trees.stacked_vdot(diffs, s, m), trees.stacked_vdot(diffs, y, m)
    head = (slot + 1) % m
    return History(
        s=steps,
        y=diffs,
        ss=history.ss.at[slot, :].set(s_s).at[:, slot].set(s_s),
        sy=history.sy.at[slot, :].set(y_s).at[:, slot].set(s_y),
        yy=history.yy.at[slot, :].set(y_y).at[:, slot].set(y_y),
        head=head if keep is None else jnp.where(keep, head, slot),
    )


def age_order(history: History) -> Int[Array, " m"]:
    """The slots from the oldest pair to the newest, shape `(m,)`."""
    m = memory_size(history)
    return (history.head + jnp.arange(m)) % m


def newest(history: History) -> Int[Array, ""]:
    """The slot of the newest pair."""
    return (history.head - 1) % memory_size(history)


def initial_scaling(history: History) -> Float[Array, ""]:
    """γ = |sᵀy| / yᵀy of the newest pair, skipped or not; 1 where y = 0 (Algorithm 1, line 6)."""
    i = newest(history)
    sy, yy = history.sy[i, i], history.yy[i, i]
    usable = yy > 0
    return jnp.where(usable, jnp.abs(sy) / jnp.where(usable, yy, 1.0), 1.0)
