"""The pair before the newest, brought in once more: in the order new, old, new.

A BFGS update makes `H y = ω s` hold for the newest pair (s, y), and no longer for the one before,
(p, r). Bringing that in again, and then the newest again, leaves H close to both. The three updates
are one: with the residue `ŝ = p - (pᵀy / sᵀy) s`, for which ŝᵀy = 0, the product of the three V is
`I - y zᵀ - r ŝᵀ / pᵀr`, where

    √sᵀy z = s / √sᵀy - σ ŝ,  σ = rᵀs / (pᵀr √sᵀy),

and as `H r = ω' p` held before, what they add is a multiple of ŝ ŝᵀ. So it takes four inner
products and no pass over a matrix (`docs/research/22-again.md`).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jax_lbfgs_pi import linalg


class Last(NamedTuple):
    """The newest pair that a matrix has.

    Attributes:
      vectors: p and r, shape `(2, n)`.
      omega: its ω.
    """

    vectors: Float[Array, "2 n"]
    omega: Float[Array, ""]


class Again(NamedTuple):
    """What the last pair adds to the update by the newest; all 0 where there is none.

    Attributes:
      residue: ŝ.
      g: ŝᵀg.
      of_s: σ.
      of_y: pᵀy / (pᵀr √sᵀy).
      per_pr: 1 / pᵀr.
      omega: ω' of the last pair.
    """

    residue: Float[Array, " n"]
    g: Float[Array, ""]
    of_s: Float[Array, ""]
    of_y: Float[Array, ""]
    per_pr: Float[Array, ""]
    omega: Float[Array, ""]

    def added(self, omega: Float[Array, ""], scale: Float[Array, ""]) -> Float[Array, ""]:
        """The coefficient of ŝ ŝᵀ, with ω of the new pair, whose first update scales H."""
        old = self.omega * self.per_pr * (1.0 - scale)
        return old + self.of_s * (omega * self.of_s - 2.0 * scale * self.omega * self.of_y)


def replace(
    last: Last, stored: Bool[Array, ""], s: Array, y: Array, omega: Float[Array, ""]
) -> Last:
    """The pair (s, y) in place of the last, if it is stored."""
    vectors = jnp.where(stored, jnp.stack([s, y]), last.vectors)
    return Last(vectors, jnp.where(stored, omega, last.omega))


def bring(
    last: Last,
    known: Bool[Array, ""],
    s: Float[Array, " n"],
    y: Float[Array, " n"],
    g: Float[Array, " n"],
    per_sy: Float[Array, ""],
    gs: Float[Array, ""],
) -> Again:
    """The last pair beside the newest.

    Args:
      last: the last pair.
      known: whether there are both pairs, and H has the last.
      s: that of the newest pair, which may be anything where there is none.
      y: likewise.
      g: the gradient.
      per_sy: 1 / sᵀy, likewise.
      gs: gᵀs, likewise.
    """
    p, r = last.vectors
    py, rs, pg, pr = linalg.vdots((p, y), (r, s), (p, g), (p, r))
    known &= linalg.positive(pr)
    py, rs, pg, per_sy, gs = (jnp.where(known, x, 0.0) for x in (py, rs, pg, per_sy, gs))
    slope, per_pr = py * per_sy, jnp.where(known, 1.0 / linalg.divisor(pr), 0.0)
    root = linalg.root(per_sy)  # times 1 / pᵀr it might be out of range
    slope, residue_g, of_s, of_y, per_pr = linalg.each_once(
        slope, pg - slope * gs, rs * per_pr * root, py * per_pr * root, per_pr
    )
    residue = jnp.where(known, p - slope * jnp.where(known, s, 0.0), 0.0)
    return Again(residue, residue_g, of_s, of_y, per_pr, last.omega)
