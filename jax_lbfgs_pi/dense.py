"""H as a dense matrix over the raveled parameters, as the step uses it: read, remember, direct.

The self-scaled Broyden family (Al-Baali 1998), used for physics-informed networks by Urbán,
Stefanou & Pons (2025) and Kiyani et al. (2025): with `b = sᵀBs / sᵀy`, `h = yᵀHy / sᵀy` and
`v = s / sᵀy - Hy / yᵀHy`,

    H₊ = (H - Hy yᵀH / yᵀHy + φ yᵀHy v vᵀ) / τ + ω s sᵀ / sᵀy,

where a policy answers τ, φ and ω. All 1 it is BFGS. A step reads H twice and writes it once: for
H g, and for H₊. H y is the change of H g, and no less exact than y, which is the change of g; the
direction -H₊ g is a combination of vectors that are known by then.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jax_lbfgs_pi import linalg
from jax_lbfgs_pi.again import Again, bring, replace
from jax_lbfgs_pi.dense_history import DenseHistory
from jax_lbfgs_pi.policy import Facts, Scaling
from jax_lbfgs_pi.state import ScaleByLBFGSPiState
from jax_lbfgs_pi.trees import Params
from jax_lbfgs_pi.trial import Direction, Measured, down_where_lost, raveled, unguarded


class Change(NamedTuple):
    """H₊ - H / τ, in the span of three vectors.

    Attributes:
      s, hy: s / √sᵀy and Hy / √yᵀHy.
      residue: ŝ, see `Again`.
      root_h: √(yᵀHy / sᵀy).
      scale: 1 / τ.
      phi, omega: φ and ω.
      across, along: `A` and `B` of `_again`.
    """

    s: Float[Array, " n"]
    hy: Float[Array, " n"]
    residue: Float[Array, " n"]
    root_h: Float[Array, ""]
    scale: Float[Array, ""]
    phi: Float[Array, ""]
    omega: Float[Array, ""]
    across: Float[Array, ""]
    along: Float[Array, ""]

    def times_g(
        self, sg: Float[Array, ""], hyg: Float[Array, ""], residue_g: Float[Array, ""]
    ) -> Float[Array, " n"]:
        """Its product with g, by those of the three vectors with g."""
        v, vg = self.root_h * self.s - self.hy, self.root_h * sg - hyg
        of_pair = self.scale * (self.phi * vg * v - hyg * self.hy) + (self.omega * sg) * self.s
        of_last = self.along * residue_g - self.across * vg
        return of_pair + of_last * self.residue - (self.across * residue_g) * v

    def terms(self) -> tuple[tuple[Float[Array, ""], Float[Array, " n"]], ...]:
        """Three terms `c v vᵀ`, where its formula has six: a pass is bound by them.

        Without ŝ it is a symmetric 2×2 matrix in the span of `s` and `hy`; its eigenvalues and
        eigenvectors are two terms. Its determinant is below 0 as long as H₊ is positive definite:
        so the products with ŝ can be taken into both, and ŝ ŝᵀ is what is left.
        """
        s, hy, residue, root_h, scale, phi, omega, across, along = self
        h = root_h * root_h
        ss, sh, hh = omega + scale * phi * h, -scale * phi * root_h, scale * (phi - 1.0)
        determinant = omega * hh - scale * scale * phi * h
        usable = linalg.nonzero(determinant)
        per = jnp.where(usable, across / jnp.where(usable, determinant, 1.0), 0.0)
        more_s, more_hy = -per * (hh * root_h + sh), per * (ss + sh * root_h)
        left = along + across * (root_h * more_s - more_hy)
        mean, half = 0.5 * (ss + hh), 0.5 * (ss - hh)
        radius = jnp.hypot(half, sh)
        # One eigenvalue is a sum. The other would be a difference, but their product is known.
        far = mean + jnp.where(mean >= 0, radius, -radius)
        near = determinant / jnp.where(linalg.nonzero(far), far, 1.0)
        upper, lower = jnp.where(mean >= 0, far, near), jnp.where(mean >= 0, near, far)
        x = jnp.where(half >= 0, half + radius, sh)
        y = jnp.where(half >= 0, sh, radius - half)
        size = linalg.divisor(jnp.hypot(x, y))
        x, y, more_s, more_hy, upper, lower, left = linalg.each_once(
            x / size, y / size, more_s, more_hy, upper, lower, left
        )
        s, hy = s + more_s * residue, hy + more_hy * residue
        return (upper, x * s + y * hy), (lower, x * hy - y * s), (left, residue)


class Updating(NamedTuple):
    """What is known of H before a policy says how to change it.

    Attributes:
      history: before the change.
      reading: H g and H y.
      accepted: whether the trial was; else H stays as it is.
      stored: whether there is a pair to change it by.
      known: whether H has pairs, and is positive definite as far as they show.
      yhy, ghy: yᵀHy and gᵀHy; of the identity where H is not known.
      b, h: see `Facts`.
      again: what the last pair adds.
    """

    history: DenseHistory
    reading: "Reading"
    accepted: Bool[Array, ""]
    stored: Bool[Array, ""]
    known: Bool[Array, ""]
    yhy: Float[Array, ""]
    ghy: Float[Array, ""]
    b: Float[Array, ""]
    h: Float[Array, ""]
    again: Again

    def facts(self) -> Facts:
        """What a policy may read of it."""
        n = self.history.way.size
        num_pairs = jnp.where(self.known, self.history.num_pairs, 0) + self.stored.astype(jnp.int32)
        none = jnp.zeros(0, self.b.dtype)
        return Facts(num_pairs, none, jnp.zeros_like(self.b), n, self.b, self.h)

    def direct(self, scaling: Scaling, new: Measured, guarded: bool) -> Direction:
        """The direction -H₊ g; and the second pass, which writes H₊."""
        del guarded
        history, (g, y, s, hg, hy, *_), accepted, stored, known, yhy, ghy, _, _, again = self
        # H is γ I where it is not known.
        gamma = jnp.where(known, 1.0, scaling.gamma).astype(yhy.dtype)
        hg, hy, yhy, ghy = gamma * hg, gamma * hy, gamma * yhy, gamma * ghy
        # Where there is no pair the vectors may be anything, and are not to be touched.
        s, hy = jnp.where(stored, s, 0.0), jnp.where(stored, hy, 0.0)
        per_sy = jnp.where(stored, 1.0 / jnp.where(stored, new.sy, 1.0), 0.0)
        per_yhy = jnp.where(stored, 1.0 / jnp.where(stored, yhy, 1.0), 0.0)
        # Of a bad trial they may be NaN, which a factor of 0 would not end.
        tau, phi, omega = (
            jnp.where(stored, jnp.asarray(x, yhy.dtype), 1.0)
            for x in (scaling.tau, scaling.phi, scaling.omega)
        )
        scale = 1.0 / tau
        root_sy, root_yhy, root_h = (linalg.root(x) for x in (per_sy, per_yhy, per_sy * yhy))
        gs, ghy = (
            jnp.where(stored, root * x, 0.0) for root, x in ((root_sy, new.gs), (root_yhy, ghy))
        )
        scalars = (root_h, scale, phi, omega, *_again(again, scale, phi, omega, root_h))
        root_sy, root_yhy, gs, ghy, *scalars = linalg.each_once(
            root_sy, root_yhy, gs, ghy, *scalars
        )
        change = Change(root_sy * s, root_yhy * hy, again.residue, *scalars)
        way = change.scale * hg + change.times_g(gs, ghy, again.g)
        way, wg, wy, lost = down_where_lost(way, scaling.gamma, (g, y), new, accepted)
        changes = stored & ~lost
        matrix = linalg.symmetric_update(
            history.matrix,
            history.rows,
            jnp.where(known, jnp.where(changes, change.scale, 1.0), 0.0),
            jnp.where(known, 0.0, jnp.where(changes, change.scale * gamma, 0.0)),
            *((jnp.where(changes, c, 0.0), vector) for c, vector in change.terms()),
        )
        num_pairs = jnp.where(known & ~lost, history.num_pairs, 0) + changes.astype(jnp.int32)
        way = jnp.where(accepted, way, history.way)
        updated = DenseHistory(
            matrix, way, num_pairs, replace(history.last, changes, s, y, omega), history.rows
        )
        return Direction(linalg.unravel(-way, new.grads), -wg, -wy, updated)


def _again(
    again: Again,
    scale: Float[Array, ""],
    phi: Float[Array, ""],
    omega: Float[Array, ""],
    root_h: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`A` and `B` of what the last pair adds to H₊: `B ŝ ŝᵀ - A (v ŝᵀ + ŝ vᵀ)`.

    Of the three updates the first has τ and φ, the others are of BFGS. v is √yᵀHy times that of the
    formula.
    """
    of_z = root_h * again.of_s
    of_v = of_z - again.omega * again.of_y / linalg.divisor(root_h)
    other = 1.0 - phi
    across = scale * (of_z - other * of_v)
    along = scale * (of_z * of_z - other * of_v * of_v) + again.added(omega, scale)
    return across, along


