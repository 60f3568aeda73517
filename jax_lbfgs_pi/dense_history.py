"""Dense memories, for few parameters or long runs."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import struct
from jax.sharding import AxisType, NamedSharding, Sharding
from jaxtyping import Array, Float, Int

from jax_lbfgs_pi import linalg, trees
from jax_lbfgs_pi.again import Last
from jax_lbfgs_pi.trees import Params


@struct.dataclass
class _Matrices:
    """What `Dense` and `Full` can be told; see there."""

    limit_gb: float = struct.field(pytree_node=False, default=4.0)
    rows: Sharding | None = struct.field(pytree_node=False, default=None)

    def __post_init__(self) -> None:
        rows, of_rows = self.rows, ([False], [False, True])  # the first of two axes alone
        if rows is None:
            return
        if not isinstance(rows, NamedSharding) or [x is None for x in rows.spec] not in of_rows:
            raise ValueError(
                "rows must be a sharding of the first axis, "
                f'NamedSharding(mesh, PartitionSpec("x")), but got {rows!r}.'
            )
        if AxisType.Explicit in rows.mesh.axis_types:
            raise ValueError(
                "rows must be on a mesh of automatic axes: make it with "
                "axis_types=(AxisType.Auto,)."
            )


@struct.dataclass
class Dense(_Matrices):
    """For `memory_size`: H as a matrix of n² numbers instead of the last m pairs.

    Attributes:
      limit_gb: the greatest size of H on a device in GB (10⁹ bytes); beyond it is an error, not a
        slow machine.
      rows: how H's rows are spread over devices, such as `NamedSharding(mesh, PartitionSpec("x"))`;
        None for all on each. Parameters and gradients should then lie whole on each: a step has one
        all-gather, of H g.

    Raises:
      ValueError: for a sharding that splits something else, or is of a mesh of explicit axes.
    """


@struct.dataclass
class Full(_Matrices):
    """For `memory_size`: all pairs since the start, in two matrices of n² numbers (`full`).

    Attributes:
      limit_gb: the greatest size of both on a device in GB (10⁹ bytes).
      rows: see `Dense`.

    Raises:
      ValueError: as `Dense`.
    """


class DenseHistory(NamedTuple):
    """H, and how many pairs it was made of.

    Attributes:
      matrix: H, shape `(n, n)`, and rows of zeros below where `Rows` has them; means nothing while
        there is no pair.
      way: H g at the last accepted point, -d there; likewise.
      num_pairs: pairs since H was last begun, an int32 scalar.
      last: the newest of them.
      rows: where H's rows lie.
    """

    matrix: Float[Array, "N n"]
    way: Float[Array, " n"]
    num_pairs: Int[Array, ""]
    last: Last
    rows: linalg.Rows


class FullHistory(NamedTuple):
    """H = γ M + R, γ chosen anew at each step.

    Attributes:
      start: M, shape `(n, n)`, and perhaps rows of zeros below; the identity without pairs.
      rest: R, likewise; 0 without pairs.
      ways: M g and R g at the last accepted point, shape `(2, n)`.
      extremes: the greatest `yᵀy / sᵀy` and `sᵀy / yᵀy` of all pairs, shape `(2,)`; 0 without.
      num_pairs: pairs since H was last begun, an int32 scalar.
      last: the newest of them.
      rows: where the rows of both lie.
    """

    start: Float[Array, "N n"]
    rest: Float[Array, "N n"]
    ways: Float[Array, "2 n"]
    extremes: Float[Array, "2"]
    num_pairs: Int[Array, ""]
    last: Last
    rows: linalg.Rows


def init_dense(params: Params, dense: Dense | Full) -> DenseHistory | FullHistory:
    """No pair yet.

    Raises:
      ValueError: if the matrices were larger than their limit.
    """
    n, dtype = trees.size(params), trees.scalar_dtype(params)
    rows = linalg.Rows(dense.rows)
    full = isinstance(dense, Full)
    what = "A full memory" if full else "A dense H"
    on_each = " on each device" if rows.parts() > 1 else ""
    size = (1 + full) * rows.count(n) // rows.parts() * n * dtype.itemsize / 1e9
    if size > dense.limit_gb:
        raise ValueError(
            f"{what} for {n:,} parameters has {size:,.1f} GB{on_each}, more than its limit of "
            f"{dense.limit_gb:g} GB: use a number of pairs as memory_size, or raise the limit with "
            f"memory_size={type(dense).__name__}(limit_gb=...), or spread its rows with rows=...."
        )
    none = jnp.zeros((), jnp.int32)
    last = Last(jnp.zeros((2, n), dtype), jnp.ones((), dtype))
    if not full:
        return DenseHistory(rows.zeros(n, dtype), jnp.zeros(n, dtype), none, last, rows)
    return begun(jnp.zeros((2, n), dtype), last, rows)


def begun(like: Float[Array, "2 n"], last: Last, rows: linalg.Rows) -> FullHistory:
    """A full memory without pairs, for products of this shape and dtype."""
    n, dtype = like.shape[1], like.dtype
    return FullHistory(
        start=rows.identity(n, dtype),
        rest=rows.zeros(n, dtype),
        ways=jnp.zeros_like(like),
        extremes=jnp.zeros(2, dtype),
        num_pairs=jnp.zeros((), jnp.int32),
        last=last,
        rows=rows,
    )
