"""The state of L-BFGS-π between two updates."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jax_lbfgs_pi import linalg, trees
from jax_lbfgs_pi.acceptance import WINDOW, Values
from jax_lbfgs_pi.dense_history import Dense, Full, init_dense
from jax_lbfgs_pi.history import init_history
from jax_lbfgs_pi.policy import Pair, StepPolicy
from jax_lbfgs_pi.trees import Params


class ScaleByLBFGSPiState(NamedTuple):
    """State of `scale_by_lbfgs_pi`.

    (2m + 2) n numbers and O(m²) more; with a dense H n² + 3n, with a full memory 2n² + 4n.

    Attributes:
      count: accepted points so far, x0 among them; an int32 scalar.
      num_retreats: trials rejected so far, an int32 scalar.
      rejections: how many of them in a row, up to the last update; an int32 scalar.
      prev_params: x_{k-1}, the last accepted point; a pytree like the parameters; zeros before the
        first update.
      prev_grads: g_{k-1}, the gradient there.
      prev_gg: ‖g_{k-1}‖², a scalar.
      unit: f and g are multiplied by this, a power of 2: 1 unless squares would be out of range
        (`units`). All that stands here of f, g and y is in this unit, but for `grad_norm`.
      values: f at the last accepted points.
      history: a `History`, the curvature pairs and their inner products; or a `DenseHistory`, or a
        `FullHistory`.
      history_grads: Sᵀg_{k-1} and Yᵀg_{k-1}, by slot, shape `(2, m)`. With those of the next
        gradient they give the products with y, which so need no pass of their own. Of empty slots
        and skipped pairs they mean nothing and are never used. None where H is a matrix.
      pair: `sᵀs`, `sᵀy` and `yᵀy` of the newest pair.
      steepest: the greatest `yᵀy / sᵀy` of all pairs so far, a scalar.
      last_ss: the squared length of the last accepted step that moved, a scalar.
      trial_ss: the squared length of the trial's step, as it was proposed, a scalar; ‖x0‖² before
        the first update.
      memory: the policy's own.
      step_size: t of the trial that the last update proposed, a scalar.
      grad_norm: ‖g_k‖ at the last update, a scalar.
    """

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    num_retreats: Int[Array, ""]
    rejections: Int[Array, ""]
    prev_params: Params
    prev_grads: Params
    prev_gg: Float[Array, ""]
    unit: Float[Array, ""]
    values: Values
    history: Any
    history_grads: Any
    pair: Pair
    steepest: Float[Array, ""]
    last_ss: Float[Array, ""]
    trial_ss: Float[Array, ""]
    memory: Any
    step_size: Float[Array, ""]
    grad_norm: Float[Array, ""]


def init_state(
    policy: StepPolicy, params: Params, memory_size: int | Dense | Full
) -> ScaleByLBFGSPiState:
    """The state before the first update, with room for `memory_size` pairs.

    Raises:
      ValueError: for `memory_size < 1`, or a dense H above its limit.
      TypeError: for integer or complex parameters.
    """
    trees.check_floating(params)
    params = trees.of_arrays(params)
    dtype = trees.scalar_dtype(params)
    if isinstance(memory_size, (Dense, Full)):
        history, history_grads = init_dense(params, memory_size), None
    else:
        history = init_history(params, memory_size)
        history_grads = jnp.zeros((2, memory_size), dtype)

    def zero(dtype: Any = dtype) -> jax.Array:
        return jnp.zeros((), dtype)

    state = ScaleByLBFGSPiState(
        count=zero(jnp.int32),
        num_retreats=zero(jnp.int32),
        rejections=zero(jnp.int32),
        prev_params=jax.tree.map(trees.zeros_like, params),
        prev_grads=jax.tree.map(trees.zeros_like, params),
        prev_gg=zero(),
        unit=zero() + 1.0,
        values=Values(jnp.zeros(WINDOW, dtype), zero(jnp.int32)),
        history=history,
        history_grads=history_grads,
        pair=Pair(zero(), zero(), zero()),
        steepest=zero(),
        last_ss=zero(),
        trial_ss=linalg.vdot(params, params).astype(dtype),
        memory=policy.init(dtype),
        step_size=zero(),
        grad_norm=zero(),
    )
    return linalg.vary_over(linalg.varying_axes(params), state)
