"""The loop that runs any optax optimizer on one problem; `minimize` and the races share it.

It is given as its three parts, so that `minimize` can put them under one `lax.while_loop`, and a
race can stop the clock between chunks of iterations.
"""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from jax_lbfgs_pi import linalg, trees
from jax_lbfgs_pi.trees import Params
from jax_lbfgs_pi.unroll import step_size_of


class Status(enum.IntEnum):
    """Why a run ended.

    Attributes:
      RUNNING: it has not.
      CONVERGED: the gradient norm fell below the tolerance.
      MAX_ITERS: the iterations are used up.
      NON_FINITE: f or its gradient is not finite, and there is nothing to go back to.
    """

    RUNNING = 0
    CONVERGED = 1
    MAX_ITERS = 2
    NON_FINITE = 3


class Trajectory(NamedTuple):
    """Scalars along a run, each of shape `(max_iters + 1,)`; NaN (or 0) past its end.

    Attributes:
      value: f(x_k).
      grad_norm: the gradient norm at x_k.
      step_size: t of the step that leaves x_k, or if x_k was rejected, of the next trial from the
        last accepted point; NaN where the run ends.
      num_evals: evaluations of f made until f(x_k) and its gradient were known.
    """

    value: Float[Array, " k"]
    grad_norm: Float[Array, " k"]
    step_size: Float[Array, " k"]
    num_evals: Int[Array, " k"]


class Best(NamedTuple):
    """The best visited iterate: parameters, f, gradient norm and auxiliary output there."""

    params: Params
    value: Float[Array, ""]
    grad_norm: Float[Array, ""]
    aux: Any


class LoopState(NamedTuple):
    """Where a run stands.

    Attributes:
      params: the iterate to be evaluated next.
      opt_state: the optimizer's state.
      best: the best iterate evaluated so far.
      turn: turns of the loop so far. Under `vmap` all problems share it, and those that have ended
        stand still: so neither is the state chosen entry by entry, nor the trajectory scattered.
      num_iters: steps taken.
      num_evals: evaluations made.
      status: a `Status`.
      trajectory: the scalars so far.
    """

    params: Params
    opt_state: Any
    best: Best
    turn: Int[Array, ""]
    num_iters: Int[Array, ""]
    num_evals: Int[Array, ""]
    status: Int[Array, ""]
    trajectory: Trajectory


class Loop(NamedTuple):
    """`init(params)`, `running(state)` and `body(state)`; each can be jitted and mapped."""

    init: Callable[[Params], LoopState]
    running: Callable[[LoopState], Bool[Array, ""]]
    body: Callable[[LoopState], LoopState]


