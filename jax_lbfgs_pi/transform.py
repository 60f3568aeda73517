"""L-BFGS-π as optax gradient transformations."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from jax_lbfgs_pi import trees
from jax_lbfgs_pi.direction import Coefficients, combine, direction_coefficients
from jax_lbfgs_pi.history import (
    History,
    append,
    at_slot,
    by_age,
    check_memory_size,
    init_history,
    pairs_vdot,
    write,
)
from jax_lbfgs_pi.policy import InnerProducts
from jax_lbfgs_pi.pretrained import default_policy
from jax_lbfgs_pi.trees import Params

StepPolicy = Callable[[InnerProducts], Float[Array, ""]]
"""What serves as a policy: a `Policy`, or any function of `InnerProducts` to a step size."""

RETREAT = 0.1  # after a step that failed, the share of it that is tried next


class ScaleByLBFGSPiState(NamedTuple):
    """State of `scale_by_lbfgs_pi`: (2m + 2) n numbers and O(m²) more.

    Attributes:
      count: number of updates made, retreats aside, an int32 scalar.
      num_retreats: how many updates took a failed step back, an int32 scalar.
      prev_params: x_{k-1}, a pytree like the parameters; zeros before the first update.
      prev_grads: g_{k-1}, likewise.
      prev_value: f(x_{k-1}) if `value` was passed, else infinity; a scalar.
      history: the curvature pairs and their inner products.
      history_grads: Sᵀg_{k-1} and Yᵀg_{k-1}, by slot, shape `(2, m)`. With those of the next
        gradient they give the products with y, which so need no pass of their own.
      step_size: t_k of the last update, a scalar; 0 if that update was a retreat.
      grad_norm: ‖g_k‖ of the last update, a scalar.
    """

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    num_retreats: Int[Array, ""]
    prev_params: Params
    prev_grads: Params
    prev_value: Float[Array, ""]
    history: History
    history_grads: Float[Array, "2 m"]
    step_size: Float[Array, ""]
    grad_norm: Float[Array, ""]


def scale_by_lbfgs_pi(
    policy: StepPolicy | None = None,
    *,
    memory_size: int = 5,
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
      guard: the greatest tolerated rise of f, in predicted decreases; infinity guards against
        non-finite numbers alone, None against nothing (the paper's algorithm).

    Returns:
      An optax transformation whose `update(grads, state, params, *, value=None)` needs `params` and
      never needs `value`.

    Raises:
      ValueError: for `memory_size < 1` or a negative `guard`; from `update` if `params` is None, or
        if gradients and parameters differ in structure or shape.
      TypeError: from `init`, for integer or complex parameters.
    """
    check_memory_size(memory_size)
    if guard is not None and not guard >= 0:
        raise ValueError(f"guard must be None or at least 0, but got {guard!r}.")
    step_policy = default_policy() if policy is None else policy

    def init(params: Params) -> ScaleByLBFGSPiState:
        history = init_history(params, memory_size)
        dtype = history.products.dtype
        return ScaleByLBFGSPiState(
            count=jnp.zeros((), jnp.int32),
            num_retreats=jnp.zeros((), jnp.int32),
            prev_params=jax.tree.map(trees.zeros_like, params),
            prev_grads=jax.tree.map(trees.zeros_like, params),
            prev_value=jnp.full((), jnp.inf, dtype),
            history=history,
            history_grads=jnp.zeros((2, memory_size), dtype),
            step_size=jnp.zeros((), dtype),
            grad_norm=jnp.zeros((), dtype),
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
        trees.check_same_structure(updates, params, names=("grads", "params"))
        trees.check_same_structure(state.prev_params, params, names=("state", "params"))
        proposal = propose(updates, state, params, value, guard)
        step_size = jnp.asarray(step_policy(proposal.products), state.history_grads.dtype)
        return take(proposal, step_size)

    return optax.GradientTransformationExtraArgs(init, update)


class Proposal(NamedTuple):
    """A step of which only the size is missing.

    Attributes:
      d: the direction, -H g, or the way back after a step that failed; a pytree.
      products: what the policy may read.
      failed: whether the last step is to be taken back; None without a guard.
      kept: the next state if it is.
      state: the next state if it is not, but for `step_size`.
    """

    d: Params
    products: InnerProducts
    failed: Bool[Array, ""] | None
    kept: ScaleByLBFGSPiState
    state: ScaleByLBFGSPiState


def propose(
    grads: Params,
    state: ScaleByLBFGSPiState,
    params: Params,
    value: Any = None,
    guard: float | None = None,
) -> Proposal:
    """All of an update that does not need the step size."""
    dtype = state.history_grads.dtype
    # Or XLA would fuse parts of the gradient's computation into each of its uses here.
    grads = jax.lax.optimization_barrier(grads)
    started = state.count > 0
    s = trees.subtract(params, state.prev_params)
    y = trees.subtract(grads, state.prev_grads)

    # First pass: the products of the new vectors, all at once.
    gs, gy, ss, sy, yy, gg = (
        trees.vdot(a, b)
        for a, b in ((grads, s), (grads, y), (s, s), (s, y), (y, y), (grads, grads))
    )
    products_g = jnp.where(
        at_slot(state.history)[None], jnp.stack([gs, gy])[:, None], pairs_vdot(state.history, grads)
    )
    # A pair is written in any case; where it is none, before the first step or after one that
    # failed, its slot counts as empty, and 0 · NaN must not come from there. The test also tells
    # XLA that nothing reads the old pairs any more, so that it writes in place.
    finite = jnp.isfinite(gg + jnp.sum(products_g))
    history = write(state.history, *(trees.where(finite, v, trees.zeros(v)) for v in (s, y)))
    with_g = by_age(products_g, history.head)
    failed, has_pair = None, started
    if guard is not None:
        failed = started & _failed(finite, gs, sy, value, state.prev_value, guard)
        has_pair = started & ~failed
    # [S Y]ᵀy is [S Y]ᵀg_k - [S Y]ᵀg_{k-1}, rounded like y itself; but for the pair's own products.
    with_y = by_age(products_g - state.history_grads, history.head)
    with_y = jnp.concatenate([with_y[:, :-1], jnp.stack([sy, yy])[:, None]], axis=1)
    with_y = jnp.where(has_pair, with_y, 0.0)

    # The recursion, on coefficients.
    history = history._replace(products=append(state.history.products, with_y))
    coefficients, usable_grads = direction_coefficients(history, with_g), grads
    if failed is not None:  # the way back is a combination too: the last step alone
        back = Coefficients(jnp.zeros_like(with_g), jnp.ones_like(gg))
        coefficients = trees.where(failed, back, coefficients)
        usable_grads = trees.where(failed, s, grads)

    # Second pass: the combination. Products that are linear in d follow from its coefficients, as
    # exact as d itself; dᵀd would lose twice as many digits, so it is taken from the vector.
    d = combine(coefficients, history, usable_grads)
    dg, dy = jnp.sum(coefficients.pairs[None] * jnp.stack([with_g, with_y]), axis=(1, 2))
    products = InnerProducts(
        dd=trees.vdot(d, d),
        dg=dg + coefficients.g * gg,
        ds=trees.vdot(d, s),
        dy=dy + coefficients.g * gy,
        gg=gg,
        gs=gs,
        gy=gy,
        ss=ss,
        sy=sy,
        yy=yy,
    ).where_pair(started)
    grad_norm = jnp.sqrt(gg)
    moved = ScaleByLBFGSPiState(
        count=jnp.asarray(optax.safe_increment(state.count)),
        num_retreats=state.num_retreats,
        prev_params=params,
        prev_grads=grads,
        prev_value=jnp.asarray(jnp.inf if value is None else value, dtype),
        history=history,
        history_grads=products_g,
        step_size=state.step_size,
        grad_norm=grad_norm,
    )
    kept = state._replace(num_retreats=state.num_retreats + 1, history=history, grad_norm=grad_norm)
    return Proposal(d, products, failed, kept, moved)


def take(proposal: Proposal, step_size: Float[Array, ""]) -> tuple[Params, ScaleByLBFGSPiState]:
    """The update t H g, and the state after it."""
    d, _, failed, kept, state = proposal
    t = step_size
    if failed is not None:
        # The history is the same in both: no choice between them, no copy.
        chosen = trees.where(failed, kept._replace(history=()), state._replace(history=()))
        state = chosen._replace(history=state.history)
        t = jnp.where(failed, RETREAT - 1.0, t)
        step_size = jnp.where(failed, 0.0, step_size)
    updates = jax.tree.map(lambda leaf: (-t * leaf).astype(leaf.dtype), d)
    return updates, state._replace(step_size=step_size)


def _failed(
    finite: Array, gs: Array, sy: Array, value: Any, prev_value: Array, guard: float
) -> Bool[Array, ""]:
    """Whether the last step led to non-finite numbers, or to a rise that the guard forbids."""
    tolerated = guard * jnp.abs(gs - sy)  # the slope that the step began with
    if value is not None:
        # -inf after updates without a value: nothing is forbidden.
        rise = value - prev_value
        finite &= jnp.isfinite(value)
    else:
        rise = gs - 0.5 * sy
        if math.isfinite(guard):
            tolerated = jnp.zeros_like(sy)
    return ~finite | (rise > tolerated)


def lbfgs_pi(
    policy: StepPolicy | None = None,
    *,
    memory_size: int = 5,
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
    scale = scale_by_lbfgs_pi(policy, memory_size=memory_size, guard=guard)
    return optax.chain(scale, optax.scale(-1.0))
