"""A dense H, for few parameters or long runs."""

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


def init_dense(params: Params, dense: Dense) -> DenseHistory:
    """No pair yet.

    Raises:
      ValueError: if H were larger than its limit.
    """
    n, dtype = trees.size(params), trees.scalar_dtype(params)
    size = n * n * dtype.itemsize / 1e9
    if size > dense.limit_gb:
        raise ValueError(
            f"A dense H for {n:,} parameters has {size:,.1f} GB, more than its limit of "
            f"{dense.limit_gb:g} GB: use a number of pairs as memory_size, or raise the limit with "
            f"memory_size=Dense(limit_gb=...)."
        )
    return DenseHistory(jnp.zeros((n, n), dtype), jnp.zeros(n, dtype), jnp.zeros((), jnp.int32))
