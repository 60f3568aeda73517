"""Linear algebra on pytrees: inner products, combinations and writes, leaf by leaf.

Leaves are never ravelled into one vector, so every leaf keeps its own sharding, and every product
is accumulated at the highest precision the hardware has, so TF32 or bfloat16 passes never decide a
step. What a compiler needs to be told, or in which form, stands here and nowhere else.
"""

from jax_lbfgs_pi.linalg.combinations import SHORT, matvec, weighted_sum
from jax_lbfgs_pi.linalg.kernels import one_kernel
from jax_lbfgs_pi.linalg.meshes import Rows, any_shard, total, vary_over, varying_axes
from jax_lbfgs_pi.linalg.products import (
    AT_ONCE,
    CHUNK,
    LONG,
    divisor,
    max_norm,
    nonzero,
    norm,
    on_one_cpu,
    positive,
    root,
    stacked_vdots,
    step_products,
    vdot,
    vdots,
)
from jax_lbfgs_pi.linalg.symmetric import (
    can_be_raveled,
    ravel,
    symmetric_products,
    symmetric_update,
    two_terms,
    unravel,
)
from jax_lbfgs_pi.linalg.writes import (
    choose_after,
    each_once,
    materialize,
    within_range,
    write_difference,
    write_row,
)

__all__ = [
    "AT_ONCE",
    "CHUNK",
    "LONG",
    "SHORT",
    "Rows",
    "any_shard",
    "can_be_raveled",
    "choose_after",
    "divisor",
    "each_once",
    "materialize",
    "matvec",
    "max_norm",
    "nonzero",
    "norm",
    "on_one_cpu",
    "one_kernel",
    "positive",
    "ravel",
    "root",
    "stacked_vdots",
    "step_products",
    "symmetric_products",
    "symmetric_update",
    "total",
    "two_terms",
    "unravel",
    "vary_over",
    "varying_axes",
    "vdot",
    "vdots",
    "weighted_sum",
    "within_range",
    "write_difference",
    "write_row",
]
