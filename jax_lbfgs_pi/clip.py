"""The clip of the log-step, and the ways to differentiate it.

All give `τ = clip(u1ᵀu2 / ‖u2‖², τ_m, τ_M)` (paper, eq. 3), which is also
`argmin_τ ‖u2 τ - u1‖²  s.t.  τ_m <= τ <= τ_M` (eq. 4-5). They differ in where the derivative comes
from:

  `cvx`       differentiates the optimality conditions numerically, by a cvxpylayers layer: the
              paper's way.
  `implicit`  the same derivative in closed form; much faster.
  `clip`      automatic differentiation of `jnp.clip`; what deployed policies use.
  `straight_through`
              the derivative of the unclipped projection, even at a bound (Bengio et al. 2013): not
              the true one, for comparison.

At a strictly active bound the true derivative with respect to u1 and u2 is 0. `cvx` returns 0 plus
solver noise (less than 1e-4 of the free gradient), from some 1e-5 before the bound on; the
"heuristic quantity" of the paper's §4 exists only at the bound, or within solver tolerance of it.
Exactly at the bound `clip` halves the free derivative, and `implicit` gives 0.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Vector = Float[Array, " h"]
Scalar = Float[Array, ""]
Bound = Scalar | float
ClipLayer = Callable[[Vector, Vector, Bound, Bound], Scalar]


def _normalise(u1: Vector, u2: Vector) -> tuple[Vector, Vector, Scalar]:
    """u1/‖u2‖ and u2/‖u2‖, which leave τ as it is, and 1/‖u2‖; all 0 where u2 = 0."""
    # Dividing by the largest entry first keeps ‖u2‖² from under- or overflowing.
    largest = jnp.max(jnp.abs(u2))
    usable = largest > 0
    scale = jax.lax.stop_gradient(jnp.where(usable, largest, 1.0))
    u1, u2 = u1 / scale, jnp.where(usable, u2, jnp.ones_like(u2)) / scale
    inverse = jnp.where(usable, 1.0 / jnp.sqrt(jnp.sum(u2 * u2)), 0.0)
    return u1 * inverse, u2 * inverse, inverse / scale


def _projection(u1: Vector, u2: Vector) -> Scalar:
    """σ = u1ᵀu2 / ‖u2‖², the unclipped log-step; 0 where u2 = 0."""
    n1, n2, _ = _normalise(u1, u2)
    return jnp.sum(n1 * n2)


def clip_autodiff(u1: Vector, u2: Vector, tau_min: Bound, tau_max: Bound) -> Scalar:
    """`jnp.clip` of the projection, left to automatic differentiation."""
    return jnp.clip(_projection(u1, u2), tau_min, tau_max)


@jax.custom_jvp
def clip_implicit(u1: Vector, u2: Vector, tau_min: Bound, tau_max: Bound) -> Scalar:
    """The clip with the closed-form derivative of its optimality (KKT) conditions.

    Inside the bounds `∂τ/∂u1 = u2/b` and `∂τ/∂u2 = (u1 - 2 σ u2)/b` with `b = ‖u2‖²` and
    `σ = u1ᵀu2/b`. Where a bound is active, τ moves with that bound and with nothing else.
    """
    return clip_autodiff(u1, u2, tau_min, tau_max)


@clip_implicit.defjvp
def _clip_implicit_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    u1, u2, tau_min, tau_max = primals
    du1, du2, dmin, dmax = tangents
    # ∂τ/∂u1 = û2/‖u2‖ and ∂τ/∂u2 = (û1 - 2σ û2)/‖u2‖, where û = u/‖u2‖.
    n1, n2, inverse = _normalise(u1, u2)
    sigma = jnp.sum(n1 * n2)
    free = inverse * (jnp.sum(n2 * du1) + jnp.sum((n1 - 2.0 * sigma * n2) * du2))
    tangent = jnp.where(sigma <= tau_min, dmin, jnp.where(sigma >= tau_max, dmax, free))
    return jnp.clip(sigma, tau_min, tau_max), tangent


@functools.lru_cache(maxsize=8)
def _cvx_layer(width: int, dtype: Any, solver: str) -> Any:
    """The cvxpylayers layer for vectors of `width` entries, built once for each default dtype."""
    del dtype
    try:
        import cvxpy as cp
        from cvxpylayers.jax import CvxpyLayer
    except ImportError as error:
        raise ImportError(
            "The clip layer 'cvx' needs cvxpy, cvxpylayers >= 1.2 and moreau: "
            "pip install 'jax_lbfgs_pi[cvx]', or use clip_layer='implicit'."
        ) from error
    tau = cp.Variable(1)
    u1, u2, tau_min, tau_max = (cp.Parameter(n) for n in (width, width, 1, 1))
    problem = cp.Problem(
        cp.Minimize(cp.sum_squares(u2 * tau - u1)), [tau >= tau_min, tau <= tau_max]
    )
    # `ipm` is not a matter of taste: Moreau's default, an active-set method, keeps the state of its
    # last forward solve, so its gradients are silently wrong in a scan of two or more steps.
    # Built while a function is traced, the layer would keep that trace's tracers as its matrices.
    with jax.ensure_compile_time_eval():
        return CvxpyLayer(
            problem,
            parameters=[u1, u2, tau_min, tau_max],
            variables=[tau],
            solver=solver,
            solver_args={"solver": "ipm"} if solver == "MOREAU" else {},
        )


def clip_cvx(
    u1: Vector, u2: Vector, tau_min: Bound, tau_max: Bound, solver: str = "MOREAU"
) -> Scalar:
    """The clip solved and differentiated as a convex optimization layer (Agrawal et al. 2019).

    Args:
      u1: of the clip, like all but the last.
      u2: shape `(h,)`.
      tau_min: τ_m.
      tau_max: τ_M.
      solver: `MOREAU`; `DIFFCP` cannot be traced and serves for comparison alone.

    Raises:
      ImportError: without the extra `cvx`.
    """
    layer = _cvx_layer(u1.shape[-1], jnp.zeros(()).dtype, solver)
    dtype = jnp.result_type(u1, u2)
    # At |u| of 1e-3 or 1e3 solvers are plainly wrong; normalised, the problem has condition 1.
    bounds = (jnp.reshape(jnp.asarray(bound, dtype), (1,)) for bound in (tau_min, tau_max))
    n1, n2, _ = _normalise(u1, u2)
    # An unroll that overflows must give NaN, to be skipped; the solver would end the process.
    finite = jnp.all(jnp.isfinite(n1)) & jnp.all(jnp.isfinite(n2))
    n1, n2 = jnp.where(finite, n1, 0.0), jnp.where(finite, n2, 1.0)
    (tau,) = layer(n1, n2, *bounds)
    solved = jnp.where(finite, tau[0].astype(dtype), jnp.nan)
    # The derivative is the layer's; the value is freed from the solver's error of some 1e-9, which
    # fifty steps of an unroll would amplify without bound. All three layers have one value.
    exact = jax.lax.stop_gradient(clip_autodiff(u1, u2, tau_min, tau_max))
    return solved + (exact - jax.lax.stop_gradient(solved))


def clip_straight_through(u1: Vector, u2: Vector, tau_min: Bound, tau_max: Bound) -> Scalar:
    """The clip, differentiated as if there were no bounds; bounds get no derivative."""
    sigma = _projection(u1, u2)
    # In this order the value is that of the clip to the last bit, however far σ is from it.
    return jax.lax.stop_gradient(jnp.clip(sigma, tau_min, tau_max)) + (
        sigma - jax.lax.stop_gradient(sigma)
    )


CLIP_LAYERS: dict[str, ClipLayer] = {
    "cvx": clip_cvx,
    "implicit": clip_implicit,
    "clip": clip_autodiff,
    "straight_through": clip_straight_through,
}


def get_clip_layer(name: str) -> ClipLayer:
    """The clip layer called `name`.

    Raises:
      ValueError: if there is none of that name.
    """
    if name not in CLIP_LAYERS:
        raise ValueError(f"Unknown clip layer {name!r}: choose one of {', '.join(CLIP_LAYERS)}.")
    return CLIP_LAYERS[name]
