"""One step, as the algorithm is stated: accept, remember, scale, direct, go."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from jax_lbfgs_pi import linalg, trees
from jax_lbfgs_pi.acceptance import Guard, Trial, judge, remember
from jax_lbfgs_pi.direction import Coefficients, combine, direction_coefficients
from jax_lbfgs_pi.history import (
    History,
    curvatures,
    head_mask,
    newest_mask,
    pairs_vdot,
    replace,
    write,
    write_if,
)
from jax_lbfgs_pi.policy import InnerProducts, Observation, Pair, StepPolicy
from jax_lbfgs_pi.trees import Params

LEAST_COSINE = 1e-10
"""A pair with sᵀy at most this times ‖s‖‖y‖ tells nothing of the curvature, and is not stored."""
LEAST_CURVATURE = 1e-14
"""Nor is one with sᵀy/sᵀs at most this times the greatest yᵀy/sᵀy of all pairs so far: so H stays
bounded, whatever the units."""


class ScaleByLBFGSPiState(NamedTuple):
    """State of `scale_by_lbfgs_pi`: (2m + 2) n numbers and O(m²) more.

    Attributes:
      count: accepted points so far, x0 among them; an int32 scalar.
      num_retreats: trials rejected so far, an int32 scalar.
      rejections: how many of them in a row, up to the last update; an int32 scalar.
      prev_params: x_{k-1}, the last accepted point; a pytree like the parameters; zeros before the
        first update.
      prev_grads: g_{k-1}, the gradient there.
      prev_gg: ‖g_{k-1}‖², a scalar.
      values: f at the last accepted points, newest first, shape `(WINDOW,)`; -inf where unknown.
      history: the curvature pairs and their inner products.
      history_grads: Sᵀg_{k-1} and Yᵀg_{k-1}, by slot, shape `(2, m)`. With those of the next
        gradient they give the products with y, which so need no pass of their own. Of empty slots
        and skipped pairs they mean nothing and are never used.
      pair: `sᵀs`, `sᵀy` and `yᵀy` of the newest pair.
      steepest: the greatest `yᵀy / sᵀy` of all pairs so far, a scalar.
      last_ss: the squared length of the last accepted step that moved, a scalar.
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
    values: Float[Array, " w"]
    history: History
    history_grads: Float[Array, "2 m"]
    pair: Pair
    steepest: Float[Array, ""]
    last_ss: Float[Array, ""]
    memory: Any
    step_size: Float[Array, ""]
    grad_norm: Float[Array, ""]


class Proposal(NamedTuple):
    """A step of which only the size is missing.

    Attributes:
      d: the direction -H g, or the last step if it was rejected; a pytree.
      seen: what the policy may read, the direction's products aside.
      products: the rest; meaningless if the trial was rejected.
      params: the trial.
      accepted: whether it was; None without a guard.
      share: where the next trial lies if not, as a share of the last step.
      kept: the next state if it was not, but for `step_size`.
      moved: the next state if it was, but for `step_size`.
    """

    d: Params
    seen: Observation
    products: InnerProducts
    params: Params
    accepted: Bool[Array, ""] | None
    share: Float[Array, ""]
    kept: ScaleByLBFGSPiState
    moved: ScaleByLBFGSPiState


