"""Inner products of pytrees, in as few passes over memory as the backend can make."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from jax_lbfgs_pi import trees
from jax_lbfgs_pi.linalg.meshes import is_explicit
from jax_lbfgs_pi.trees import Params, scalar_dtype

# Measured on two CPU cores, with m from 5 to 40.
CHUNK = 4096
"""So many float64 are summed one after the other, and a sixteenth as many float32, which so keep
about six digits: the rounding errors grow with the number."""
AT_ONCE = 20  # sums that share a pass: with more, the pass slows down
LONG = 65_536  # from this size on, products of rows are faster in one pass than as matrix · vector


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
    if not is_explicit(like):
        return None
    return NamedSharding(jax.typeof(like).sharding.mesh, PartitionSpec(*[None] * ndim))


def vdot(a: Params, b: Params) -> Float[Array, ""]:
    """The inner product aᵀb of two pytrees of one structure."""
    dtype = scalar_dtype((a, b))
    return _sum_leaves(lambda x, y: _contract(x, y, dtype), (), a, b)


def vdots(*pairs: tuple[Params, Params]) -> Float[Array, " k"]:
    """The inner products aᵀb of k pairs of pytrees, all of one structure.

    What the operands are computed from is read, and no operand stored as a vector.
    """
    dtype = scalar_dtype(pairs)

    def of_leaf(*leaves: Array) -> Array:
        form = _pairs_in_one_pass if on_one_cpu(*leaves) else _pairs_one_by_one
        operands = [leaf.astype(dtype) for leaf in leaves]
        return form(operands[::2], operands[1::2])

    return _sum_leaves(of_leaf, (len(pairs),), *(tree for pair in pairs for tree in pair))


def stacked_vdots(stacks: tuple[Params, ...], v: Params, num_rows: int) -> Float[Array, "k m"]:
    """The inner products of all rows of k stacks with `v`.

    Args:
      stacks: pytrees whose leaves have shape `(num_rows, *leaf.shape)`.
      v: pytree whose leaves have shape `leaf.shape`.
      num_rows: m, given so that a tree without leaves has a result too.
    """
    dtype = scalar_dtype((stacks, v))

    def of_leaf(leaf: Array, *rows: Array) -> Array:
        in_one_pass = leaf.size >= LONG and on_one_cpu(leaf, *rows)
        form = _rows_in_one_pass if in_one_pass else _rows_by_stack
        return form(leaf.astype(dtype), *(stack.astype(dtype) for stack in rows))

    return _sum_leaves(of_leaf, (len(stacks), num_rows), v, *stacks)


def on_one_cpu(*arrays: Array) -> bool:
    """Whether a program for these arrays runs on one CPU device, without a partitioner."""
    # XLA's CPU backend makes several reductions one pass only if they are one operation, and that
    # no partitioner splits over devices. Elsewhere separate ones are fused, or split. Explicit mesh
    # axes, be it of one device, do not allow the reshape.
    alone = jax.device_count() == 1 and jax.default_backend() == "cpu"
    return alone and not any(is_explicit(x) for x in arrays)


def _pairs_one_by_one(a: list[Array], b: list[Array]) -> Float[Array, " k"]:
    return jnp.stack([jnp.sum(x * y) for x, y in zip(a, b, strict=True)])


@jax.custom_jvp
def _pairs_in_one_pass(a: list[Array], b: list[Array]) -> Float[Array, " k"]:
    return _in_one_pass([x * y for x, y in zip(a, b, strict=True)])


@_pairs_in_one_pass.defjvp
def _pairs_in_one_pass_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # One by one here too, as JAX cannot differentiate the other form a second time.
    (a, b), (da, db) = primals, tangents
    return _pairs_one_by_one(a, b), _pairs_one_by_one(a, db) + _pairs_one_by_one(da, b)


def _rows_by_stack(v: Array, *stacks: Array) -> Float[Array, "k m"]:
    return jnp.stack([_contract(stack, v, v.dtype) for stack in stacks])


@jax.custom_jvp
def _rows_in_one_pass(v: Array, *stacks: Array) -> Float[Array, "k m"]:
    return _in_one_pass([row * v for stack in stacks for row in stack]).reshape(len(stacks), -1)


@_rows_in_one_pass.defjvp
def _rows_in_one_pass_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # In matrix form, so that the transpose is a combination, and not one row after the other; and
    # as JAX cannot differentiate the other form a second time.
    (v, *stacks), (dv, *d_stacks) = primals, tangents
    return _rows_by_stack(v, *stacks), _rows_by_stack(v, *d_stacks) + _rows_by_stack(dv, *stacks)


def _in_one_pass(arrays: list[Array]) -> Float[Array, " k"]:
    """The sums of k arrays of one shape."""
    arrays = [x.ravel() for x in arrays]
    chunk = CHUNK if arrays[0].dtype == jnp.float64 else CHUNK // 16
    num_chunks, num_left = divmod(arrays[0].size, chunk)
    total = jnp.zeros(len(arrays), arrays[0].dtype)
    if num_left:
        total += _sums([x[x.size - num_left :] for x in arrays])
    if num_chunks:
        total += _sums([x[: x.size - num_left].reshape(-1, chunk) for x in arrays]).sum(1)
    return total


def _sums(arrays: list[Array]) -> Float[Array, "k ..."]:
    """The sums over the last axis, each number after the other: one loop of CPU code for all."""
    sums = []
    for i in range(0, len(arrays), AT_ONCE):
        some = tuple(arrays[i : i + AT_ONCE])
        zeros = tuple(jnp.zeros((), x.dtype) for x in some)
        sums.extend(lax.reduce(some, zeros, _add, (some[0].ndim - 1,)))
    return jnp.stack(sums)


def _add(x: tuple[Array, ...], y: tuple[Array, ...]) -> tuple[Array, ...]:
    # At the top of the module: a function made anew for each call would be compiled anew.
    return tuple(map(jnp.add, x, y))


def positive(x: Array) -> Array:
    """Whether x may be divided by: of its own, a GPU has numbers so small that 1/x is infinite."""
    return x >= jnp.finfo(x.dtype).tiny


def nonzero(x: Array) -> Array:
    """Whether x or -x is `positive`."""
    return positive(jnp.abs(x))


def root(square: Array) -> Array:
    """The square root, 0 of what is not positive; its derivative is finite at 0 too: 0."""
    usable = positive(square)
    return jnp.where(usable, jnp.sqrt(jnp.where(usable, square, 1.0)), 0.0)


def divisor(x: Array) -> Array:
    """x, but 1 where it is not positive: of a quotient that is not used there."""
    return jnp.where(positive(x), x, 1.0)


def norm(a: Params) -> Float[Array, ""]:
    """The 2-norm of a pytree, also where its square is out of the dtype's range."""
    square = vdot(a, a)
    info = jnp.finfo(square.dtype)
    exact = (square > info.tiny / info.eps) & (square < info.max)
    # A second pass over memory only where it is needed; none of the entries may be infinite there.
    return lax.cond(exact, lambda: root(square), lambda: _scaled_norm(a))


