"""One step, as the algorithm is stated: accept, remember, scale, direct, go."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from jax_lbfgs_pi import linalg, trees
from jax_lbfgs_pi.acceptance import Guard, Trial, judge, remember
from jax_lbfgs_pi.direction import Coefficients, combine, direction_coefficients
from jax_lbfgs_pi.history import (
    History,
    curvatures,
    head_mask,
    in_span,
    memory_size,
    newest_mask,
    pairs_vdot,
    replace,
    write,
    write_if,
)
from jax_lbfgs_pi.policy import InnerProducts, Observation, Pair, Scaling, StepPolicy
from jax_lbfgs_pi.state import ScaleByLBFGSPiState
from jax_lbfgs_pi.trees import Params

LEAST_COSINE = 1e-10
"""A pair with sᵀy at most this times ‖s‖‖y‖ tells nothing of the curvature, and is not stored."""
LEAST_CURVATURE = 1e-14
"""Nor is one with sᵀy/sᵀs at most this times the greatest yᵀy/sᵀy of all pairs so far: so H stays
bounded, whatever the units."""


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
    eps = float(jnp.finfo(dtype).eps)
    if value is not None:
        value = linalg.total(jnp.asarray(value), params)
        if jnp.issubdtype(value.dtype, jnp.floating):
            eps = max(eps, float(jnp.finfo(value.dtype).eps))
        value = value.astype(dtype)
    new = _measure(linalg.materialize(grads), state, params)
    new, accepted, share = _accept(guard, new, value, eps, state)
    window = _remember(new, accepted, state)
    seen = _observe(new, window, value, state)
    scaling, memory = policy.scale(seen, state.memory)
    d, products = _direct(scaling, new, window, accepted, policy.reads_ds, state)

    grad_norm = linalg.root(new.gg)
    moved = ScaleByLBFGSPiState(
        count=jnp.asarray(optax.safe_increment(state.count)),
        num_retreats=state.num_retreats,
        rejections=jnp.zeros_like(state.rejections),
        prev_params=params,
        prev_grads=new.grads,
        prev_gg=new.gg,
        unit=state.unit,
        values=remember(state.values, value, jnp.asarray(True)),
        history=window.history,
        history_grads=window.with_g,
        pair=window.pair,
        steepest=jnp.maximum(state.steepest, seen.curvature),
        last_ss=seen.last_ss,
        trial_ss=state.trial_ss,
        memory=memory,
        step_size=state.step_size,
        grad_norm=grad_norm,
    )
    kept = state._replace(
        num_retreats=jnp.asarray(optax.safe_increment(state.num_retreats)),
        rejections=jnp.asarray(optax.safe_increment(state.rejections)),
        history=window.history,
        grad_norm=grad_norm,
    )
    return Proposal(d, seen, products, params, accepted, share, kept, moved)


class _Trial(NamedTuple):
    """The point that an update is given, and all its inner products with what is known."""

    params: Params
    grads: Params
    gs: Array
    gy: Array
    ss: Array
    sy: Array
    yy: Array
    gg: Array
    with_g: Array  # [S Y]ᵀg, by slot
    finite: Array


class _Window(NamedTuple):
    """The history after the trial, and its products with g and y."""

    history: History
    with_g: Array
    with_y: Array
    pair: Pair  # of the newest pair


def _measure(grads: Params, state: ScaleByLBFGSPiState, params: Params) -> _Trial:
    """The first pass over memory: the products of the new vectors, all at once."""
    gs, gy, ss, sy, yy, gg = linalg.step_products(
        grads, params, state.prev_grads, state.prev_params, state.count > 0
    )
    with_g = pairs_vdot(state.history, grads)
    finite = jnp.isfinite(gg + jnp.sum(with_g))
    return _Trial(params, grads, gs, gy, ss, sy, yy, gg, with_g, finite)


def _accept(
    guard: Guard | None,
    new: _Trial,
    value: Array | None,
    eps: float,
    state: ScaleByLBFGSPiState,
) -> tuple[_Trial, Array | None, Array]:
    """Whether the trial is accepted, None without a guard; and where the next one lies if not."""
    one = jnp.ones((), new.gg.dtype)
    if guard is None:
        # Each pair takes a slot, but what is not finite must not be written: 0 · NaN is NaN.
        return new._replace(sy=jnp.where(new.finite, new.sy, 0.0)), None, one
    finite = new.finite if value is None else new.finite & jnp.isfinite(value)
    trial = Trial(value, new.gs - new.sy, new.gs, finite, eps)
    good, share = judge(guard, trial, state.values, state.count == 1)
    started = state.count > 0
    return new, jnp.where(started, good, finite), jnp.where(started, share, one)


def _remember(new: _Trial, accepted: Array | None, state: ScaleByLBFGSPiState) -> _Window:
    """The pair is stored if the trial was accepted and it tells something of the curvature.

    [S Y]ᵀy is [S Y]ᵀg_k - [S Y]ᵀg_{k-1}, rounded like y itself; but for the pair's own.
    """
    started = state.count > 0
    slot, step = head_mask(state.history), Pair(new.ss, new.sy, new.yy)
    points, slopes = (new.params, state.prev_params), (new.grads, state.prev_grads)
    if accepted is None:
        vectors = trees.subtract(*points), trees.subtract(*slopes)
        vectors = trees.where(started & new.finite, vectors, trees.zeros(vectors))
        history, pair = write(state.history, *vectors), step
    else:
        stored = started & accepted & (new.sy > LEAST_COSINE * jnp.sqrt(new.ss) * jnp.sqrt(new.yy))
        stored &= new.sy > LEAST_CURVATURE * state.steepest * new.ss
        slot &= stored
        history = write_if(state.history, stored, points, slopes)
        pair = trees.where(stored, step, state.pair)
    with_y = new.with_g - state.history_grads
    with_y = jnp.where(slot, jnp.stack([new.sy, new.yy])[:, None], with_y)
    with_g = jnp.where(slot, jnp.stack([new.gs, new.gy])[:, None], new.with_g)
    history = history._replace(products=replace(history.products, slot, with_y, new.sy))
    return _Window(history, with_g, with_y, pair)


def _observe(
    new: _Trial, window: _Window, value: Array | None, state: ScaleByLBFGSPiState
) -> Observation:
    """What a policy may read before the direction is known."""
    has_value = jnp.asarray(value is not None)
    known = state.values.known > 0
    return Observation(
        count=state.count,
        value=jnp.zeros_like(new.gg) if value is None else value,
        prev_value=jnp.where(known, state.values.last[0], 0.0),
        has_values=has_value & known,
        has_value=has_value,
        gg=new.gg,
        prev_gg=state.prev_gg,
        start_slope=new.gs - new.sy,
        end_slope=new.gs,
        step=Pair(new.ss, new.sy, new.yy),
        pair=window.pair,
        # As proposed: what follows in a chain may take leaves out of the step, or shorten it.
        last_ss=jnp.where(new.ss > 0, jnp.maximum(new.ss, state.trial_ss), state.last_ss),
        step_size=state.step_size,
        rejections=state.rejections,
        num_pairs=jnp.sum(window.history.products.sy > 0),
        curvature=window.pair.curvature(),
        curvatures=curvatures(window.history),
        in_span=in_span(window.history, window.with_g),
        memory_size=memory_size(window.history),
        num_params=trees.size(new.params),
    )


def _direct(
    scaling: Scaling,
    new: _Trial,
    window: _Window,
    accepted: Array | None,
    reads_ds: bool,
    state: ScaleByLBFGSPiState,
) -> tuple[Params, InnerProducts]:
    """The second pass: d, or after a rejection the last step, the way back; and its products."""
    history, with_g = window.history, window.with_g
    trusted = newest_mask(history, scaling.num_pairs)
    coefficients = direction_coefficients(history.products, scaling.gamma, with_g, trusted)
    dg, dy = _products_of(coefficients, window, new)
    if accepted is not None:
        # H is positive definite, but by rounding may cease to be: then down the gradient.
        down = dg < 0
        coefficients = coefficients._replace(pairs=jnp.where(down, coefficients.pairs, 0.0))
        dg = jnp.where(down, dg, coefficients.g * new.gg)
        dy = jnp.where(down, dy, coefficients.g * new.gy)
    d = combine(coefficients, history, new.grads)
    if accepted is not None:
        d = trees.where(accepted, d, trees.subtract(new.params, state.prev_params))
    if reads_ds:
        start = trees.where(state.count > 0, state.prev_params, new.params)
        dd, ds = linalg.vdots((d, d), (d, trees.subtract(new.params, start)))
    else:
        dd, ds = linalg.vdot(d, d), jnp.zeros_like(new.gg)
    # dᵀg and dᵀy are as exact as d itself; dᵀd from coefficients would lose twice as many digits.
    _, _, gs, gy, ss, sy, yy, gg, _, _ = new
    return d, InnerProducts(dd=dd, dg=dg, ds=ds, dy=dy, gg=gg, gs=gs, gy=gy, ss=ss, sy=sy, yy=yy)


def _products_of(
    coefficients: Coefficients, window: _Window, new: _Trial
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The dᵀg and dᵀy of a direction from its coefficients, in which they are linear."""
    dg, dy = (jnp.sum(coefficients.pairs * with_v) for with_v in (window.with_g, window.with_y))
    return dg + coefficients.g * new.gg, dy + coefficients.g * new.gy


