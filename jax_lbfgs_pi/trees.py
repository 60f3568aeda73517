"""Pytrees of parameters: leaf-wise operations, and the checks of what users pass."""

import numbers
import operator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, PyTree

Params = PyTree[Any]
"""A pytree of floating-point arrays: parameters, gradients, directions."""


def scalar_dtype(tree: Params) -> Any:
    """The dtype of inner products over `tree`: float32, or wider if a leaf is wider."""
    # Said so, as JAX's strict mode promotes nothing.
    wide = any(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(tree))
    return jnp.dtype(jnp.float64 if wide else jnp.float32)


def zeros_like(leaf: Any, rows: int | None = None) -> Array:
    """Zeros like a leaf, or a stack of `rows` of them, with the leaf's sharding under `jit` too."""
    # Computed from the leaf, or XLA would not know where they belong: nothing is NaN and infinite.
    # With an explicit dtype, as a weakly typed parameter would cost a second compilation.
    leaf = jnp.asarray(leaf)
    zeros = (jnp.isnan(leaf) & jnp.isinf(leaf)).astype(jnp.result_type(leaf))
    return zeros if rows is None else jnp.broadcast_to(zeros[None], (rows, *zeros.shape))


def of_arrays(params: Params) -> Params:
    """`params` as arrays: zeros where only shape and dtype are given."""
    return jax.tree.map(
        lambda x: jnp.zeros_like(x) if isinstance(x, jax.ShapeDtypeStruct) else jnp.asarray(x),
        params,
    )


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


def is_traced(value: Any) -> bool:
    """Whether `value` is an array whose numbers are not known yet."""
    return isinstance(value, Tracer)


def as_count(name: str, value: Any, *, least: int) -> int:
    """An integer option as an `int`; raises ValueError unless it is one of at least `least`."""
    if is_traced(value):
        raise ValueError(
            f"{name} must be known when a function is traced, but got {value}: make it static, "
            f"with static_argnames in jax.jit or static_args in optax.inject_hyperparams."
        )
    try:
        count = least - 1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = least - 1
    if count < least:
        raise ValueError(f"{name} must be an integer of at least {least}, but got {value!r}.")
    return count


def check_number(
    name: str, value: Any, *, sign: Literal["positive", "not negative", ""] = ""
) -> None:
    """Raises unless an option is a real number or None; what is traced is one, and not known.

    Args:
      name: of the option.
      value: of it.
      sign: "positive", "not negative", or "" for either.

    Raises:
      TypeError: for what is no scalar.
      ValueError: for NaN, or a number of the wrong sign.
    """
    if value is None or is_traced(value):
        return
    numbers_only = (numbers.Real, np.ndarray, np.generic, jax.Array)
    if not isinstance(value, numbers_only) or getattr(value, "shape", ()) != ():
        raise TypeError(f"{name} must be a number or None, but got {value!r}.")
    x = float(value)  # type: ignore[arg-type]
    if sign == "":
        fits, wanted = x == x, "a number"
    elif sign == "positive":
        fits, wanted = x > 0, "positive"
    else:
        fits, wanted = x >= 0, "at least 0"
    if not fits:
        raise ValueError(f"{name} must be {wanted}, but got {value!r}.")


def equal(self: Any, other: Any) -> bool:
    """Whether two pytrees have one structure and equal leaves, of equal dtypes."""
    if self is other:
        return True
    if jax.tree.structure(self) != jax.tree.structure(other):
        return False
    pairs = zip(jax.tree.leaves(self), jax.tree.leaves(other), strict=True)
    return all(jnp.result_type(x) == jnp.result_type(y) and np.array_equal(x, y) for x, y in pairs)


def hash_of(self: Any) -> int:
    """A hash of a pytree's structure and leaves; equal for pytrees that are `equal`."""
    content = (np.asarray(leaf) for leaf in jax.tree.leaves(self))
    return hash((jax.tree.structure(self), *((x.shape, x.tobytes()) for x in content)))


def check_floating(params: Params) -> None:
    """Raises TypeError unless every leaf is a real floating-point array."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        try:
            dtype = None if isinstance(leaf, (str, bytes)) else jnp.result_type(leaf)
        except TypeError:  # no number at all
            dtype = None
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            kind = f"a {type(leaf).__name__}" if dtype is None else dtype
            raise TypeError(
                f"Parameters must be real floating-point arrays, but the leaf "
                f"'{jax.tree_util.keystr(path) or '.'}' is {kind}: convert it, or take it out "
                f"of the parameters, as equinox.partition and flax.nnx.split do."
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
