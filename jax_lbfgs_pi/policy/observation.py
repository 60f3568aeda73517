"""What a policy may read: every scalar that a step has for nothing."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_lbfgs_pi import linalg
from jax_lbfgs_pi.trees import Params


class InnerProducts(NamedTuple):
    """The ten inner products between d, g, s and y that a policy may read; scalars.

    Attributes:
      dd: dᵀd, of the direction with itself.
      dg: dᵀg, with the gradient.
      ds: dᵀs, with the last step.
      dy: dᵀy, with the last gradient difference.
      gg: gᵀg, of the gradient.
      gs: gᵀs.
      gy: gᵀy.
      ss: sᵀs, of the last step.
      sy: sᵀy.
      yy: yᵀy, of the last gradient difference.
    """

    dd: Float[Array, ""]
    dg: Float[Array, ""]
    ds: Float[Array, ""]
    dy: Float[Array, ""]
    gg: Float[Array, ""]
    gs: Float[Array, ""]
    gy: Float[Array, ""]
    ss: Float[Array, ""]
    sy: Float[Array, ""]
    yy: Float[Array, ""]


def inner_products(d: Params, g: Params, s: Params, y: Params) -> InnerProducts:
    """All inner products between four pytrees of one structure."""
    v = (d, g, s, y)
    return InnerProducts(*(linalg.vdot(v[i], v[j]) for i in range(4) for j in range(i, 4)))


class Pair(NamedTuple):
    """The inner products of a curvature pair with itself; scalars, all 0 where there is none."""

    ss: Float[Array, ""]
    sy: Float[Array, ""]
    yy: Float[Array, ""]

    def short_scaling(self) -> Float[Array, ""]:
        """γ = |sᵀy| / yᵀy; 1 where y = 0 (paper, Algorithm 1, line 6)."""
        return _ratio(jnp.abs(self.sy), self.yy)

    def long_scaling(self) -> Float[Array, ""]:
        """γ = sᵀs / |sᵀy|; 1 where sᵀy = 0 (Barzilai & Borwein 1988)."""
        return _ratio(self.ss, jnp.abs(self.sy))

    def curvature(self) -> Float[Array, ""]:
        """`yᵀy / sᵀy`; 0 where sᵀy <= 0."""
        return jnp.where(linalg.positive(self.sy), _ratio(self.yy, self.sy), 0.0)


def _ratio(a: Array, b: Array) -> Array:
    usable = linalg.positive(b)
    return jnp.where(usable, a / jnp.where(usable, b, 1.0), 1.0)


class Facts(NamedTuple):
    """What the memory of the curvature tells; fields of `Observation`.

    Attributes:
      num_pairs: pairs in the window, or in a dense H.
      curvatures: `yᵀy / sᵀy` of all pairs in the window, in no order, shape `(m,)`; 0 where there
        is none; of a full memory the greatest and the least; of a dense H empty.
      in_span: Σ (s_iᵀg_k)² / s_iᵀy_i over the window: 0 where f is a quadratic and the steps are
        exact, and were the s_i conjugate the share of the pairs in g_kᵀH g_k, which it is of a full
        memory; of a dense H 0.
      memory_size: m, how many pairs there is room for, of a dense H n; an `int`.
      b: `sᵀBs / sᵀy` of the newest pair, B = H⁻¹ before it; 0 where H is no matrix or had no pair.
      h: `yᵀHy / sᵀy`, likewise.
    """

    num_pairs: Int[Array, ""]
    curvatures: Float[Array, " m"]
    in_span: Float[Array, ""]
    memory_size: int
    b: Any = 0.0
    h: Any = 0.0


class Observation(NamedTuple):
    """What is known before the direction is chosen, free of vectors. `s` is the last accepted step.

    Before the first step s = 0, y = 0, and there is no last value.

    Attributes:
      count: accepted steps so far.
      value: f(x_k), 0 if unknown.
      prev_value: f(x_{k-1}), 0 if unknown.
      has_values: whether both are known.
      has_value: whether f(x_k) is known.
      gg: ‖g_k‖².
      prev_gg: ‖g_{k-1}‖².
      start_slope: g_{k-1}ᵀs, the slope that the step began with.
      end_slope: g_kᵀs, the slope it ended with.
      step: `sᵀs`, `sᵀy` and `yᵀy` of the last step.
      pair: those of the newest pair in the window.
      last_ss: the squared length of the last step that moved, as it was proposed.
      step_size: t of the last step.
      rejections: trials rejected before the last step was accepted.
      curvature: `yᵀy / sᵀy` of the newest pair; 0 where there is none.
      num_pairs: pairs in the window, or in a dense H.
      curvatures: `yᵀy / sᵀy` of all pairs in the window, see `Facts`.
      in_span: Σ (s_iᵀg_k)² / s_iᵀy_i over the window, see `Facts`.
      memory_size: m, how many pairs there is room for, of a dense H n; an `int`.
      num_params: n; an `int`.
      b: `sᵀBs / sᵀy` of the newest pair of a dense H, see `Facts`.
      h: `yᵀHy / sᵀy`, likewise.
      start_ss: ‖x_0‖² before the first step, else 0.
    """

    count: Int[Array, ""]  # pyright: ignore[reportIncompatibleMethodOverride]
    value: Float[Array, ""]
    prev_value: Float[Array, ""]
    has_values: Bool[Array, ""]
    has_value: Bool[Array, ""]
    gg: Float[Array, ""]
    prev_gg: Float[Array, ""]
    start_slope: Float[Array, ""]
    end_slope: Float[Array, ""]
    step: Pair
    pair: Pair
    last_ss: Float[Array, ""]
    step_size: Float[Array, ""]
    rejections: Int[Array, ""]
    curvature: Float[Array, ""]
    num_pairs: Int[Array, ""]
    curvatures: Float[Array, " m"]
    in_span: Float[Array, ""]
    memory_size: int
    num_params: int
    b: Any = 0.0
    h: Any = 0.0
    start_ss: Any = 0.0

    def short_scaling(self) -> Float[Array, ""]:
        """The newest pair's, or where there is none, what makes H g as long as the last step."""
        known = linalg.positive(self.pair.yy)
        return jnp.where(known, self.pair.short_scaling(), self._length_scaling())

    def long_scaling(self) -> Float[Array, ""]:
        """The newest pair's, or where there is none, what makes H g as long as the last step."""
        known = linalg.positive(self.pair.yy)
        return jnp.where(known, self.pair.long_scaling(), self._length_scaling())

    def _length_scaling(self) -> Float[Array, ""]:
        # f is linear along all steps so far, or bends down: no pair was stored. γ = 1 has units.
        moved = linalg.positive(self.last_ss) & linalg.positive(self.gg)
        return jnp.where(moved, linalg.root(_ratio(self.last_ss, self.gg)), 1.0)

    def has_window(self) -> bool:
        """Whether H comes from a window of pairs; else it is a dense matrix."""
        return self.curvatures.size > 0

    def curvature_ratio(self) -> Float[Array, ""]:
        """The mean curvature along the last step over that at its end, from 1e-3 to 1e3.

        At its end that of the cubic with these values and slopes at both ends; 1e3 where that bends
        down there, 1 where values are unknown or as good as equal.
        """
        mean = self.end_slope - self.start_slope
        rise = self.value - self.prev_value
        end = 2.0 * self.start_slope + 4.0 * self.end_slope - 6.0 * rise
        digits = 1e4 * jnp.finfo(mean.dtype).eps * jnp.abs(self.value)
        known = self.has_values & linalg.positive(mean) & (mean > digits)
        bends_up = linalg.positive(end)
        ratio = jnp.where(bends_up, mean / jnp.where(bends_up, end, 1.0), 1e3)
        return jnp.where(known, jnp.clip(ratio, 1e-3, 1e3), 1.0)

    def slope_ratio(self) -> Float[Array, ""]:
        """R = g_kᵀs / g_{k-1}ᵀs: 1 where f is linear, 0 after an exact step; 0 before the first."""
        moved = linalg.nonzero(self.start_slope)
        return jnp.where(moved, self.end_slope / jnp.where(moved, self.start_slope, 1.0), 0.0)