def propose(
    policy: StepPolicy,
    grads: Params,
    state: ScaleByLBFGSPiState,
    params: Params,
    value: Any = None,
    guard: Guard | None = None,
) -> Proposal:
    """All of an update that does not need the step size."""
    dtype = state.history_grads.dtype
    value = None if value is None else jnp.asarray(value, dtype)
    grads = linalg.materialize(grads)
    started = state.count > 0

    # First pass: the products of the new vectors, all at once.
    gs, gy, ss, sy, yy, gg = linalg.step_products(
        grads, params, state.prev_grads, state.prev_params, started
    )
    with_g = pairs_vdot(state.history, grads)
    finite = jnp.isfinite(gg + jnp.sum(with_g))

    # Accept.
    if guard is None:
        accepted, share, stored = None, jnp.ones((), dtype), None
        # Each pair takes a slot, but what is not finite must not be written: 0 · NaN is NaN.
        sy = jnp.where(finite, sy, 0.0)
    else:
        if value is not None:
            finite &= jnp.isfinite(value)
        trial = Trial(value, gs - sy, gs, finite)
        good, share = judge(guard, trial, state.values, state.count == 1)
        accepted = jnp.where(started, good, finite)
        share = jnp.where(started, share, 1.0)
        stored = started & accepted & (sy > LEAST_COSINE * jnp.sqrt(ss) * jnp.sqrt(yy))
        stored &= sy > LEAST_CURVATURE * state.steepest * ss

    # Remember. [S Y]ᵀy is [S Y]ᵀg_k - [S Y]ᵀg_{k-1}, rounded like y itself; but for the pair's own.
    slot = head_mask(state.history)
    points, slopes = (params, state.prev_params), (grads, state.prev_grads)
    if stored is None:
        pair = trees.subtract(*points), trees.subtract(*slopes)
        history = write(state.history, *trees.where(started & finite, pair, trees.zeros(pair)))
    else:
        slot &= stored
        history = write_if(state.history, stored, points, slopes)
    with_y = jnp.where(slot, jnp.stack([sy, yy])[:, None], with_g - state.history_grads)
    with_g = jnp.where(slot, jnp.stack([gs, gy])[:, None], with_g)
    history = history._replace(products=replace(history.products, slot, with_y, sy))
    step = Pair(ss, sy, yy)
    pair = step if stored is None else trees.where(stored, step, state.pair)

    # Scale.
    has_value = jnp.asarray(value is not None)
    known = state.values[0] > -jnp.inf
    seen = Observation(
        count=state.count,
        value=jnp.zeros((), dtype) if value is None else value,
        prev_value=jnp.where(known, state.values[0], 0.0),
        has_values=has_value & known,
        has_value=has_value,
        gg=gg,
        prev_gg=state.prev_gg,
        start_slope=gs - sy,
        end_slope=gs,
        step=step,
        pair=pair,
        last_ss=jnp.where(ss > 0, ss, state.last_ss),
        step_size=state.step_size,
        rejections=state.rejections,
        num_pairs=jnp.sum(history.products.sy > 0),
        curvatures=curvatures(history),
        memory_size=with_g.shape[1],
        num_params=trees.size(params),
    )
    scaling, memory = policy.scale(seen, state.memory)

    # Direct.
    trusted = newest_mask(history, scaling.num_pairs)
    coefficients = direction_coefficients(history.products, scaling.gamma, with_g, trusted)
    dg, dy = _products_of(coefficients, with_g, with_y, gg, gy)
    if guard is not None:
        # H is positive definite, but by rounding may cease to be: then down the gradient.
        downhill = Coefficients(jnp.zeros_like(coefficients.pairs), -scaling.gamma)
        coefficients = trees.where(dg < 0, coefficients, downhill)
        dg, dy = _products_of(coefficients, with_g, with_y, gg, gy)
    d = combine(coefficients, history, grads)  # the second pass
    if accepted is not None:  # else the way back
        last = trees.subtract(params, state.prev_params)
        d = trees.where(accepted, d, last)
    if policy.reads_ds:
        start = trees.where(started, state.prev_params, params)
        dd, ds = linalg.vdots((d, d), (d, trees.subtract(params, start)))
    else:
        dd, ds = linalg.vdot(d, d), jnp.zeros((), dtype)
    # dᵀg and dᵀy are as exact as d itself; dᵀd from coefficients would lose twice as many digits.
    products = InnerProducts(dd=dd, dg=dg, ds=ds, dy=dy, gg=gg, gs=gs, gy=gy, ss=ss, sy=sy, yy=yy)

    grad_norm = jnp.sqrt(gg)
    moved = ScaleByLBFGSPiState(
        count=jnp.asarray(optax.safe_increment(state.count)),
        num_retreats=state.num_retreats,
        rejections=jnp.zeros_like(state.rejections),
        prev_params=params,
        prev_grads=grads,
        prev_gg=gg,
        values=remember(state.values, value, jnp.asarray(True)),
        history=history,
        history_grads=with_g,
        pair=pair,
        steepest=jnp.maximum(state.steepest, curvatures(history)[0]),
        last_ss=seen.last_ss,
        memory=memory,
        step_size=state.step_size,
        grad_norm=grad_norm,
    )
    kept = state._replace(
        num_retreats=state.num_retreats + 1,
        rejections=state.rejections + 1,
        history=history,
        grad_norm=grad_norm,
    )
    return Proposal(d, seen, products, params, accepted, share, kept, moved)


def _products_of(
    coefficients: Coefficients, with_g: Array, with_y: Array, gg: Array, gy: Array
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The dᵀg and dᵀy of a direction from its coefficients, in which they are linear."""
    with_gy = jnp.stack([with_g.ravel(), with_y.ravel()])
    dg, dy = linalg.matvec(with_gy, coefficients.pairs.ravel())
    return dg + coefficients.g * gg, dy + coefficients.g * gy


def take(
    proposal: Proposal, step_size: Float[Array, ""], memory: Any = ()
) -> tuple[Params, ScaleByLBFGSPiState]:
    """The update t H g, or what leads back to the next trial, and the state after it."""
    accepted, kept, new = proposal.accepted, proposal.kept, proposal.moved
    new = new._replace(step_size=step_size, memory=memory)
    if accepted is None:
        accepted, t = jnp.asarray(True), step_size
    else:
        kept = kept._replace(step_size=proposal.share * kept.step_size)
        t = jnp.where(accepted, step_size, proposal.share - 1.0)
    # The history is the same in both: no choice, no copy.
    small = (x._replace(history=()) for x in (new, kept))
    state = linalg.choose_after(proposal.products.dd + jnp.abs(step_size), accepted, *small)

    def update(d: Array, x: Array) -> Array:
        way = (-t * d).astype(d.dtype)
        return way if proposal.accepted is None else linalg.within_range(way, x)

    updates = jax.tree.map(update, proposal.d, proposal.params)
    return updates, state._replace(history=new.history)
