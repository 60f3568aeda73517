"""One step, as the algorithm is stated: accept, remember, scale, direct, go."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from jax_lbfgs_pi import dense, full, limited, linalg, trees
from jax_lbfgs_pi.acceptance import Guard, remember
from jax_lbfgs_pi.dense_history import DenseHistory, FullHistory
from jax_lbfgs_pi.history import History
from jax_lbfgs_pi.policy import Facts, InnerProducts, Observation, Pair, StepPolicy
from jax_lbfgs_pi.state import ScaleByLBFGSPiState
from jax_lbfgs_pi.trees import Params
from jax_lbfgs_pi.trial import Direction, Measured, accept, informs, measure

READ: dict[type, Callable[..., Any]] = {
    History: limited.read,
    DenseHistory: dense.read,
    FullHistory: full.read,
}
"""The first pass over a memory, by its kind."""


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
    dtype = state.prev_gg.dtype
    eps = float(jnp.finfo(dtype).eps)
    if value is not None:
        value = linalg.total(jnp.asarray(value), params)
        if jnp.issubdtype(value.dtype, jnp.floating):
            eps = max(eps, float(jnp.finfo(value.dtype).eps))
        value = value.astype(dtype)
    grads = linalg.materialize(grads)
    reading = READ[type(state.history)](state, grads, params)
    new = measure(grads, state, params, reading)
    accepted, share = accept(guard, new, value, eps, state)
    stored = None if accepted is None else informs(new, accepted, state)
    known = reading.remember(new, accepted, stored, state)
    pair = new.step() if stored is None else trees.where(stored, new.step(), state.pair)
    seen = _observe(new, known.facts(), pair, value, state)
    scaling, memory = policy.scale(seen, state.memory)
    direction = known.direct(scaling, new, guarded=accepted is not None)
    d, products = _way(direction, new, accepted, policy.reads_ds, state)

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
        history=direction.history,
        history_grads=direction.with_g,
        pair=pair,
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
        history=direction.history,
        grad_norm=grad_norm,
    )
    return Proposal(d, seen, products, params, accepted, share, kept, moved)


def _observe(
    new: Measured, facts: Facts, pair: Pair, value: Array | None, state: ScaleByLBFGSPiState
) -> Observation:
    """What a policy may read before the direction is known."""
    has_value = jnp.asarray(value is not None)
    known, moved = state.values.known > 0, linalg.positive(new.ss)
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
        step=new.step(),
        pair=pair,
        # As proposed: what follows in a chain may take leaves out of the step, or shorten it.
        last_ss=jnp.where(moved, jnp.maximum(new.ss, state.trial_ss), state.last_ss),
        step_size=state.step_size,
        rejections=state.rejections,
        curvature=pair.curvature(),
        num_params=trees.size(new.params),
        start_ss=jnp.where(state.count == 0, state.trial_ss, 0.0),
        **facts._asdict(),
    )


def _way(
    direction: Direction,
    new: Measured,
    accepted: Array | None,
    reads_ds: bool,
    state: ScaleByLBFGSPiState,
) -> tuple[Params, InnerProducts]:
    """The direction, or after a rejection the last step, the way back; and its products."""
    d = direction.d
    if accepted is not None:
        d = trees.where(accepted, d, trees.subtract(new.params, state.prev_params))
    if reads_ds:
        start = trees.where(state.count > 0, state.prev_params, new.params)
        dd, ds = linalg.vdots((d, d), (d, trees.subtract(new.params, start)))
    else:
        dd, ds = linalg.vdot(d, d), jnp.zeros_like(new.gg)
    # dᵀg and dᵀy are as exact as d itself; dᵀd from coefficients would lose twice as many digits.
    _, _, gs, gy, ss, sy, yy, gg, _ = new
    products = {"gg": gg, "gs": gs, "gy": gy, "ss": ss, "sy": sy, "yy": yy}
    return d, InnerProducts(dd=dd, dg=direction.dg, ds=ds, dy=direction.dy, **products)


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
    moves = linalg.positive(dd)
    per_length = jnp.where(moves, 1.0 / jnp.sqrt(jnp.where(moves, dd, 1.0)), 0.0)
    if lengths.first is not None:
        first = per_length * jnp.asarray(lengths.first, dd.dtype)
        t = jnp.where(moves & (proposal.seen.count == 0), first, t)
    if lengths.longest is not None:
        longest = per_length * jnp.asarray(lengths.longest, dd.dtype)
        t = jnp.where(moves, jnp.minimum(t, longest), t)
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
