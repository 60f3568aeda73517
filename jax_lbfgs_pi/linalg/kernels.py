"""Many small operations as one: what a step on few variables costs is the number of its kernels."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.xla_metadata import set_xla_metadata

from jax_lbfgs_pi import trees
from jax_lbfgs_pi.linalg.products import on_one_cpu

FEW = 25_000
"""So many numbers at most: the two matrices of 100 variables, or a window of 20 pairs of 500."""
ASKED = ((0, 10), (0, 11))
"""The first and the last JAX whose compiler is asked; from 0.12 on it does so by itself."""
KNOWN = ("float64", "float32", "int32", "bool")
"""That compiler aborts where it meets bfloat16 there."""
_ONE_KERNEL = {"xla_cpu_small_call": "true", "inlineable": "false"}


def one_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which of few numbers becomes one kernel of a CPU, and not a hundred.

    XLA's CPU backend starts each operation that it cannot fuse with the next by itself, which takes
    longer than a short operation does; but it can make one kernel of a whole called function, as it
    does by itself of short loops. Derivatives are those of `function`, and so are batches, whose
    operations are long, and whatever runs elsewhere.

    Args:
      function: from pytrees of arrays to one. It reads every number that it is given, or that
        compiler aborts; it closes over no traced values, has no callbacks, collectives, scatters or
        sorts, and is made once: outside `jit` each is compiled for itself.
    """

    @jax.jit
    def called(*args: Any) -> Any:
        with set_xla_metadata(**dict.fromkeys(_ONE_KERNEL)):  # not for each operation inside
            return function(*args)

    @jax.custom_batching.custom_vmap
    def alone(*args: Any) -> Any:
        with set_xla_metadata(**_ONE_KERNEL):
            return called(*args)

    @alone.def_vmap
    def _(axis_size: int, in_batched: Any, *args: Any) -> tuple[Any, Any]:
        if not any(jax.tree.leaves(in_batched)):
            out = alone(*args)
            return out, jax.tree.map(lambda _: False, out)
        axes = jax.tree.map(lambda batched: 0 if batched else None, tuple(in_batched))
        out = jax.vmap(function, axes, axis_size=axis_size)(*args)
        return out, jax.tree.map(lambda _: True, out)

    @jax.custom_jvp
    def differentiable(*args: Any) -> Any:
        return alone(*args)

    @differentiable.defjvp
    def _(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
        return jax.jvp(function, primals, tangents)

    def call(*args: Any) -> Any:
        args = jax.tree.map(jnp.asarray, args)
        return differentiable(*args) if _is_small(args) else function(*args)

    return call


def _is_small(args: Any) -> bool:
    asked = ASKED[0] <= jax.__version_info__[:2] <= ASKED[1]
    outside_meshes = not jax.sharding.get_abstract_mesh().manual_axes
    leaves = jax.tree.leaves(args)
    known = all(leaf.dtype.name in KNOWN for leaf in leaves)
    few = trees.size(args) <= FEW
    return asked and outside_meshes and known and few and on_one_cpu(*leaves)