class Lengths(NamedTuple):
    """Lengths of steps in the units of x, numbers or scalars; None leaves them to the policy.

    Attributes:
      first: that of the first step.
      longest: the greatest.
    """

    first: Any
    longest: Any


def limit(lengths: Lengths, proposal: Proposal, t: Float[Array, ""]) -> Float[Array, ""]:
    """The step size t, or another where a length is given."""
    dd = proposal.products.dd
    moves = dd > 0
    per_length = jnp.where(moves, 1.0 / jnp.sqrt(jnp.where(moves, dd, 1.0)), 0.0)
    if lengths.first is not None:
        first = per_length * jnp.asarray(lengths.first, dd.dtype)
        t = jnp.where(proposal.seen.count == 0, first, t)
    if lengths.longest is not None:
        t = jnp.minimum(t, per_length * jnp.asarray(lengths.longest, dd.dtype))
    return t


def take(
    proposal: Proposal, step_size: Float[Array, ""], memory: Any = ()
) -> tuple[Params, ScaleByLBFGSPiState]:
    """The update t H g, or what leads back to the next trial, and the state after it."""
    accepted, kept, new = proposal.accepted, proposal.kept, proposal.moved
    trial_ss = step_size * step_size * proposal.products.dd
    new = new._replace(step_size=step_size, trial_ss=trial_ss, memory=memory)
    if accepted is None:
        accepted, t = jnp.asarray(True), step_size
    else:
        share = proposal.share
        kept = kept._replace(
            step_size=share * kept.step_size, trial_ss=share * share * kept.trial_ss
        )
        t = jnp.where(accepted, step_size, proposal.share - 1.0)
    # The history is the same in both: no choice, no copy.
    small = (x._replace(history=()) for x in (new, kept))
    state = linalg.choose_after(proposal.products.dd + jnp.abs(step_size), accepted, *small)

    def update(d: Array, x: Array) -> Array:
        way = (-t * d.astype(t.dtype)).astype(d.dtype)
        return way if proposal.accepted is None else linalg.within_range(way, x)

    updates = jax.tree.map(update, proposal.d, proposal.params)
    return updates, state._replace(history=new.history)