def _scaled_norm(a: Params) -> Float[Array, ""]:
    largest = max_norm(a)
    usable = positive(largest) & jnp.isfinite(largest)
    divisor = jnp.where(usable, largest, 1.0)
    # XLA may multiply by 1 / divisor, which of the greatest numbers is small enough to count as 0.
    unit = jnp.where(divisor > 1.0, jnp.finfo(divisor.dtype).eps, 1.0).astype(divisor.dtype)
    scaled = jax.tree.map(lambda leaf: leaf.astype(divisor.dtype) * unit / (divisor * unit), a)
    return jnp.where(usable, divisor * root(vdot(scaled, scaled)), largest)


def max_norm(a: Params) -> Float[Array, ""]:
    """The max-norm of a pytree, 0 of one without leaves."""
    dtype = scalar_dtype(a)
    sizes = [jnp.max(jnp.abs(x), initial=0.0).astype(dtype) for x in jax.tree.leaves(a)]
    return functools.reduce(jnp.maximum, sizes, jnp.zeros((), dtype))


def step_products(
    g: Params, x: Params, prev_g: Params, prev_x: Params, started: Array
) -> tuple[Array, ...]:
    """gᵀs, gᵀy, sᵀs, sᵀy, yᵀy and gᵀg, with s = x - prev_x and y = g - prev_g; one pass.

    All but the last are 0 before the first step.
    """
    # A difference that is used both before and after a reduction XLA would store. So s and y are
    # computed anew wherever they are read, each time in other words: here as -s and -y.
    minus_s, minus_y = trees.subtract(prev_x, x), trees.subtract(prev_g, g)
    pairs = ((minus_s, minus_s), (minus_s, minus_y), (minus_y, minus_y))
    gs, gy, ss, sy, yy, gg = vdots((g, minus_s), (g, minus_y), *pairs, (g, g))
    zero = jnp.zeros_like(gg)
    return *(jnp.where(started, p, zero) for p in (-gs, -gy, ss, sy, yy)), gg
