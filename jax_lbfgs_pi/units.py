"""Units of f in which the squares of gradients are neither infinite nor 0.

In float32 a gradient of 1e20 is a number, and its square is none. The step is free of the units of
f, so they can be chosen: they change by a power of 2, which rounds nothing, and only where they
must. In float64 squares reach from 1e-308 to 1e308, and nothing is done.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jax_lbfgs_pi import trees
from jax_lbfgs_pi.dense_history import DenseHistory, FullHistory, begun
from jax_lbfgs_pi.history import History, init_products
from jax_lbfgs_pi.policy import Pair
from jax_lbfgs_pi.state import ScaleByLBFGSPiState
from jax_lbfgs_pi.trees import Params

AnyHistory = History | DenseHistory | FullHistory

FACTOR = 2.0**40
"""By so much the unit changes at once."""
LEAST_SQUARE, MOST_SQUARE = 1e-25, 1e25
"""Of a gradient, in its unit; beyond these products lose digits, or are infinite."""


def enter(state: ScaleByLBFGSPiState, grads: Params, value: Any) -> tuple[Params, Any]:
    """Gradient and value in the state's unit."""
    if not _needed(state):
        return grads, value
    grads = _times(grads, state.unit)
    return grads, None if value is None else jnp.asarray(value) * state.unit


def adapt(state: ScaleByLBFGSPiState) -> ScaleByLBFGSPiState:
    """The state in another unit, if the square of its gradient is out of range in this.

    At x0 the unit falls until the square is finite; x stays there meanwhile. Later it grows where
    the gradient has become small, and falls again where that was a plateau, from which a step led
    down a slope. Pairs are dropped then: their gradients were larger, or smaller, by 1e12.
    """
    if not _needed(state):
        return state
    state = state._replace(grad_norm=state.grad_norm / state.unit)
    least = jnp.where(state.count == 0, FACTOR**-3, 1.0)
    large = (state.grad_norm == jnp.inf) | (state.count > 0) & (state.prev_gg > MOST_SQUARE)
    large &= state.unit > least
    small = (state.count > 0) & (state.prev_gg < LEAST_SQUARE) & (state.unit < FACTOR**2)
    changes = small | large
    scale = jnp.where(large, 1.0 / FACTOR, jnp.where(small, FACTOR, 1.0)).astype(state.unit.dtype)
    zero = jnp.zeros_like(state.unit)
    return state._replace(
        unit=state.unit * scale,
        prev_grads=_times(state.prev_grads, scale),
        prev_gg=state.prev_gg * scale * scale,
        values=state.values._replace(last=state.values.last * scale),
        history=_emptied(state.history, changes),
        history_grads=jax.tree.map(lambda a: jnp.where(changes, 0.0, a), state.history_grads),
        pair=trees.where(changes, Pair(zero, zero, zero), state.pair),
        steepest=jnp.where(changes, 0.0, state.steepest),
    )


def _emptied(history: AnyHistory, empties: Bool[Array, ""]) -> AnyHistory:
    if isinstance(history, DenseHistory):
        return history._replace(num_pairs=jnp.where(empties, 0, history.num_pairs))
    if isinstance(history, FullHistory):
        return trees.where(empties, begun(history.ways, history.last, history.rows), history)
    products = history.products
    empty = init_products(products.sy.size, products.sy.dtype)
    return history._replace(products=trees.where(empties, empty, products))


def _needed(state: ScaleByLBFGSPiState) -> bool:
    return state.unit.dtype == jnp.float32


def _times(grads: Params, unit: Float[Array, ""]) -> Params:
    return jax.tree.map(lambda g: (g.astype(unit.dtype) * unit).astype(g.dtype), grads)
