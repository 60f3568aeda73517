"""One step of L-BFGS, all but its size: history, direction, products, and the guard."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from jax_lbfgs_pi import linalg, trees
from jax_lbfgs_pi.direction import Coefficients, combine, direction_coefficients
from jax_lbfgs_pi.history import (
    History,
    head_mask,
    pairs_vdot,
    replace,
    scaling,
    write,
)
from jax_lbfgs_pi.policy import InnerProducts
from jax_lbfgs_pi.trees import Params

RETREAT = 0.1  # after a step that failed, the share of it that is tried next


class ScaleByLBFGSPiState(NamedTuple):
    """State of `scale_by_lbfgs_pi`: (2m + 2) n numbers and O(m²) more.

    Attributes:
      count: number of updates made, retreats aside, an int32 scalar.
      num_retreats: how many updates took a failed step back, an int32 scalar.
      prev_params: x_{k-1}, that of the last update which was no retreat; a pytree like the
        parameters; zeros before the first update.
      prev_grads: g_{k-1}, likewise.
      prev_value: f(x_{k-1}) if `value` was passed, else infinity; a scalar.
      history: the curvature pairs and their inner products.
      history_grads: Sᵀg_{k-1} and Yᵀg_{k-1}, by slot, shape `(2, m)`. With those of the next
        gradient they give the products with y, which so need no pass of their own. Of empty slots
        and skipped pairs they mean nothing and are never used.
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


class Proposal(NamedTuple):
    """A step of which only the size is missing.

    Attributes:
      d: the direction, -H g, or the way back after a step that failed; a pytree.
      products: what the policy may read; meaningless if `failed`.
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

    # First pass: the products of the new vectors, all at once. Before the first step there is no
    # pair: its slot counts as empty, as pairs with sᵀy = 0 are skipped. A difference that is used
    # both before and after a reduction XLA would store. So s and y are computed anew wherever they
    # are read, each time in other words: here as -s and -y.
    minus_s = trees.subtract(state.prev_params, params)
    minus_y = trees.subtract(state.prev_grads, grads)
    pairs = ((minus_s, minus_s), (minus_s, minus_y), (minus_y, minus_y))
    new = linalg.vdots((grads, minus_s), (grads, minus_y), *pairs, (grads, grads))
    of_pair = jnp.where(started, new[:5] * jnp.asarray([-1, -1, 1, 1, 1], dtype), 0.0)
    gs, gy, ss, sy, yy = of_pair
    gg = new[5]
    slot = head_mask(state.history)
    with_g = jnp.where(slot[None], of_pair[:2, None], pairs_vdot(state.history, grads))
    # What is not finite must not be written, as 0 · NaN is NaN; the rest of s leads the way back.
    # The test also tells XLA that nothing reads the old pairs any more, so that it writes in place.
    finite = jnp.isfinite(gg + jnp.sum(with_g))
    s, y = trees.subtract(params, state.prev_params), trees.subtract(grads, state.prev_grads)
    s_row = jax.tree.map(lambda leaf: jnp.where(finite | jnp.isfinite(leaf), leaf, 0.0), s)
    history = write(state.history, s_row, trees.where(finite, y, trees.zeros(y)))
    # [S Y]ᵀy is [S Y]ᵀg_k - [S Y]ᵀg_{k-1}, rounded like y itself; but for the pair's own products.
    with_y = jnp.where(slot[None], of_pair[3:, None], with_g - state.history_grads)

    failed = None
    if guard is not None:
        failed = started & _failed(finite, gs, sy, value, state.prev_value, guard)
        # A pair whose products are all 0 is one that was never written.
        with_y, new_sy = trees.where(failed, trees.zeros((with_y, sy)), (with_y, sy))
    else:
        new_sy = sy

    # The recursion, on coefficients.
    new_products = replace(state.history.products, slot, with_y, new_sy)
    history = history._replace(products=new_products)
    coefficients = direction_coefficients(new_products, scaling(sy, yy), with_g)
    usable_grads = grads
    if failed is not None:
        # The way back is a combination too: the last step alone, which is in the window by now.
        only_s = jnp.asarray([[1.0], [0.0]], with_g.dtype) * slot[None]
        back = Coefficients(only_s, jnp.zeros_like(gg))
        coefficients = trees.where(failed, back, coefficients)
        usable_grads = trees.where(failed, trees.zeros(grads), grads)

    # Second pass: the combination. Products that are linear in d follow from its coefficients, as
    # exact as d itself; dᵀd would lose twice as many digits, so it is taken from the vector.
    d = combine(coefficients, history, usable_grads)
    with_gy = jnp.stack([with_g.ravel(), with_y.ravel()])
    dg, dy = linalg.matvec(with_gy, coefficients.pairs.ravel())
    start = trees.where(started, state.prev_params, params)
    dd, ds = linalg.vdots((d, d), (d, trees.subtract(params, start)))
    products = InnerProducts(
        dd=dd,
        dg=dg + coefficients.g * gg,
        ds=ds,
        dy=dy + coefficients.g * gy,
        gg=gg,
        gs=gs,
        gy=gy,
        ss=ss,
        sy=sy,
        yy=yy,
    )
    grad_norm = jnp.sqrt(gg)
    moved = ScaleByLBFGSPiState(
        count=jnp.asarray(optax.safe_increment(state.count)),
        num_retreats=state.num_retreats,
        prev_params=params,
        prev_grads=grads,
        prev_value=jnp.asarray(jnp.inf if value is None else value, dtype),
        history=history,
        history_grads=with_g,
        step_size=state.step_size,
        grad_norm=grad_norm,
    )
    # The failed pair took the oldest one's slot, which stays the next to be written.
    kept = state._replace(
        num_retreats=state.num_retreats + 1,
        history=history._replace(head=state.history.head),
        grad_norm=grad_norm,
    )
    return Proposal(d, products, failed, kept, moved)


def take(proposal: Proposal, step_size: Float[Array, ""]) -> tuple[Params, ScaleByLBFGSPiState]:
    """The update t H g, and the state after it."""
    d, products, failed, kept, state = proposal
    # Squares are not negative, but this tells XLA that by now nothing else reads the old state.
    stays = products.dd < 0
    t = step_size
    if failed is not None:
        stays |= failed
        t = jnp.where(failed, RETREAT - 1.0, t)
        step_size = jnp.where(failed, 0.0, step_size)
    # Rows and products of the history are the same in both: no choice between them, no copy.
    history = state.history
    same = {"s": (), "y": (), "products": ()}
    kept, state = (x._replace(history=x.history._replace(**same)) for x in (kept, state))
    state = trees.where(stays, kept, state)
    state = state._replace(history=history._replace(head=state.history.head))
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
        # Near a minimum the last bits of f go up and down by rounding alone.
        tolerated += 10 * jnp.finfo(sy.dtype).eps * jnp.abs(prev_value)
        finite &= jnp.isfinite(value)
    else:
        rise = gs - 0.5 * sy
        if math.isfinite(guard):
            tolerated = jnp.zeros_like(sy)
    return ~finite | (rise > tolerated)
