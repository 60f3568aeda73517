"""Combinations of vectors, and products of small matrices with vectors."""

from typing import Any

import jax
from jax import lax
from jaxtyping import Array, Float

# Measured on two CPU cores, with m from 5 to 40.
SHORT = 128  # up to this size, a batch of combinations is faster as vector · matrix


@jax.custom_jvp
def weighted_sum(scale: Array, base: Array, *terms: tuple[Array, Array]) -> Array:
    """`scale · base + Σ Σ_i c_i stack_i` over the pairs `(c, stack)` in `terms`.

    Written out row by row, XLA makes one pass of it; as products of a vector and a matrix, three.
    Only of short rows in a batch do the products cost less.

    Args:
      scale: a scalar.
      base: an array.
      *terms: pairs of m coefficients, shape `(m,)`, and m arrays like `base`, shape
        `(m, *base.shape)`.
    """
    return _combination(scale, base, *terms)


def _row_by_row(scale: Array, base: Array, *terms: tuple[Array, Array]) -> Array:
    total = scale * base.astype(scale.dtype)
    for coefficients, stack in terms:
        for i in range(stack.shape[0]):
            total += coefficients[i] * stack[i].astype(scale.dtype)
    return total


def _in_a_batch(scale: Array, base: Array, *terms: tuple[Array, Array]) -> Array:
    if base.size > SHORT or jax.default_backend() != "cpu":
        return _row_by_row(scale, base, *terms)
    total = scale * base.astype(scale.dtype)
    return sum((_mix(c, stack.astype(scale.dtype)) for c, stack in terms), start=total)


_combination = jax.custom_batching.custom_vmap(_row_by_row)


@_combination.def_vmap
def _combination_vmap(axis_size: int, in_batched: list, *args: Any) -> tuple[Array, bool]:
    axes = jax.tree.map(lambda batched: 0 if batched else None, tuple(in_batched))
    return jax.vmap(_in_a_batch, axes, axis_size=axis_size)(*args), True


@weighted_sum.defjvp
def _weighted_sum_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # The derivative in matrix form, so that its transpose is m products at once, not one by
    # one; and neither with a rule for batches, as JAX then has no second derivative of a scan.
    scale, base, *terms = primals
    d_scale, d_base, *d_terms = tangents
    dtype = scale.dtype
    tangent = d_scale * base.astype(dtype) + scale * d_base.astype(dtype)
    for (c, stack), (d_c, d_stack) in zip(terms, d_terms, strict=True):
        tangent += _mix(d_c, stack.astype(dtype)) + _mix(c, d_stack.astype(dtype))
    return _in_a_batch(*primals), tangent


def _mix(coefficients: Array, stack: Array) -> Array:
    dims = (((0,), (0,)), ((), ()))
    return lax.dot_general(coefficients, stack, dims, precision=lax.Precision.HIGHEST)


def matvec(a: Float[Array, "i j"], v: Float[Array, " j"]) -> Float[Array, " i"]:
    """The product of a small matrix and a vector, in full precision."""
    return lax.dot_general(a, v, (((1,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)
