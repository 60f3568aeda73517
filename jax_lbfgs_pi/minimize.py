"""Solving one problem by L-BFGS-π."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int

from jax_lbfgs_pi.acceptance import Guard
from jax_lbfgs_pi.loop import Trajectory, make_loop
from jax_lbfgs_pi.policy import AnyPolicy
from jax_lbfgs_pi.transform import DEFAULT_GUARD, lbfgs_pi
from jax_lbfgs_pi.trees import Params


class MinimizeResult(NamedTuple):
    """What `minimize` returns; every field is a JAX array, or a pytree of them.

    Attributes:
      params: the best visited iterate, that of least f.
      value: f there.
      grad_norm: the gradient norm there.
      num_iters: steps taken.
      num_evals: evaluations of f and its gradient.
      status: a `Status`, as an int32 scalar.
      trajectory: scalars along the way, see `Trajectory`.
      aux: the objective's auxiliary output at `params` if `has_aux`, else None.
    """

    params: Params
    value: Float[Array, ""]
    grad_norm: Float[Array, ""]
    num_iters: Int[Array, ""]
    num_evals: Int[Array, ""]
    status: Int[Array, ""]
    trajectory: Trajectory
    aux: Any


def minimize(
    fun: Callable[[Params], Any],
    x0: Params,
    *,
    policy: AnyPolicy = None,
    memory_size: int | None = None,
    max_iters: int = 500,
    tol: float | Array = 1e-8,
    has_aux: bool = False,
    guard: Guard | None = DEFAULT_GUARD,
) -> MinimizeResult:
    """Minimizes a smooth function: one evaluation per step, under `jit` and `vmap` alike.

    A pure function: wrap it in `jax.jit` to compile it once for many calls. A policy does not
    promise descent at every step, so the best visited iterate is what comes back (paper, §6).

    Args:
      fun: the objective, from a pytree of real floating-point arrays to a scalar, or to a pair
        `(scalar, aux)` if `has_aux`.
      x0: the starting point.
      policy: as in `lbfgs_pi`; None is the best shipped one.
      memory_size: m, the number of curvature pairs kept; None is 20 up to 10⁴ variables, and 10
        above.
      max_iters: the greatest number of steps.
      tol: stop where the 2-norm of the gradient is below this; may be traced.
      has_aux: whether `fun` returns a pair.
      guard: when a step is accepted, as in `lbfgs_pi`.

    Returns:
      A `MinimizeResult`.

    Raises:
      TypeError: if `x0` has leaves that are not real floating-point, or `fun` returns no scalar.
      ValueError: for `max_iters < 0`, a negative `tol`, or what `lbfgs_pi` refuses.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lbfgs_pi as lp
      >>> solve = jax.jit(lambda x0: lp.minimize(lambda x: jnp.sum((x - 3.0) ** 2), x0, tol=1e-3))
      >>> lp.Status(int(solve(jnp.zeros(2)).status)).name
      'CONVERGED'
    """
    if not isinstance(max_iters, int) or max_iters < 0:
        raise ValueError(f"max_iters must be an integer of at least 0, but got {max_iters!r}.")
    if isinstance(tol, (int, float)) and not tol >= 0:
        raise ValueError(f"tol must be at least 0, but got {tol!r}.")
    tx = lbfgs_pi(policy, memory_size=memory_size, guard=guard)
    loop = make_loop(
        tx, fun, max_iters=max_iters, tol=tol, has_aux=has_aux, retreats=guard is not None
    )
    end = jax.lax.while_loop(loop.running, loop.body, loop.init(x0))
    return MinimizeResult(
        params=end.best.params,
        value=end.best.value,
        grad_norm=end.best.grad_norm,
        num_iters=end.num_iters,
        num_evals=end.num_evals,
        status=end.status,
        trajectory=end.trajectory,
        aux=end.best.aux,
    )
