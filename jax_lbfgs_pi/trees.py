"""Pytrees of parameters: leaf-wise operations, and the checks of what users pass."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

Params = PyTree[Any]
"""A pytree of floating-point arrays: parameters, gradients, directions."""


def scalar_dtype(tree: Params) -> Any:
    """The dtype of inner products over `tree`: float32, or wider if a leaf is wider."""
    return jnp.result_type(jnp.float32, *(leaf.dtype for leaf in jax.tree.leaves(tree)))


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


def size(a: Params) -> int:
    """n, the number of entries of all leaves."""
    return sum(jnp.size(leaf) for leaf in jax.tree.leaves(a))


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
