"""All pairs since the start, in two dense matrices, as the step uses them: read, remember, direct.

BFGS's H is linear in the matrix γ I that it begins with: `H = γ M + R`, where

    M₊ = Vᵀ M V,  R₊ = Vᵀ R V + ω s sᵀ / sᵀy,  V = I - y sᵀ / sᵀy,  and M = I, R = 0 without pairs.

So γ can be chosen anew at each step, as L-BFGS does: this is a window that never forgets. ω is 1
unless a policy answers another (see `Scaling`). A step reads both matrices twice and writes them
once.
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
    """`A₊ = A - c u uᵀ + b v vᵀ` of one of the two matrices, but for what R has besides.

    Attributes:
      u, v: A y, and z - A y / yᵀAy, where z is s / sᵀy unless the last pair comes in again.
      c, b: 1 / yᵀAy, and yᵀAy; both 0 where A y = 0 or there is no pair.
      way: A₊ g.
    """

    u: Float[Array, " n"]
    v: Float[Array, " n"]
    c: Float[Array, ""]
    b: Float[Array, ""]
    way: Float[Array, " n"]


class Updating(NamedTuple):
    """All of the new H but for γ, which a policy chooses.

    Attributes:
      history: before the change.
      g, y, s: the vectors, raveled.
      accepted: whether the trial was; else H stays as it is.
      stored: whether there is a pair.
      start, rest: the changes of M and of R.
      per_sy: 1 / sᵀy; 0 where there is no pair.
      slope: gᵀs / sᵀy, likewise.
      extremes: the new ones.
      in_span: gᵀR₊g, were ω = 1.
      again: what the last pair adds; None where it does not.
    """

    history: FullHistory
    g: Float[Array, " n"]
    y: Float[Array, " n"]
    s: Float[Array, " n"]
    accepted: Bool[Array, ""]
    stored: Bool[Array, ""]
    start: Change
    rest: Change
    per_sy: Float[Array, ""]
    slope: Float[Array, ""]
    extremes: Float[Array, "2"]
    in_span: Float[Array, ""]
    again: Again | None

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
        history, g, y, s, accepted, stored, start, rest, per_sy, slope, extremes, _, again = self
        gamma, omega = (jnp.asarray(a, g.dtype) for a in (scaling.gamma, scaling.omega))
        rest = rest._replace(way=rest.way + (omega * slope) * s)
        more = ((omega * per_sy, s),)
        if again is not None:
            added = again.added(omega, jnp.ones_like(omega))
            rest = rest._replace(way=rest.way + (added * again.g) * again.residue)
            more = (*more, (added, again.residue))
        way = gamma * start.way + rest.way
        way, wg, wy, lost = down_where_lost(way, gamma, (g, y), new, accepted)
        keeps = jnp.where(lost, 0.0, 1.0).astype(g.dtype)
        matrices = (
            linalg.symmetric_update(
                matrix,
                history.rows,
                keeps,
                diagonal,
                *((jnp.where(lost, 0.0, c), v) for c, v in (*terms_of(change), *extra)),
            )
            for matrix, change, diagonal, extra in (
                (history.start, start, 1.0 - keeps, ()),
                (history.rest, rest, jnp.zeros_like(keeps), more),
            )
        )
        anew = jnp.where(lost, jnp.stack([g, jnp.zeros_like(g)]), jnp.stack([start.way, rest.way]))
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


def terms_of(change: Change) -> tuple[tuple[Array, Array], ...]:
    """For `linalg.symmetric_update`."""
    return (-change.c, change.u), (change.b, change.v)


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
        slope = jnp.where(stored, per_sy * new.gs, 0.0)
        history = state.history
        had = stored & (history.num_pairs > 0)
        again = bring(history.last, had, s, y, g, per_sy, new.gs)
        z, zg = per_sy * s, slope
        if again is not None:
            z, zg = z - again.share() * again.residue, zg - again.share() * again.g
        start, rest = (
            _changed(ways[i], changes[i], products[2 * i], products[2 * i + 1], z, zg)
            for i in range(2)
        )
        curvature = jnp.stack([new.yy * per_sy, new.sy / linalg.divisor(new.yy)])
        curvature = jnp.where(stored, curvature, 0.0)
        extremes = jnp.maximum(history.extremes, curvature)
        in_span = linalg.vdot(rest.way, g) + slope * new.gs
        if again is not None:
            one = jnp.ones_like(slope)
            in_span += again.added(one, one) * again.g * again.g
        known = (start, rest, per_sy, slope, extremes, in_span, again)
        return Updating(history, g, y, s, accepted, stored, *known)


def _changed(way: Array, u: Array, yu: Array, gu: Array, z: Array, zg: Array) -> Change:
    usable = linalg.positive(yu)
    b = jnp.where(usable, yu, 0.0)
    c = jnp.where(usable, 1.0 / jnp.where(usable, yu, 1.0), 0.0)
    v = z - c * u
    vg = jnp.where(usable, zg - c * gu, 0.0)
    return Change(u, v, c, b, way - (c * gu) * u + (b * vg) * v)


def read(state: ScaleByLBFGSPiState, grads: Params, params: Params) -> Reading:
    """The first pass over both matrices."""
    history = state.history
    g, y, s = raveled(state, grads, params, history.start.dtype)
    ways = linalg.symmetric_products((history.start, history.rest), g, history.rows)
    changes = ways - history.ways
    products = linalg.vdots(*((u, v) for u in changes for v in (y, g)))
    return Reading(g, y, s, ways, changes, products)
