"""New states written over old ones, in place where the old ones are donated."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from jax_lbfgs_pi import trees
from jax_lbfgs_pi.linalg.products import LONG, on_one_cpu
from jax_lbfgs_pi.trees import Params


def materialize(tree: Params) -> Params:
    """`tree`, computed once: else XLA would fuse parts of a gradient into each of its uses."""
    return lax.optimization_barrier(tree)


def each_once(*scalars: Array) -> tuple[Array, ...]:
    """The scalars, of one dtype, computed once: XLA would do it for each entry that they multiply.

    That is then what the vectors of a batch cost. A barrier alone does not hold it back.
    """
    return tuple(materialize(jnp.stack(scalars)))


def choose_after(square: Array, condition: Array, a: Params, b: Params) -> Params:
    """`a` if `condition` holds, else `b`, chosen after all that `square` is computed from.

    So XLA knows that nothing reads the old state any more, and writes the new one in its place.
    """
    condition = condition & ~(square < 0)  # squares are not
    return trees.where(condition, a, b)


def within_range(update: Array, x: Array) -> Array:
    """`update`, but for entries where x - update would leave the range of the dtype.

    From infinity there is no way back: an optimizer can add, and not set.
    """
    half = jnp.asarray(jnp.finfo(x.dtype).max / 2, x.dtype)
    target = x - update
    limit = jnp.maximum(half, jnp.abs(x))
    return jnp.where(jnp.abs(target) > limit, x - jnp.sign(target) * limit, update)


def write_row(stack: Array, row: Array, index: Array) -> Array:
    """`stack` with `row` at `index`; in place where `stack` is donated."""
    return lax.dynamic_update_index_in_dim(stack, row.astype(stack.dtype), index, 0)


def write_difference(stack: Array, a: Array, b: Array, index: Array, written: Array) -> Array:
    """`stack` with a - b at `index` if it is to be written; in place where `stack` is donated."""
    long = a.size >= LONG and on_one_cpu(stack, a, b)
    form = _write_long_difference if long else _write_or_rewrite
    return form(stack, a, b, index, written)


def _write_or_rewrite(stack: Array, a: Array, b: Array, index: Array, written: Array) -> Array:
    at = jnp.where(written, index, stack.shape[0])  # what lies outside is dropped
    return stack.at[at].set((a - b).astype(stack.dtype), mode="drop")


@jax.custom_jvp
def _write_long_difference(*args: Array) -> Array:
    return _write_or_leave(*args)


@_write_long_difference.defjvp
def _write_long_difference_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # Both without a rule for batches, as JAX then has no second derivative of a scan.
    d_stack, d_a, d_b, *_ = tangents
    tangent = _write_or_rewrite(d_stack, d_a, d_b, *primals[3:])
    return _write_or_rewrite(*primals), tangent


@jax.custom_batching.custom_vmap
def _write_or_leave(stack: Array, a: Array, b: Array, index: Array, written: Array) -> Array:
    # A row that depends on the old one XLA's CPU backend would store before it writes it; on one
    # CPU a branch costs nothing.
    def write(stack: Array) -> Array:
        return write_row(stack, a - b, index)

    return lax.cond(written, write, lambda stack: stack, stack)


@_write_or_leave.def_vmap
def _write_or_leave_vmap(axis_size: int, in_batched: list, *args: Any) -> tuple[Array, bool]:
    axes = [0 if batched else None for batched in in_batched]
    return jax.vmap(_write_or_rewrite, axes, axis_size=axis_size)(*args), True