def make_loop(
    tx: optax.GradientTransformation,
    fun: Callable[[Params], Any],
    *,
    max_iters: int,
    tol: float | Array,
    has_aux: bool = False,
    retreats: bool = False,
) -> Loop:
    """The loop of `tx` on `fun`.

    Each turn of the body evaluates `fun` once, records, and takes a step; a line search brings its
    own evaluations along, which are counted, and leaves the next one to be read from its state.

    Args:
      tx: any optax optimizer; line searches are given `value`, `grad` and `value_fn`.
      fun: the objective, from parameters to a scalar, or to a pair with auxiliary output.
      max_iters: the greatest number of steps.
      tol: the run ends where the gradient norm is below this.
      has_aux: whether `fun` returns a pair.
      retreats: whether `tx` recovers from a step into non-finite numbers.
    """
    tx = optax.with_extra_args_support(tx)

    def value_fn(params: Params) -> Array:
        return fun(params)[0] if has_aux else fun(params)

    def evaluate(params: Params, opt_state: Any) -> tuple[Any, Any, Params]:
        if not has_aux and _search_steps(opt_state) is not None:
            value, grads = optax.value_and_grad_from_state(fun)(params, state=opt_state)
            return value, None, grads
        out, grads = jax.value_and_grad(fun, has_aux=has_aux)(params)
        value, aux = out if has_aux else (out, None)
        return value, aux, grads

    def init(params: Params) -> LoopState:
        trees.check_floating(params)
        params = jax.tree.map(jnp.asarray, params)
        out = jax.eval_shape(fun, params)
        _check_scalar(out, has_aux)
        value, aux = out if has_aux else (out, None)
        dtype = trees.scalar_dtype(params)

        def zero() -> Array:
            return jnp.zeros((), jnp.int32)

        def nans(dtype: Any) -> Array:
            return jnp.full((max_iters + 1,), jnp.nan, dtype)

        return LoopState(
            params=params,
            opt_state=tx.init(params),
            best=Best(
                params=params,
                value=jnp.full((), jnp.inf, value.dtype),
                grad_norm=jnp.full((), jnp.inf, dtype),
                aux=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), aux),
            ),
            turn=zero(),
            num_iters=zero(),
            num_evals=zero(),
            status=zero(),
            trajectory=Trajectory(
                value=nans(value.dtype),
                grad_norm=nans(dtype),
                step_size=nans(dtype),
                num_evals=jnp.zeros((max_iters + 1,), jnp.int32),
            ),
        )

    def running(state: LoopState) -> Array:
        return _any_of_the_batch(state.status == Status.RUNNING)

    def body(state: LoopState) -> LoopState:
        k, runs = state.turn, state.status == Status.RUNNING
        value, aux, grads = evaluate(state.params, state.opt_state)
        grad_norm = linalg.norm(grads)
        searched = _search_steps(state.opt_state)
        new_evals = 1 if searched is None else jnp.where(k == 0, 1, searched)
        num_evals = state.num_evals + jnp.where(runs, new_evals, 0)

        here = Best(state.params, value, grad_norm, aux)
        finite = jnp.isfinite(value) & jnp.isfinite(grad_norm)
        # What met the test is what is returned, be its f a rounding error above another's.
        converged = finite & (grad_norm < tol)
        improved = runs & ((finite & (value < state.best.value)) | (k == 0) | converged)
        best = trees.where(improved, here, state.best)
        hopeless = ~finite & ((k == 0) | (not retreats))
        status = jnp.where(k == max_iters, Status.MAX_ITERS, Status.RUNNING)
        status = jnp.where(hopeless, Status.NON_FINITE, status)
        status = jnp.where(converged, Status.CONVERGED, status)
        status = jnp.where(runs, status, state.status).astype(jnp.int32)

        def update() -> tuple[Params, Any]:
            return tx.update(
                grads, state.opt_state, state.params, value=value, grad=grads, value_fn=value_fn
            )

        moves = status == Status.RUNNING
        if searched is None:
            updates, opt_state = update()
        else:  # after the end, a line search would evaluate for nothing
            stay = (trees.zeros(state.params), state.opt_state)
            updates, opt_state = jax.lax.cond(moves, update, lambda: stay)

        def record(past: Array, new: Array) -> Array:
            new = new.astype(past.dtype)
            return past.at[k].set(jnp.where(runs, new, past[k]))

        t = jnp.where(moves, step_size_of(opt_state), jnp.nan)
        past = state.trajectory
        moved = optax.apply_updates(state.params, updates)
        return LoopState(
            params=trees.where(moves, moved, state.params),
            opt_state=opt_state,
            best=best,
            turn=k + 1,
            num_iters=state.num_iters + moves,
            num_evals=num_evals,
            status=status,
            trajectory=Trajectory(
                value=record(past.value, value),
                grad_norm=record(past.grad_norm, grad_norm),
                step_size=record(past.step_size, t),
                num_evals=record(past.num_evals, num_evals),
            ),
        )

    return Loop(init, running, body)


@jax.custom_batching.custom_vmap
def _any_of_the_batch(flag: Array) -> Array:
    """`flag`; under `vmap` whether any problem's holds, one answer for all of them."""
    return flag


@_any_of_the_batch.def_vmap
def _any_of_the_batch_vmap(axis_size: int, in_batched: list[bool], flag: Array) -> tuple:
    del axis_size, in_batched
    return _any_of_the_batch(jnp.any(flag)), False


def _search_steps(opt_state: Any) -> Array | None:
    """The evaluations that the last line search made; None for an optimizer without one."""
    found = optax.tree.get_all_with_path(opt_state, "num_linesearch_steps")
    return jnp.asarray(found[0][1], jnp.int32) if found else None


def _check_scalar(out: Any, has_aux: bool) -> None:
    if has_aux and not (isinstance(out, tuple) and len(out) == 2):
        raise TypeError("With has_aux=True the objective must return a pair (value, aux).")
    value: Any = out[0] if has_aux else out
    is_scalar = getattr(value, "shape", None) == ()
    if not is_scalar or not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(
            f"The objective must return a real floating-point scalar, but it returns {value}."
        )
