"""L-BFGS-π as optax gradient transformations."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from jax_lbfgs_pi import trees
from jax_lbfgs_pi.direction import DIRECTIONS
from jax_lbfgs_pi.history import History, check_memory_size, init_history, push
from jax_lbfgs_pi.policy import InnerProducts, inner_products
from jax_lbfgs_pi.pretrained import default_policy
from jax_lbfgs_pi.trees import Params

StepPolicy = Callable[[InnerProducts], Float[Array, ""]]
"""What serves as a policy: a `Policy`, or any function of `InnerProducts` to a step size."""

RETREAT = 0.1  # after a step that failed, the share of it that is tried next


class ScaleByLBFGSPiState(NamedTuple):
    """State of `scale_by_lbfgs_pi`: (2m + 2) n numbers and O(m²) more.

    Attributes:
      count: number of updates made, an int32 scalar.
      prev_params: x_{k-1}, a pytree like the parameters; zeros before the first update.
      prev_grads: g_{k-1}, likewise.
      prev_value: f(x_{k-1}) if `value` was passed, else infinity; a scalar.
      history: the curvature pairs and their inner products.
      step_size: t_k of the last update, a scalar; 0 if that update was a retreat.
      grad_norm: ‖g_k‖ of the last update, a scalar.
      num_retreats: how many updates took a failed step back, an int32 scalar.
    """

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    prev_params: Params
    prev_grads: Params
    prev_value: Float[Array, ""]
    history: History
    step_size: Float[Array, ""]
    grad_norm: Float[Array, ""]
    num_retreats: Int[Array, ""]


def scale_by_lbfgs_pi(
    policy: StepPolicy | None = None,
    *,
    memory_size: int = 5,
    direction: str = "gram",
    guard: float | None = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """Scales a gradient g to t H g: L-BFGS's H, and a step size t = π(d, g, s, y; θ) (paper §3-4).

    One gradient per step, no line search, no control flow. The step `s` is read from the parameters
    themselves, so whatever follows in a chain may change the update.

    The guard: where the gradient or `value` is not finite, or f rose by more than `guard` times the
    decrease that the last gradient predicted, `|g_{k-1}ᵀs|`, the update goes back nine tenths of
    the last step and learns nothing from it. The test is free of the scales of f and x. Pass
    `value` if you have it: without, the rise is taken as `½(g_{k-1} + g_k)ᵀs`, exact on quadratics
    but too low behind a gradient clip, so none is tolerated, which costs some percent more steps.

    Args:
      policy: a `Policy`, or any function from `InnerProducts` to a scalar; None is the best shipped
        policy.
      memory_size: m, the number of curvature pairs kept.
      direction: `gram` (two passes over the history) or `two_loop` (the reference).
      guard: the greatest tolerated rise of f, in predicted decreases; infinity guards against
        non-finite numbers alone, None against nothing (the paper's algorithm).

    Returns:
      An optax transformation whose `update(grads, state, params, *, value=None)` needs `params` and
      never needs `value`.

    Raises:
      ValueError: for `memory_size < 1`, an unknown `direction` or a negative `guard`; from `update`
        if `params` is None, or if gradients and parameters differ in structure or shape.
      TypeError: from `init`, for integer or complex parameters.
    """
    check_memory_size(memory_size)
    if direction not in DIRECTIONS:
        raise ValueError(f"Unknown direction {direction!r}: choose one of {', '.join(DIRECTIONS)}.")
    if guard is not None and not guard >= 0:
        raise ValueError(f"guard must be None or at least 0, but got {guard!r}.")
    step_policy = default_policy() if policy is None else policy

    def init(params: Params) -> ScaleByLBFGSPiState:
        history = init_history(params, memory_size)
        dtype = history.sy.dtype

        def zeros() -> Params:
            # With an explicit dtype, or a weakly typed parameter would cost a second compilation.
            return jax.tree.map(lambda leaf: jnp.zeros_like(leaf, jnp.result_type(leaf)), params)

        return ScaleByLBFGSPiState(
            count=jnp.zeros((), jnp.int32),
            prev_params=zeros(),
            prev_grads=zeros(),
            prev_value=jnp.full((), jnp.inf, dtype),
            history=history,
            step_size=jnp.zeros((), dtype),
            grad_norm=jnp.zeros((), dtype),
            num_retreats=jnp.zeros((), jnp.int32),
        )

    def update(
        updates: Params,
        state: Any,
        params: Params | None = None,
        *,
        value: Any = None,
        **extra_args: Any,
    ) -> tuple[Params, ScaleByLBFGSPiState]:
        del extra_args
        if params is None:
            raise ValueError(
                "lbfgs_pi reads its last step from the parameters: call "
                "update(grads, state, params) with the current params."
            )
        grads = updates
        trees.check_same_structure(grads, params, names=("grads", "params"))
        trees.check_same_structure(state.prev_params, params, names=("state", "params"))

        # Before the first step there is no pair. The zero pair stands for it: it is skipped by the
        # direction, and has left the window by the time its slot is needed.
        started = state.count > 0
        zeros = jax.tree.map(jnp.zeros_like, params)
        s = trees.where(started, trees.subtract(params, state.prev_params), zeros)
        y = trees.where(started, trees.subtract(grads, state.prev_grads), zeros)
        failed = None if guard is None else _failed(grads, s, y, value, state, guard)

        keep = None if failed is None else ~failed
        history = push(state.history, s, y, keep=keep)
        d = DIRECTIONS[direction](grads, history)
        products = inner_products(d, grads, s, y)
        dtype = history.sy.dtype
        t = jnp.asarray(step_policy(products), dtype)
        out = jax.tree.map(lambda leaf: (-t * leaf).astype(leaf.dtype), d)
        new_state = ScaleByLBFGSPiState(
            count=jnp.asarray(optax.safe_increment(state.count)),
            prev_params=params,
            prev_grads=grads,
            prev_value=jnp.asarray(jnp.inf if value is None else value, dtype),
            history=history,
            step_size=t,
            grad_norm=jnp.sqrt(products.gg),
            num_retreats=state.num_retreats,
        )
        if failed is None:
            return out, new_state
        retreat = jax.tree.map(lambda leaf: ((1 - RETREAT) * leaf).astype(leaf.dtype), s)
        kept = state._replace(
            history=history,
            step_size=jnp.zeros_like(t),
            grad_norm=new_state.grad_norm,
            num_retreats=state.num_retreats + 1,
        )
        # The history was guarded slot by slot above: keep it out of this choice.
        chosen = trees.where(failed, kept._replace(history=()), new_state._replace(history=()))
        return trees.where(failed, retreat, out), chosen._replace(history=history)

    return optax.GradientTransformationExtraArgs(init, update)


def _failed(
    grads: Params, s: Params, y: Params, value: Any, state: ScaleByLBFGSPiState, guard: float
) -> Bool[Array, ""]:
    """Whether the last step led to non-finite numbers, or to a rise that the guard forbids."""
    slope_now, change = trees.vdot(grads, s), trees.vdot(y, s)
    slope = slope_now - change  # g_{k-1}ᵀs
    finite = jnp.isfinite(trees.vdot(grads, grads))
    tolerated = guard * jnp.abs(slope)
    if value is not None:
        # -inf before the first step, and after updates without a value: nothing is forbidden.
        rise = value - state.prev_value
        finite &= jnp.isfinite(value)
    else:
        rise = slope_now - 0.5 * change
        if math.isfinite(guard):
            tolerated = jnp.zeros_like(slope)
    return (state.count > 0) & (~finite | (rise > tolerated))


def lbfgs_pi(
    policy: StepPolicy | None = None,
    *,
    memory_size: int = 5,
    direction: str = "gram",
    guard: float | None = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """L-BFGS with a learned step-size policy: `scale_by_lbfgs_pi`, and a change of sign.

    Args and errors are those of `scale_by_lbfgs_pi`.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import jax_lbfgs_pi as lp
      >>> f = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> tx = lp.lbfgs_pi()
      >>> x = jnp.zeros(2)
      >>> state = tx.init(x)
      >>> for _ in range(20):
      ...     updates, state = tx.update(jax.grad(f)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> bool(jnp.allclose(x, 3.0, atol=1e-3))
      True
    """
    scale = scale_by_lbfgs_pi(policy, memory_size=memory_size, direction=direction, guard=guard)
    return optax.chain(scale, optax.scale(-1.0))
