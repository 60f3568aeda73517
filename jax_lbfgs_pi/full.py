"""All pairs since the start, in two dense matrices, as the step uses them: read, remember, direct.

BFGS's H is linear in the matrix γ I that it begins with: `H = γ M + R`, where

    M₊ = Vᵀ M V,  R₊ = Vᵀ R V + ω s sᵀ / sᵀy,  V = I - y sᵀ / sᵀy,  and M = I, R = 0 without pairs.

With a new pair the one before comes in again (`again`): M and R then change in this form still, by
z for s / sᵀy, and R has a multiple of ŝ ŝᵀ more. γ can be chosen anew at each step, as L-BFGS does:
this is a window that never forgets. ω is 1 unless a policy answers another (see `Scaling`). A step
reads both matrices twice and writes them once.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jax_lbfgs_pi import linalg
from jax_lbfgs_pi.again import Again, bring, replace
from jax_lbfgs_pi.dense_history import FullHistory
from jax_lbfgs_pi.policy import Facts, Scaling
from jax_lbfgs_pi.state import ScaleByLBFGSPiState
from jax_lbfgs_pi.trees import Params
from jax_lbfgs_pi.trial import Direction, Measured, down_where_lost, raveled, unguarded


class Change(NamedTuple):
    """`A₊ = A + w zᵀ + z wᵀ` of one of the two matrices, but for what R has besides.

    With u = A y it is `A - u zᵀ - z uᵀ + yᵀu z zᵀ`, with z of `again`. Here z is √sᵀy times that,
    in the units of w: no square of either is out of range where those of s and y are not.

    Attributes:
      w: `½ (yᵀu / sᵀy) z - u / √sᵀy`; 0 where A y = 0 or there is no pair.
      way: A₊ g.
    """

    w: Float[Array, " n"]
    way: Float[Array, " n"]


class Updating(NamedTuple):
    """All of the new H but for γ and ω, which a policy chooses.

    Attributes:
      history: before the change.
      g, y, s: the vectors, raveled.
      accepted: whether the trial was; else H stays as it is.
      stored: whether there is a pair.
      start, rest: the changes of M and of R.
      s_unit: s / √sᵀy; 0 where there is no pair.
      z: what both changes have; likewise.
      slope: gᵀs / √sᵀy; likewise.
      extremes: the new ones.
      in_span: gᵀR₊g, were ω = 1.
      again: what the last pair adds.
    """

    history: FullHistory
    g: Float[Array, " n"]
    y: Float[Array, " n"]
    s: Float[Array, " n"]
    accepted: Bool[Array, ""]
    stored: Bool[Array, ""]
    start: Change
    rest: Change
    s_unit: Float[Array, " n"]
    z: Float[Array, " n"]
    slope: Float[Array, ""]
    extremes: Float[Array, "2"]
    in_span: Float[Array, ""]
    again: Again

    def facts(self) -> Facts:
        """What a policy may read of it: of the curvatures the greatest and the least."""
        most, flattest = self.extremes
        least = jnp.where(linalg.positive(flattest), 1.0 / linalg.divisor(flattest), 0.0)
        n = self.g.size
        num_pairs = self.history.num_pairs + self.stored.astype(jnp.int32)
        return Facts(num_pairs, jnp.stack([most, least]), self.in_span, n)

    def direct(self, scaling: Scaling, new: Measured, guarded: bool) -> Direction:
        """The direction -(γ M₊ + R₊) g; and the second pass, which writes both matrices."""
        del guarded
        history, g, y, s, accepted, stored, start, rest, s_unit, z, slope, extremes, _, again = self
        gamma, omega = (jnp.asarray(a, g.dtype) for a in (scaling.gamma, scaling.omega))
        omega = jnp.where(stored, omega, 1.0)  # of a bad trial it may be NaN, which 0 would not end
        gamma, omega, added = linalg.each_once(
            gamma, omega, again.added(omega, jnp.ones_like(omega))
        )
        rest_way = rest.way + (omega * slope) * s_unit + (added * again.g) * again.residue
        # s / √sᵀy = z + σ ŝ: so ω s sᵀ / sᵀy is in w but for a multiple of ŝ ŝᵀ.
        w = rest.w + omega * (0.5 * z + again.of_s * again.residue)
        more = (added + omega * again.of_s * again.of_s, again.residue)
        way = gamma * start.way + rest_way
        way, wg, wy, lost = down_where_lost(way, gamma, (g, y), new, accepted)
        keeps = jnp.where(lost, 0.0, 1.0).astype(g.dtype)
        matrices = (
            linalg.symmetric_update(
                matrix,
                history.rows,
                keeps,
                diagonal,
                *((jnp.where(lost, 0.0, c), v) for c, v in terms),
            )
            for matrix, diagonal, terms in (
                (history.start, 1.0 - keeps, linalg.two_terms(start.w, z)),
                (history.rest, jnp.zeros_like(keeps), (*linalg.two_terms(w, z), more)),
            )
        )
        anew = jnp.where(lost, jnp.stack([g, jnp.zeros_like(g)]), jnp.stack([start.way, rest_way]))
        num_pairs = jnp.where(lost, 0, history.num_pairs + stored.astype(jnp.int32))
        updated = FullHistory(
            *matrices,
            ways=jnp.where(accepted, anew, history.ways),
            extremes=jnp.where(lost, 0.0, extremes),
            num_pairs=num_pairs,
            last=replace(history.last, stored, s, y, omega),
            rows=history.rows,
        )
        d = linalg.unravel(-way, new.grads)
        return Direction(d, -wg, -wy, updated)


class Reading(NamedTuple):
    """M g and R g, with the vectors raveled.

    Attributes:
      g, y, s: the vectors.
      ways: M g and R g.
      changes: M y and R y, by how much these changed.
      products: (M y)ᵀy, (M y)ᵀg, (R y)ᵀy and (R y)ᵀg.
    """

    g: Float[Array, " n"]
    y: Float[Array, " n"]
    s: Float[Array, " n"]
    ways: Float[Array, "2 n"]
    changes: Float[Array, "2 n"]
    products: Float[Array, "4"]

    def check(self) -> Float[Array, ""]:
        """A number that is not finite if M g or R g is not."""
        return jnp.sum(jnp.abs(self.products))

    def remember(
        self,
        new: Measured,
        accepted: Bool[Array, ""] | None,
        stored: Bool[Array, ""] | None,
        state: ScaleByLBFGSPiState,
    ) -> Updating:
        """What the new pair makes of M and R."""
        accepted, stored = unguarded(new, accepted, stored, state)
        g, y, s, ways, changes, products = self
        s = jnp.where(stored, s, 0.0)
        per_sy = jnp.where(stored, 1.0 / jnp.where(stored, new.sy, 1.0), 0.0)
        changes, products = jnp.where(stored, changes, 0.0), jnp.where(stored, products, 0.0)
        root = linalg.root(per_sy)
        products = products * jnp.stack([per_sy, root, per_sy, root])
        root, slope, *products = linalg.each_once(
            root, jnp.where(stored, root * new.gs, 0.0), *products
        )
        s_unit = root * s
        history = state.history
        had = stored & (history.num_pairs > 0)
        again = bring(history.last, had, s, y, g, per_sy, new.gs)
        z, zg = s_unit - again.of_s * again.residue, slope - again.of_s * again.g
        start, rest = (
            _changed(ways[i], root * changes[i], yu, gu, z, zg)
            for i, (yu, gu) in enumerate((products[:2], products[2:]))
        )
        curvature = jnp.stack([new.yy * per_sy, new.sy / linalg.divisor(new.yy)])
        curvature = jnp.where(stored, curvature, 0.0)
        extremes = jnp.maximum(history.extremes, curvature)
        one = jnp.ones_like(slope)
        added = again.added(one, one) * again.g * again.g
        in_span = linalg.vdot(rest.way, g) + slope * slope + added
        known = (start, rest, s_unit, z, slope, extremes, in_span, again)
        return Updating(history, g, y, s, accepted, stored, *known)


def _changed(way: Array, u: Array, yu: Array, gu: Array, z: Array, zg: Array) -> Change:
    usable = linalg.positive(yu)
    half = jnp.where(usable, 0.5 * yu, 0.0)
    w = jnp.where(usable, half * z - u, 0.0)
    wg = jnp.where(usable, half * zg - gu, 0.0)
    return Change(w, way + zg * w + wg * z)


def read(state: ScaleByLBFGSPiState, grads: Params, params: Params) -> Reading:
    """The first pass over both matrices."""
    history = state.history
    g, y, s = raveled(state, grads, params, history.start.dtype)
    ways = linalg.symmetric_products((history.start, history.rest), g, history.rows)
    changes = ways - history.ways
    products = linalg.vdots(*((u, v) for u in changes for v in (y, g)))
    return Reading(g, y, s, ways, changes, products)
