"""Solving one problem by L-BFGS-π."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, SupportsIndex

import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array, Bool, Float, Int

from jax_lbfgs_pi import linalg, trees
from jax_lbfgs_pi.acceptance import Guard
from jax_lbfgs_pi.implicit import differentiable
from jax_lbfgs_pi.loop import make_loop
from jax_lbfgs_pi.loop_state import Callback, Trajectory
from jax_lbfgs_pi.policy import AnyPolicy
from jax_lbfgs_pi.stopping import SUCCESSES, as_stopping
from jax_lbfgs_pi.transform import DEFAULT_GUARD, MemorySize, lbfgs_pi
from jax_lbfgs_pi.trees import Params


class MinimizeResult(NamedTuple):
    """What `minimize` returns; every field is a JAX array, or a pytree of them.

    Attributes:
      params: the point that met the gradient test if the status is `CONVERGED`, else the accepted
        one of least f; of equal f, that of the least gradient norm. x0 if there is none.
      value: f there.
      grad_norm: the gradient norm there.
      num_iters: steps taken.
      num_evals: evaluations of f and its gradient.
      status: a `Status`, as an int32 scalar.
      trajectory: scalars along the way, see `Trajectory`; past the end, the last entry again.
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

    @property
    def success(self) -> Bool[Array, "..."]:
        """Whether a test was met: `CONVERGED`, `TARGET_REACHED` or `SMALL_CHANGE`.

        A boolean for each problem under `vmap`. `STALLED` is no success, though at the last bits of
        f nothing better can be had.
        """
        return jnp.isin(self.status, jnp.asarray(SUCCESSES, self.status.dtype))


def minimize(
    fun: Callable[..., Any],
    x0: Params,
    args: tuple = (),
    *,
    policy: AnyPolicy = None,
    memory_size: MemorySize = None,
    tol: Any = None,
    max_iters: SupportsIndex = 500,
    max_evals: SupportsIndex | None = None,
    first_step: Any = None,
    max_step: Any = None,
    guard: Guard | None = DEFAULT_GUARD,
    has_aux: bool = False,
    callback: Callback | None = None,
) -> MinimizeResult:
    """Minimizes a smooth function: one evaluation per step, under `jit` and `vmap` alike.

    A pure function: wrap it in `jax.jit` to compile it once for many calls; each call outside
    compiles anew. A policy does not promise descent at every step, so the best accepted point is
    what comes back (paper, §6).

    `jax.grad` and `jax.jvp` of `params`, `value` and `aux`, with respect to `args` and to all that
    `fun` closes over, are those of the exact minimum, by the implicit function theorem: mind the
    status, and for the derivatives of the steps themselves use `unroll`.

    Args:
      fun: the objective, from a pytree of real floating-point arrays, and `args`, to a scalar, or
        to a pair `(scalar, aux)` if `has_aux`.
      x0: the starting point.
      args: what else `fun` is given, as `fun(x, *args)`.
      policy: as in `lbfgs_pi`; None is `general`, with a dense H `dense`.
      memory_size: m, the number of curvature pairs kept, or "full" or "dense", as in `lbfgs_pi`;
        None is full up to 400 variables, else 20 up to 10⁴ and 10 above, and dense with a policy
        for that.
      tol: stop where the 2-norm of the gradient is below this; or a `Stopping`, which has more
        tests. None is `Stopping()`, which suits the dtype.
      max_iters: the greatest number of steps.
      max_evals: the greatest number of evaluations of f and its gradient, one more than of steps;
        None for no limit of their own.
      first_step: the length of the first step, in the units of x, as in `lbfgs_pi`.
      max_step: the greatest length of a step, likewise.
      guard: when a step is accepted, as in `lbfgs_pi`.
      has_aux: whether `fun` returns a pair.
      callback: called on the host with a `Progress` at each evaluated point, in order; the run ends
        as `STOPPED` where it returns True or raises `StopIteration`. Not under `vmap`.

    Returns:
      A `MinimizeResult`.

    Raises:
      TypeError: if `x0` has leaves that are not real floating-point, `args` is no tuple, `fun` is
        no function or returns no scalar, or an option has the wrong type.
      ValueError: for a negative number among the options, or what `lbfgs_pi` refuses.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> import jax_lbfgs_pi as lp
      >>> solve = jax.jit(lambda x0: lp.minimize(lambda x: jnp.sum((x - 3.0) ** 2), x0))
      >>> lp.Status(int(solve(jnp.zeros(2)).status)).name
      'CONVERGED'
    """
    max_iters = trees.as_count("max_iters", max_iters, least=0)
    max_evals = None if max_evals is None else trees.as_count("max_evals", max_evals, least=1)
    if not isinstance(args, (tuple, list)):
        raise TypeError(f"args must be a tuple, such as (data,), but got a {type(args).__name__}.")
    if not callable(fun):
        raise TypeError(f"fun must be a function of the parameters, but got {fun!r}.")
    if x0 is None:
        raise TypeError("x0 must be a pytree of arrays, where the run begins, but got None.")
    if not (callback is None or _takes_one(callback)):
        raise TypeError(f"callback must be a function of one Progress, but got {callback!r}.")
    trees.check_floating(x0)
    x0 = jax.tree.map(jnp.asarray, x0)
    stopping = as_stopping(tol, x0)
    tx = lbfgs_pi(
        policy, memory_size=memory_size, first_step=first_step, max_step=max_step, guard=guard
    )

    def run(fun: Callable[[Params], Any], x0: Params) -> MinimizeResult:
        loop = make_loop(
            tx,
            fun,
            max_iters=max_iters,
            max_evals=max_evals,
            stopping=stopping,
            has_aux=has_aux,
            retreats=guard is not None,
            callback=callback,
        )
        end = jax.lax.while_loop(loop.running, loop.body, loop.init(x0))
        last = end.num_iters

        def stand_still(past: Array) -> Array:
            return jnp.where(jnp.arange(past.size, dtype=jnp.int32) < last, past, past[last])

        return MinimizeResult(
            params=end.best.params,
            value=end.best.value,
            grad_norm=end.best.grad_norm,
            num_iters=end.num_iters,
            num_evals=end.num_evals,
            status=end.status,
            trajectory=jax.tree.map(stand_still, end.trajectory),
            aux=end.best.aux,
        )

    def objective(x: Params) -> Any:
        return fun(x, *args)

    # A shard with data of its own has a problem of its own; else JAX would sum the gradients.
    axes = linalg.varying_axes((x0, _shape_of(objective, x0)))
    x0 = linalg.vary_over(axes, x0)
    return differentiable(run, objective, x0, has_aux=has_aux)


def _takes_one(callback: Any) -> bool:
    """Whether it can be called with one argument."""
    try:
        inspect.signature(callback).bind(None)
    except TypeError:
        return False
    except ValueError:
        pass  # of a builtin that tells none
    return True


def _shape_of(objective: Callable[[Params], Any], x0: Params) -> Any:
    """What the objective returns, in shapes."""
    try:
        return jax.eval_shape(objective, x0)
    except jax.errors.JAXTypeError as error:
        error.add_note(
            "minimize compiles fun, so it must be written with jax.numpy, and without float(), "
            ".item() or `if` on values that depend on the parameters."
        )
        raise


for kind in (MinimizeResult, Trajectory):
    export.register_namedtuple_serialization(kind, serialized_name=f"jax_lbfgs_pi.{kind.__name__}")
