"""The hand-made policy: t = 1 as a rule, and what a step shows of when it should be longer."""

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from jax_lbfgs_pi import linalg
from jax_lbfgs_pi.policy.observation import InnerProducts, Observation
from jax_lbfgs_pi.policy.protocol import Scaling
from jax_lbfgs_pi.policy.self_scaling import UPDATES

STARTS = ("short", "long")


class RuleMemory(NamedTuple):
    """What the rule carries from step to step.

    Attributes:
      cap: how many times the short γ may be exceeded, at least 1.
    """

    cap: Float[Array, ""]


@struct.dataclass
class Rule:
    """Unit steps, longer where the last one fell short, never much longer than that one.

    The first step minimizes a parabola through f and g whose minimum is 0: 2|f|/‖g‖² times -g; x0
    counts as a step from 0, of which it is no longer than the limit of all steps. Later t is 1;
    where the slope hardly changed over the last step, `r = g_kᵀs / g_{k-1}ᵀs` near 1, the secant's
    1/(1 - r). γ lies between the short `sᵀy/yᵀy` and the long `sᵀs/sᵀy`, at most `cap` times the
    short one: long steps that end well raise the cap, overshoot and rejected trials lower it. All
    answers are free of the units of f and of x.

    Attributes:
      cap: the cap to begin with.
      raised: its factor after a step that did not overshoot.
      lowered: its factor after one that did.
      rejected: its factor for each rejected trial.
      raise_ratio: r from which on a step did not overshoot.
      lower_ratio: r up to which it did.
      least_slope_ratio: r from which on a step counts as short.
      longest: the greatest t.
      growth: the greatest length of a step, in lengths of the last.
      num_pairs: how many of the newest pairs are trusted; None for all.
      update: of a dense H, by name: "self-scaled-broyden", "self-scaled-bfgs" or "bfgs".
      start: of a dense H, the γ that it begins with: "short" or "long".
      omega_power: ω is the curvature's mean along the step over that at its end, to this power; 0
        is 1, the usual secant equation (Biggs 1971 has 1).
      least_omega: the least ω.
      most_omega: the greatest ω.
    """

    cap: Any = 10.0
    raised: Any = 1.3
    lowered: Any = 0.5
    rejected: Any = 0.25
    raise_ratio: Any = -0.2
    lower_ratio: Any = -0.5
    least_slope_ratio: Any = 0.9
    longest: Any = 4.0
    growth: Any = 10.0
    num_pairs: Any = None
    update: str = struct.field(pytree_node=False, default="self-scaled-broyden")
    start: str = struct.field(pytree_node=False, default="short")
    omega_power: Any = 0.5
    least_omega: Any = 0.1
    most_omega: Any = 2.0

    reads_ds: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, known in (("update", UPDATES), ("start", STARTS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"A rule's {name} must be one of {', '.join(known)}, but got "
                    f"{getattr(self, name)!r}."
                )

    def init(self, dtype: Any) -> RuleMemory:
        """The cap that the rule begins with."""
        return RuleMemory(jnp.asarray(self.cap, dtype))

    def scale(self, seen: Observation, memory: RuleMemory) -> tuple[Scaling, RuleMemory]:
        """γ = short · min(long / short, cap), ω, and all pairs; of a dense H, τ and φ."""
        cap = memory.cap
        r = seen.slope_ratio()
        raised, lowered, rejected, raise_ratio, lower_ratio = (
            jnp.asarray(x, r.dtype)
            for x in (self.raised, self.lowered, self.rejected, self.raise_ratio, self.lower_ratio)
        )
        factor = jnp.where(r > raise_ratio, raised, 1.0)
        factor = jnp.where(r < lower_ratio, lowered, factor)
        rejections = seen.rejections.astype(r.dtype)
        factor = jnp.where(seen.rejections > 0, rejected**rejections, factor)
        cap = jnp.where(seen.count > 0, jnp.maximum(cap * factor, 1.0), cap)
        # A cap without limit would take long to come down again.
        cap = jnp.minimum(cap, 1e6).astype(memory.cap.dtype)
        short = seen.short_scaling()
        gamma = jnp.minimum(seen.long_scaling(), cap * short)
        most = seen.memory_size if self.num_pairs is None else self.num_pairs
        num_pairs = jnp.asarray(most, gamma.dtype)
        omega = self._omega(seen)
        if seen.has_window():
            return Scaling(gamma, num_pairs, omega=omega), RuleMemory(cap)
        gamma = short if self.start == "short" else seen.long_scaling()
        tau, phi = self._scaled_update(seen, gamma)
        return Scaling(gamma, num_pairs, tau, phi, omega), RuleMemory(cap)

    def _omega(self, seen: Observation) -> Array:
        ratio = seen.curvature_ratio()
        power, least, most = (
            jnp.asarray(x, ratio.dtype)
            for x in (self.omega_power, self.least_omega, self.most_omega)
        )
        return jnp.clip(ratio**power, least, most)

    def _scaled_update(self, seen: Observation, gamma: Array) -> tuple[Array, Array]:
        """τ and φ; of the first pair H is γ I."""
        known, (ss, sy, yy) = linalg.positive(seen.h), seen.pair
        per_sy = 1.0 / linalg.divisor(sy)
        b = jnp.where(known, seen.b, ss * per_sy / gamma)
        h = jnp.where(known, seen.h, yy * per_sy * gamma)
        bends = linalg.positive(b) & linalg.positive(h)  # else no pair comes in
        b, h = jnp.where(bends, b, 1.0), jnp.where(bends, h, 1.0)
        tau, phi = UPDATES[self.update](b, h, seen.num_params)
        # H was too large along the last step, and so it will be along others.
        return jnp.where(seen.rejections > 0, jnp.maximum(tau, 1.0 / jnp.sqrt(b)), tau), phi

    def doubts(self, seen: Observation) -> Bool[Array, ""]:
        """Whether H may be too large: always if self-scaled and dense, else after a rejection."""
        return (seen.rejections > 0) | (not seen.has_window())

    def step_size(
        self, seen: Observation, products: InnerProducts, memory: RuleMemory
    ) -> tuple[Float[Array, ""], RuleMemory]:
        """The first step's size, then 1 or more; all at most `growth` times as long as the last."""
        r = seen.slope_ratio()
        longest, growth, least = (
            jnp.asarray(x, r.dtype) for x in (self.longest, self.growth, self.least_slope_ratio)
        )
        secant = 1.0 / jnp.maximum(1.0 - r, 1.0 / longest)
        t = jnp.where(r > least, secant, 1.0)
        doubted = self.doubts(seen)
        t = jnp.where(doubted, jnp.minimum(t, for_the_same_fall(seen, products)), t)
        moved = linalg.positive(seen.last_ss)
        t = jnp.where(moved, t, first_step_size(seen, products))
        last_ss = jnp.where(moved, seen.last_ss, seen.start_ss)
        limit = growth * linalg.root(last_ss / linalg.divisor(products.dd))
        t = jnp.where(linalg.positive(last_ss), jnp.minimum(t, limit), t)
        return t.astype(products.dd.dtype), memory


def first_step_size(seen: Observation, products: InnerProducts) -> Float[Array, ""]:
    """2|f|/|gᵀd|, which reaches f = 0 if f is a parabola; length 1 where f is unknown or 0.

    f is 0 but for rounding where x0 would not notice such a step.
    """
    slope = linalg.divisor(jnp.abs(products.dg))
    to_zero = 2.0 * jnp.abs(seen.value) / slope
    eps = float(jnp.finfo(products.dd.dtype).eps)
    noticed = to_zero > eps * linalg.root(seen.start_ss / linalg.divisor(products.dd))
    usable = seen.has_value & linalg.positive(to_zero) & noticed
    return jnp.where(usable, to_zero, 1.0 / jnp.sqrt(linalg.divisor(products.dd)))


def for_the_same_fall(seen: Observation, products: InnerProducts) -> Float[Array, ""]:
    """The t at which f falls as far as in the last step, if it is a parabola along d.

    Nocedal & Wright 2006, (3.60), the first trial of their line search; infinite where f is unknown
    or has not fallen by more than rounding.
    """
    fall = seen.prev_value - seen.value
    rounding = 10.0 * jnp.finfo(fall.dtype).eps * jnp.abs(seen.value)
    known = seen.has_values & (fall > rounding) & linalg.positive(-products.dg)
    return jnp.where(known, 2.02 * fall / linalg.divisor(-products.dg), jnp.inf)