class Reading(NamedTuple):
    """H g and H y, and what they make with g and y. Without pairs H is read as the identity.

    Attributes:
      g, s, y: the vectors, raveled.
      hg, hy: H g and H y.
      yhy, ghg, ghy: yᵀHy, gᵀHg and gᵀHy.
      known: whether H has pairs.
    """

    g: Float[Array, " n"]
    y: Float[Array, " n"]
    s: Float[Array, " n"]
    hg: Float[Array, " n"]
    hy: Float[Array, " n"]
    yhy: Float[Array, ""]
    ghg: Float[Array, ""]
    ghy: Float[Array, ""]
    known: Bool[Array, ""]

    def check(self) -> Float[Array, ""]:
        """A number that is not finite if H g is not."""
        return jnp.abs(self.yhy) + jnp.abs(self.ghg)

    def remember(
        self,
        new: Measured,
        accepted: Bool[Array, ""] | None,
        stored: Bool[Array, ""] | None,
        state: ScaleByLBFGSPiState,
    ) -> Updating:
        """Decides whether H is to be changed, and measures it along the new pair."""
        accepted, stored = unguarded(new, accepted, stored, state)
        g, y, s, hg, hy, yhy, ghg, ghy, known = self
        # H is positive definite, but by rounding may cease to be: then it is begun anew.
        down = linalg.positive(ghg) | ~linalg.positive(new.gg)
        known &= ~accepted | down & (~stored | linalg.positive(yhy))
        hg, hy = jnp.where(known, hg, g), jnp.where(known, hy, y)
        yhy, ghy = jnp.where(known, yhy, new.yy), jnp.where(known, ghy, new.gy)
        per_sy = 1.0 / jnp.where(stored, new.sy, 1.0)
        measured = known & stored
        h = jnp.where(measured, yhy * per_sy, 0.0)
        # The step was t d, so Bs = -t g; b h >= 1 by Cauchy and Schwarz, whatever rounding says.
        b = -state.step_size * (new.gs - new.sy) * per_sy
        b = jnp.where(measured, jnp.maximum(b, 1.0 / jnp.where(measured, h, 1.0)), 0.0)
        reading = self._replace(hg=hg, hy=hy)
        again = bring(state.history.last, measured, s, y, g, per_sy, new.gs)
        return Updating(state.history, reading, accepted, stored, known, yhy, ghy, b, h, again)


def read(state: ScaleByLBFGSPiState, grads: Params, params: Params) -> Reading:
    """The first pass over H."""
    history = state.history
    g, y, s = raveled(state, grads, params, history.matrix.dtype)
    (hg,) = linalg.symmetric_products((history.matrix,), g, history.rows)
    hy = hg - history.way
    yhy, ghg, ghy = linalg.vdots((y, hy), (g, hg), (g, hy))
    return Reading(g, y, s, hg, hy, yhy, ghg, ghy, history.num_pairs > 0)
