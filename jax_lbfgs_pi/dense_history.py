"""Dense memories, for few parameters or long runs."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from jax_lbfgs_pi import trees
from jax_lbfgs_pi.trees import Params


@struct.dataclass
class Dense:
    """For `memory_size`: H as a matrix of n² numbers instead of the last m pairs.

    Attributes:
      limit_gb: the greatest size of H in GB (10⁹ bytes); beyond it is an error, not a slow machine.
    """

    limit_gb: float = struct.field(pytree_node=False, default=4.0)


@struct.dataclass
class Full:
    """For `memory_size`: all pairs since the start, in two matrices of n² numbers (`full`).

    Attributes:
      limit_gb: the greatest size of both in GB (10⁹ bytes).
    """

    limit_gb: float = struct.field(pytree_node=False, default=4.0)


class DenseHistory(NamedTuple):
    """H, and how many pairs it was made of.

    Attributes:
      matrix: H, shape `(n, n)`; means nothing while there is no pair.
      way: H g at the last accepted point, -d there; likewise.
      num_pairs: pairs since H was last begun, an int32 scalar.
    """

    matrix: Float[Array, "n n"]
    way: Float[Array, " n"]
    num_pairs: Int[Array, ""]


class FullHistory(NamedTuple):
    """H = γ M + R, γ chosen anew at each step.

    Attributes:
      start: M, shape `(n, n)`; the identity without pairs.
      rest: R, shape `(n, n)`; 0 without pairs.
      ways: M g and R g at the last accepted point, shape `(2, n)`.
      extremes: the greatest `yᵀy / sᵀy` and `sᵀy / yᵀy` of all pairs, shape `(2,)`; 0 without.
      num_pairs: pairs since H was last begun, an int32 scalar.
    """

    start: Float[Array, "n n"]
    rest: Float[Array, "n n"]
    ways: Float[Array, "2 n"]
    extremes: Float[Array, "2"]
    num_pairs: Int[Array, ""]


def init_dense(params: Params, dense: Dense | Full) -> DenseHistory | FullHistory:
    """No pair yet.

    Raises:
      ValueError: if the matrices were larger than their limit.
    """
    n, dtype = trees.size(params), trees.scalar_dtype(params)
    full = isinstance(dense, Full)
    what = "A full memory" if full else "A dense H"
    size = (1 + full) * n * n * dtype.itemsize / 1e9
    if size > dense.limit_gb:
        raise ValueError(
            f"{what} for {n:,} parameters has {size:,.1f} GB, more than its limit of "
            f"{dense.limit_gb:g} GB: use a number of pairs as memory_size, or raise the limit with "
            f"memory_size={type(dense).__name__}(limit_gb=...)."
        )
    none = jnp.zeros((), jnp.int32)
    if not full:
        return DenseHistory(jnp.zeros((n, n), dtype), jnp.zeros(n, dtype), none)
    return begun(jnp.zeros((2, n), dtype))


def begun(like: Float[Array, "2 n"]) -> FullHistory:
    """A full memory without pairs, for products of this shape and dtype."""
    n, dtype = like.shape[1], like.dtype
    return FullHistory(
        start=jnp.eye(n, dtype=dtype),
        rest=jnp.zeros((n, n), dtype),
        ways=jnp.zeros_like(like),
        extremes=jnp.zeros(2, dtype),
        num_pairs=jnp.zeros((), jnp.int32),
    )
