"""Values on a mesh: of explicit axes, and inside `jax.shard_map` varying over some."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float

from jax_lbfgs_pi.trees import Params


@struct.dataclass
class Rows:
    """Where the rows of a matrix lie, equally many on each device; a pytree without leaves.

    A matrix whose number of rows the devices do not divide has rows of zeros below.

    Attributes:
      sharding: of the matrix; None where all lie together.
    """

    sharding: Any = struct.field(pytree_node=False, default=None)

    def parts(self) -> int:
        """Among how many devices they are divided."""
        if self.sharding is None:
            return 1
        axes = self.sharding.spec[0]
        names = axes if isinstance(axes, tuple) else (axes,)
        return math.prod(self.sharding.mesh.shape[name] for name in names)

    def count(self, n: int) -> int:
        """The rows of a matrix for n of them, those of zeros too."""
        return -(-n // self.parts()) * self.parts()

    def zeros(self, n: int, dtype: Any) -> Float[Array, "N n"]:
        """A matrix of zeros."""
        return self.split(jnp.zeros((self.count(n), n), dtype, device=self.sharding))

    def identity(self, n: int, dtype: Any) -> Float[Array, "N n"]:
        """The identity."""
        return self.split(jnp.eye(self.count(n), n, dtype=dtype, device=self.sharding))

    def split(self, matrix: Float[Array, "N n"]) -> Float[Array, "N n"]:
        """The matrix, each device's rows on it."""
        if self.sharding is None:
            return matrix
        return lax.with_sharding_constraint(matrix, self.sharding)

    def gather(self, vectors: Float[Array, "k N"]) -> Float[Array, "k N"]:
        """Vectors with an entry for each row, on all devices."""
        if self.sharding is None:
            return vectors
        everywhere = NamedSharding(self.sharding.mesh, PartitionSpec())
        return lax.with_sharding_constraint(vectors, everywhere)


def is_explicit(leaf: Any) -> bool:
    """Whether a leaf is on a mesh of explicit axes, where reshapes and products need telling."""
    return AxisType.Explicit in jax.typeof(leaf).sharding.mesh.axis_types


def varying_axes(tree: Params) -> frozenset[str]:
    """The mesh axes over which some leaf varies; none outside `shard_map`."""
    return frozenset().union(*(_axes(leaf) for leaf in jax.tree.leaves(tree)))


def _axes(leaf: Any) -> frozenset[str]:
    known = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    kind = getattr(known, "manual_axis_type", None)
    # Before JAX 0.10.2 the set has another name.
    return (getattr(known, "vma", None) if kind is None else kind.varying) or frozenset()


def vary_over(axes: frozenset[str], tree: Params) -> Params:
    """`tree`, but that every leaf counts as varying over `axes`, as a loop's carry has to."""

    def cast(leaf: Array) -> Array:
        missing = tuple(sorted(axes - _axes(leaf)))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(cast, tree)


def total(value: Array, params: Params) -> Array:
    """`value`, summed over the mesh axes over which the parameters do not vary.

    So does `jax.grad` with the gradient of parameters that are the same everywhere.
    """
    axes = tuple(sorted(_axes(value) - varying_axes(params)))
    return lax.psum(value, axes) if axes else value


def any_shard(flag: Bool[Array, ""]) -> Bool[Array, ""]:
    """Whether `flag` holds in any shard; outside `shard_map`, `flag`.

    A loop that holds collectives must turn equally often in all of them.
    """
    axes = tuple(jax.sharding.get_abstract_mesh().manual_axes)
    if not axes:
        return flag
    count = vary_over(frozenset(axes), flag.astype(jnp.int32))
    return lax.pmax(count, axes) > 0
