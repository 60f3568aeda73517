"""Linear algebra on pytrees: inner products and combinations, leaf by leaf.

Leaves are never ravelled into one vector, so every leaf keeps its own sharding, and every product
is accumulated at the highest precision the hardware has, so TF32 or bfloat16 passes never decide a
step.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PyTree

Params = PyTree[Any]
"""A pytree of floating-point arrays: parameters, gradients, directions."""

CHUNK = 4096
"""How many numbers are summed one after the other; the threads share the chunks."""

SHORT = 128
"""Up to this size a combination of rows is faster as a product of matrices, in a batch on a CPU."""


def scalar_dtype(tree: Params) -> Any:
    """The dtype of inner products over `tree`: float32, or wider if a leaf is wider."""
    return jnp.result_type(jnp.float32, *(leaf.dtype for leaf in jax.tree.leaves(tree)))


def _sum_leaves(product: Callable[..., Array], shape: tuple[int, ...], *trees: Params) -> Array:
    # `start` fixes dtype and shape when a tree has no leaves (optax.masked can mask them all).
    start = jnp.zeros(shape, scalar_dtype(trees))
    return sum(map(product, *map(jax.tree.leaves, trees)), start)


def _contract(a: Array, b: Array, dtype: Any) -> Array:
    """Contract all dimensions of `b` with the last ones of `a`."""
    a_dims = tuple(range(a.ndim - b.ndim, a.ndim))
    dims = ((a_dims, tuple(range(b.ndim))), ((), ()))
    return lax.dot_general(
        a.astype(dtype),
        b.astype(dtype),
        dims,
        precision=lax.Precision.HIGHEST,
        preferred_element_type=dtype,
        out_sharding=_replicated(a, ndim=a.ndim - b.ndim),
    )


def _replicated(like: Array, ndim: int) -> NamedSharding | None:
    """What an inner product must be told where mesh axes are explicit; None elsewhere."""
    mesh = jax.typeof(like).sharding.mesh
    if AxisType.Explicit not in mesh.axis_types:
        return None
    return NamedSharding(mesh, PartitionSpec(*[None] * ndim))


def vdot(a: Params, b: Params) -> Float[Array, ""]:
    """The inner product aᵀb of two pytrees of one structure."""
    dtype = scalar_dtype((a, b))
    return _sum_leaves(lambda x, y: _contract(x, y, dtype), (), a, b)


def vdots(*pairs: tuple[Params, Params]) -> Float[Array, " k"]:
    """The inner products aᵀb of k pairs of pytrees, all of one structure.

    What the operands are computed from is read, and no operand stored as a vector.
    """
    dtype = scalar_dtype(pairs)
    sides = [[jax.tree.leaves(tree) for tree in side] for side in zip(*pairs, strict=True)]
    # XLA's CPU backend makes several reductions one pass only if they are one operation, and that
    # no partitioner splits over devices.
    alone = jax.device_count() == 1 and jax.default_backend() == "cpu"
    of_leaf = _products_in_one_pass if alone else _products_one_by_one
    total = jnp.zeros(len(pairs), dtype)
    for a, b in zip(*(zip(*side, strict=True) for side in sides), strict=True):
        total += of_leaf([x.astype(dtype) for x in a], [x.astype(dtype) for x in b])
    return total


def _products_one_by_one(a: list[Array], b: list[Array]) -> Float[Array, " k"]:
    return jnp.stack([jnp.sum(x * y) for x, y in zip(a, b, strict=True)])


@jax.custom_jvp
def _products_in_one_pass(a: list[Array], b: list[Array]) -> Float[Array, " k"]:
    products = [(x * y).ravel() for x, y in zip(a, b, strict=True)]
    num_chunks, num_left = divmod(products[0].size, CHUNK)
    total = jnp.stack(_sums([x[x.size - num_left :] for x in products]))
    if num_chunks:
        chunks = [x[: x.size - num_left].reshape(num_chunks, CHUNK) for x in products]
        total += jnp.stack(_sums(chunks)).sum(1)
    return total


@_products_in_one_pass.defjvp
def _products_in_one_pass_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (a, b), (da, db) = primals, tangents
    tangent = _products_one_by_one(a, db) + _products_one_by_one(da, b)
    return _products_in_one_pass(a, b), tangent


def _sums(arrays: list[Array]) -> list[Array]:
    """The sums over the last axis, one after the other: one loop of CPU code for all arrays."""

    def add(x: tuple[Array, ...], y: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(map(jnp.add, x, y))

    zeros = tuple(jnp.zeros((), x.dtype) for x in arrays)
    return list(lax.reduce(tuple(arrays), zeros, add, (arrays[0].ndim - 1,)))


def norm(a: Params) -> Float[Array, ""]:
    """The 2-norm of a pytree."""
    return jnp.sqrt(vdot(a, a))


def stacked_vdot(stack: Params, v: Params, num_rows: int) -> Float[Array, " m"]:
    """The `num_rows` inner products of the rows of `stack` with `v`.

    Args:
      stack: pytree whose leaves have shape `(num_rows, *leaf.shape)`.
      v: pytree whose leaves have shape `leaf.shape`.
      num_rows: m, given so that a tree without leaves has a result too.
    """
    dtype = scalar_dtype((stack, v))
    return _sum_leaves(lambda x, y: _contract(x, y, dtype), (num_rows,), stack, v)


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
    del axis_size
    axes = jax.tree.map(lambda batched: 0 if batched else None, tuple(in_batched))
    return jax.vmap(_in_a_batch, axes)(*args), True


@weighted_sum.defjvp
def _weighted_sum_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # The derivative in matrix form, so that its transpose is m products at once, not one by one.
    scale, base, *terms = primals
    d_scale, d_base, *d_terms = tangents
    dtype = scale.dtype
    tangent = d_scale * base.astype(dtype) + scale * d_base.astype(dtype)
    for (c, stack), (d_c, d_stack) in zip(terms, d_terms, strict=True):
        tangent += _mix(d_c, stack.astype(dtype)) + _mix(c, d_stack.astype(dtype))
    return weighted_sum(*primals), tangent


def _mix(coefficients: Array, stack: Array) -> Array:
    dims = (((0,), (0,)), ((), ()))
    return lax.dot_general(coefficients, stack, dims, precision=lax.Precision.HIGHEST)


def matvec(a: Float[Array, "i j"], v: Float[Array, " j"]) -> Float[Array, " i"]:
    """The product of a small matrix and a vector, in full precision."""
    return lax.dot_general(a, v, (((1,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)


def zeros_like(leaf: Any, rows: int | None = None) -> Array:
    """Zeros like a leaf, or a stack of `rows` of them, with the leaf's sharding under `jit` too."""
    # Computed from the leaf, or XLA would not know where they belong: nothing is NaN and infinite.
    # With an explicit dtype, as a weakly typed parameter would cost a second compilation.
    leaf = jnp.asarray(leaf)
    zeros = (jnp.isnan(leaf) & jnp.isinf(leaf)).astype(jnp.result_type(leaf))
    return zeros if rows is None else jnp.broadcast_to(zeros[None], (rows, *zeros.shape))


