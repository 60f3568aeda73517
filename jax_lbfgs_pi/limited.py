"""H from the last m pairs, as the step uses it: read, remember, direct."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jax_lbfgs_pi import linalg, trees
from jax_lbfgs_pi.direction import combine, direction_coefficients
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
from jax_lbfgs_pi.policy import Facts, Scaling
from jax_lbfgs_pi.state import ScaleByLBFGSPiState
from jax_lbfgs_pi.trees import Params
from jax_lbfgs_pi.trial import Direction, Measured, pair_vectors


class Window(NamedTuple):
    """The history after the trial.

    Attributes:
      history: with the new pair, if there is one.
      with_g: its products with g.
      with_y: those with y.
      slot: the mask of the new pair's slot.
    """

    history: History
    with_g: Float[Array, "2 m"]
    with_y: Float[Array, "2 m"]
    slot: Bool[Array, " m"]

    def facts(self) -> Facts:
        """What a policy may read of it."""
        return Facts(
            num_pairs=jnp.sum(linalg.positive(self.history.products.sy)),
            curvatures=curvatures(self.history),
            in_span=in_span(self.history, self.with_g),
            memory_size=memory_size(self.history),
        )

    def direct(self, scaling: Scaling, new: Measured, guarded: bool) -> Direction:
        """The second pass over the window."""
        history, with_g, with_y, slot = self
        products = history.products
        omega = jnp.asarray(scaling.omega, products.omega.dtype)
        products = products._replace(omega=jnp.where(slot, omega, products.omega))
        history = history._replace(products=products)
        trusted = newest_mask(history, scaling.num_pairs)
        coefficients = direction_coefficients(products, scaling.gamma, with_g, trusted)
        # They are linear in the coefficients, and as exact as d itself.
        dg = jnp.sum(coefficients.pairs * with_g) + coefficients.g * new.gg
        dy = jnp.sum(coefficients.pairs * with_y) + coefficients.g * new.gy
        if guarded:
            # H is positive definite, but by rounding may cease to be: then down the gradient.
            down = dg < 0
            coefficients = coefficients._replace(pairs=jnp.where(down, coefficients.pairs, 0.0))
            dg = jnp.where(down, dg, coefficients.g * new.gg)
            dy = jnp.where(down, dy, coefficients.g * new.gy)
        return Direction(combine(coefficients, history, new.grads), dg, dy, history, with_g)


class Reading(NamedTuple):
    """The products of the window with g: [S Y]ᵀg, by slot."""

    with_g: Float[Array, "2 m"]

    def check(self) -> Float[Array, ""]:
        """A number that is finite if all of them are."""
        return jnp.sum(self.with_g)

    def remember(
        self,
        new: Measured,
        accepted: Bool[Array, ""] | None,
        stored: Bool[Array, ""] | None,
        state: ScaleByLBFGSPiState,
    ) -> Window:
        """The window with the new pair if it is `stored`; None for the paper's: each takes a slot.

        [S Y]ᵀy is [S Y]ᵀg_k - [S Y]ᵀg_{k-1}, rounded like y itself; but for the pair's own.
        """
        del accepted  # what is stored was
        slot, sy = head_mask(state.history), new.sy
        if stored is None:
            # What is not finite must not be written: 0 · NaN is NaN.
            sy = jnp.where(new.finite, sy, 0.0)
            vectors = pair_vectors(new, state)
            vectors = trees.where((state.count > 0) & new.finite, vectors, trees.zeros(vectors))
            history = write(state.history, *vectors)
        else:
            slot &= stored
            points, slopes = (new.params, state.prev_params), (new.grads, state.prev_grads)
            history = write_if(state.history, stored, points, slopes)
        with_y = self.with_g - state.history_grads
        with_y = jnp.where(slot, jnp.stack([sy, new.yy])[:, None], with_y)
        with_g = jnp.where(slot, jnp.stack([new.gs, new.gy])[:, None], self.with_g)
        history = history._replace(products=replace(history.products, slot, with_y, sy))
        return Window(history, with_g, with_y, slot)


def read(state: ScaleByLBFGSPiState, grads: Params, params: Params) -> Reading:
    """The first pass over the window."""
    del params
    return Reading(pairs_vdot(state.history, grads))
