"""The point that an update is given: its inner products with what is known, and the verdict."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jax_lbfgs_pi import linalg, trees
from jax_lbfgs_pi.acceptance import Guard, Trial, judge
from jax_lbfgs_pi.policy import Pair
from jax_lbfgs_pi.state import ScaleByLBFGSPiState
from jax_lbfgs_pi.trees import Params

LEAST_COSINE = 1e-10
"""A pair with sᵀy at most this times ‖s‖‖y‖ tells nothing of the curvature, and is not stored."""
LEAST_CURVATURE = 1e-60
"""Nor is one with sᵀy/sᵀs at most this times the greatest yᵀy/sᵀy of all pairs so far: so H stays
bounded, whatever the units. From a steep wall down to a flat valley it may fall by 1e30."""


class Measured(NamedTuple):
    """A trial, and the inner products of g there, of the step s that led to it, and of y.

    Attributes:
      params: the point.
      grads: g, the gradient there.
      gs, gy, ss, sy, yy, gg: the products; all but the last are 0 at the first point.
      finite: whether the gradient is.
    """

    params: Params
    grads: Params
    gs: Float[Array, ""]
    gy: Float[Array, ""]
    ss: Float[Array, ""]
    sy: Float[Array, ""]
    yy: Float[Array, ""]
    gg: Float[Array, ""]
    finite: Bool[Array, ""]

    def step(self) -> Pair:
        """The products of the last step."""
        return Pair(self.ss, self.sy, self.yy)


class Direction(NamedTuple):
    """A direction with its products, and the memory after it.

    Attributes:
      d: -H g, a pytree.
      dg, dy: its products with g and y.
      history: the memory.
      with_g: [S Y]ᵀg, what else of a window the state keeps; None of a matrix.
    """

    d: Params
    dg: Float[Array, ""]
    dy: Float[Array, ""]
    history: Any
    with_g: Any = None


def measure(grads: Params, state: ScaleByLBFGSPiState, params: Params, reading: Any) -> Measured:
    """The products of the new vectors, all in one pass; `reading` is what the memory made of g."""
    gs, gy, ss, sy, yy, gg = linalg.step_products(
        grads, params, state.prev_grads, state.prev_params, state.count > 0
    )
    finite = jnp.isfinite(gg + reading.check())
    return Measured(params, grads, gs, gy, ss, sy, yy, gg, finite)


def accept(
    guard: Guard | None,
    new: Measured,
    value: Array | None,
    eps: float,
    state: ScaleByLBFGSPiState,
) -> tuple[Bool[Array, ""] | None, Float[Array, ""]]:
    """Whether the trial is accepted, None without a guard; and where the next one lies if not."""
    one = jnp.ones((), new.gg.dtype)
    if guard is None:
        return None, one
    finite = new.finite if value is None else new.finite & jnp.isfinite(value)
    trial = Trial(value, new.gs - new.sy, new.gs, finite, eps)
    good, share = judge(guard, trial, state.values, state.count == 1)
    started = state.count > 0
    return jnp.where(started, good, finite), jnp.where(started, share, one)


def informs(
    new: Measured, accepted: Bool[Array, ""], state: ScaleByLBFGSPiState
) -> Bool[Array, ""]:
    """Whether the step and the change of g are a pair that tells something of the curvature."""
    bends = new.sy > LEAST_COSINE * jnp.sqrt(new.ss) * jnp.sqrt(new.yy)
    bends &= new.sy > LEAST_CURVATURE * state.steepest * new.ss
    return (state.count > 0) & accepted & bends & linalg.positive(new.sy)


def pair_vectors(new: Measured, state: ScaleByLBFGSPiState) -> tuple[Params, Params]:
    """The vectors s and y; at the first point they mean nothing."""
    return (
        trees.subtract(new.params, state.prev_params),
        trees.subtract(new.grads, state.prev_grads),
    )


def raveled(
    state: ScaleByLBFGSPiState, grads: Params, params: Params, dtype: Any
) -> tuple[Array, Array, Array]:
    """The vectors g, y and s, for memories that are matrices; at the first point g alone counts."""
    g, prev_g, x, prev_x = (
        linalg.ravel(tree, dtype) for tree in (grads, state.prev_grads, params, state.prev_params)
    )
    return g, g - prev_g, x - prev_x


def unguarded(
    new: Measured,
    accepted: Bool[Array, ""] | None,
    stored: Bool[Array, ""] | None,
    state: ScaleByLBFGSPiState,
) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Whether the trial is accepted, and its pair stored, of a matrix also where no guard says."""
    if accepted is None or stored is None:
        accepted = new.finite
        stored = accepted & (state.count > 0) & linalg.positive(new.sy)
    return accepted, stored


def down_where_lost(
    way: Float[Array, " n"],
    gamma: Float[Array, ""],
    vectors: tuple[Float[Array, " n"], Float[Array, " n"]],
    new: Measured,
    accepted: Bool[Array, ""],
) -> tuple[Float[Array, " n"], Float[Array, ""], Float[Array, ""], Bool[Array, ""]]:
    """H g of a matrix, or γ g where rounding or overflow has left H not positive definite.

    Args:
      way: H g.
      gamma: γ.
      vectors: g and y, raveled.
      new: the trial.
      accepted: whether it was; else nothing is lost.

    Returns:
      H g or γ g, its products with g and y, and whether H is lost, and to be begun anew.
    """
    g, y = vectors
    wg, wy, ww = linalg.vdots((way, g), (way, y), (way, way))
    lost = accepted & ~(linalg.positive(wg) & jnp.isfinite(ww)) & linalg.positive(new.gg)
    way, wg, wy = (
        jnp.where(lost, gamma * down, other)
        for down, other in ((g, way), (new.gg, wg), (new.gy, wy))
    )
    return way, wg, wy, lost
