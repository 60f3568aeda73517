"""Products with a dense symmetric matrix and updates of it, each one pass over its memory.

The rows of a matrix may lie on several devices; vectors lie whole on each.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jax_lbfgs_pi.linalg.meshes import Rows, is_explicit
from jax_lbfgs_pi.linalg.products import positive, root, vdots
from jax_lbfgs_pi.linalg.writes import materialize


def ravel(tree: object, dtype: jnp.dtype) -> Float[Array, " n"]:
    """The leaves of a pytree, one after the other, as one vector."""
    leaves = [jnp.ravel(leaf).astype(dtype) for leaf in jax.tree.leaves(tree)]
    return jnp.concatenate(leaves) if leaves else jnp.zeros(0, dtype)


def unravel(vector: Float[Array, " n"], like: object) -> object:
    """The pytree like `like`, of which `ravel` makes this vector."""
    leaves, structure = jax.tree.flatten(like)
    parts, start = [], 0
    for leaf in leaves:
        size = jnp.size(leaf)
        part = vector[start : start + size].reshape(jnp.shape(leaf))
        parts.append(part.astype(jnp.result_type(leaf)))
        start += size
    return jax.tree.unflatten(structure, parts)


def can_be_raveled(tree: object) -> bool:
    """Whether the leaves may become one vector: explicit mesh axes do not allow it."""
    return not any(is_explicit(leaf) for leaf in jax.tree.leaves(tree))


def symmetric_products(
    matrices: Sequence[Float[Array, "N n"]], v: Float[Array, " n"], rows: Rows
) -> Float[Array, "k n"]:
    """A v of each of k symmetric A."""
    dims = (((1,), (0,)), ((), ()))
    products = [lax.dot_general(a, v, dims, precision=lax.Precision.HIGHEST) for a in matrices]
    return rows.gather(jnp.stack(products))[:, : v.size]


def symmetric_update(
    matrix: Float[Array, "N n"],
    rows: Rows,
    scale: Float[Array, ""],
    diagonal: Float[Array, ""],
    *terms: tuple[Float[Array, ""], Float[Array, " n"]],
) -> Float[Array, "N n"]:
    """`scale A + Σ c v vᵀ` over pairs `(c, v)`, `diagonal I` for scale A where scale is 0.

    Symmetric to the last bit if A is.

    Each term is a product of two entries of √|c| v: in which order they are taken changes nothing,
    and it is of the size of the result, when v vᵀ alone might be out of the dtype's range. What is
    multiplied by 0 may be infinite or NaN.
    """
    coefficients = jnp.stack([c for c, _ in terms])
    signs, sizes = jnp.sign(coefficients), materialize(root(jnp.abs(coefficients)))
    roots = jnp.stack(
        [jnp.where(size != 0, size * v, 0.0) for size, (_, v) in zip(sizes, terms, strict=True)]
    )
    # A sign for each entry would be a quarter of the time where the matrix is in a cache.
    signed = signs[:, None] * roots
    signed, roots = rows.gather(signed), rows.gather(roots)
    scale, diagonal, signed, roots = materialize((scale, diagonal, signed, roots))
    # One choice, by a scalar, of which a compiler makes two loops: the usual one knows no diagonal.
    row, column = (lax.broadcasted_iota(jnp.int32, matrix.shape, axis) for axis in (0, 1))
    total = jnp.where(scale != 0, scale * matrix, jnp.where(row == column, diagonal, 0.0))
    below = (0, matrix.shape[0] - matrix.shape[1])
    for u, w in zip(signed, roots, strict=True):
        total = total + jnp.pad(u, below)[:, None] * w[None, :]
    return rows.split(total)


def two_terms(
    a: Float[Array, " n"], b: Float[Array, " n"]
) -> tuple[tuple[Float[Array, ""], Float[Array, " n"]], ...]:
    """`a bᵀ + b aᵀ` as terms `c v vᵀ` for `symmetric_update`."""
    aa, bb = vdots((a, a), (b, b))
    usable = positive(aa) & positive(bb)
    aa, bb = (jnp.where(usable, x, 1.0) for x in (aa, bb))
    # Both of one length, or they would cancel. Of squares the quotient may be out of range.
    ratio = jnp.sqrt(jnp.sqrt(bb) / jnp.sqrt(aa))
    a, b = jnp.where(usable, ratio, 0.0) * a, b / ratio
    half = jnp.where(usable, 0.5, 0.0)
    return (half, a + b), (-half, a - b)