def where(condition: Array, a: Params, b: Params) -> Params:
    """`a` if the scalar `condition` holds, else `b`, leaf by leaf."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), a, b)


def subtract(a: Params, b: Params) -> Params:
    """The difference a - b, leaf by leaf."""
    return jax.tree.map(lambda x, y: x - y, a, b)


def zeros(a: Params) -> Params:
    """Zeros like a pytree of arrays."""
    return jax.tree.map(jnp.zeros_like, a)


def check_floating(params: Params) -> None:
    """Raises TypeError unless every leaf is a real floating-point array."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"Parameters must be real floating-point arrays, but the leaf "
                f"'{jax.tree_util.keystr(path) or '.'}' is {dtype}: convert it, or leave it out "
                f"with optax.masked."
            )


def check_same_structure(a: Params, b: Params, *, names: tuple[str, str]) -> None:
    """Raises ValueError unless `a` and `b` agree in structure and in every leaf's shape."""
    tree_a, tree_b = jax.tree.structure(a), jax.tree.structure(b)
    if tree_a != tree_b:
        raise ValueError(
            f"{names[0]} and {names[1]} must be pytrees of one structure, but got "
            f"{tree_a} and {tree_b}."
        )
    leaves_b = jax.tree.leaves(b)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), leaves_b, strict=True):
        if jnp.shape(x) != jnp.shape(y):
            raise ValueError(
                f"{names[0]} and {names[1]} must agree in shape, but at the leaf "
                f"'{jax.tree_util.keystr(path) or '.'}' they have {jnp.shape(x)} and "
                f"{jnp.shape(y)}."
            )
