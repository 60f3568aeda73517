"""The loop that runs any optax optimizer on one problem; `minimize` and the races share it.

It is given as its three parts, so that `minimize` can put them under one `lax.while_loop`, and a
race can stop the clock between chunks of iterations.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import io_callback
from jaxtyping import Array, Bool

from jax_lbfgs_pi import linalg, trees
from jax_lbfgs_pi.loop_state import Best, Callback, LoopState, Progress, Trajectory
from jax_lbfgs_pi.stopping import (
    Limits,
    Point,
    Status,
    Stopping,
    Watch,
    begin_watch,
    gradient_norm,
    look,
)
from jax_lbfgs_pi.trees import Params
from jax_lbfgs_pi.unroll import step_size_of


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
    stopping: Stopping,
    max_evals: int | None = None,
    has_aux: bool = False,
    retreats: bool = False,
    callback: Callback | None = None,
) -> Loop:
    """The loop of `tx` on `fun`.

    Each turn of the body evaluates `fun` once, records, and takes a step; a line search brings its
    own evaluations along, which are counted, and leaves the next one to be read from its state.

    Args:
      tx: any optax optimizer; line searches are given `value`, `grad` and `value_fn`.
      fun: the objective, from parameters to a scalar, or to a pair with auxiliary output.
      max_iters: the greatest number of steps.
      stopping: the tests that end the run before that.
      max_evals: the greatest number of evaluations; a line search may overrun it.
      has_aux: whether `fun` returns a pair.
      retreats: whether `tx` recovers from a step into non-finite numbers.
      callback: called on the host at each evaluated point, in order; where it returns True or
        raises `StopIteration`, the run ends.
    """
    tx = optax.with_extra_args_support(tx)
    limits = Limits(max_iters, max_evals, retreats)
    length = max_iters + 1 if max_evals is None else min(max_iters + 1, max_evals)

    def objective(params: Params) -> Any:
        return jax.tree.map(jnp.asarray, fun(params))

    def value_fn(params: Params) -> Array:
        return objective(params)[0] if has_aux else objective(params)

    def evaluate(params: Params, opt_state: Any) -> tuple[Any, Any, Params]:
        if not has_aux and _search_steps(opt_state) is not None:
            value, grads = optax.value_and_grad_from_state(objective)(params, state=opt_state)
            return value, None, grads
        out, grads = jax.value_and_grad(objective, has_aux=has_aux)(params)
        value, aux = out if has_aux else (out, None)
        return value, aux, grads

    def init(params: Params) -> LoopState:
        trees.check_floating(params)
        params = jax.tree.map(jnp.asarray, params)
        out = jax.eval_shape(objective, params)
        _check_scalar(out, has_aux)
        value, aux = out if has_aux else (out, None)
        dtype = trees.scalar_dtype(params)
        zero, f, norm = (jnp.zeros((), d) for d in (jnp.int32, value.dtype, dtype))
        scalars = LoopState(
            params=(),
            opt_state=(),
            best=Best((), f, norm, jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), aux)),
            turn=zero,
            num_iters=zero,
            num_evals=zero,
            status=zero,
            watch=begin_watch(f, norm),
            trajectory=Trajectory(
                *(jnp.zeros(length, a.dtype) for a in (f, norm, norm, zero, zero > 0))
            ),
        )
        # All problems of a batch share the turn, and so do all shards.
        state = linalg.vary_over(linalg.varying_axes(params), scalars)._replace(turn=zero)
        return state._replace(
            params=params, opt_state=tx.init(params), best=state.best._replace(params=params)
        )

    def running(state: LoopState) -> Array:
        return linalg.any_shard(_any_of_the_batch(state.status == Status.RUNNING))

    def conclude(
        status: Array, stop: Array | None, watch: Watch, best: Best, here: Best, point: Point
    ) -> tuple[Array, Watch, Best]:
        """What the point means: the status, what the tests remember, and the best point."""
        runs = status == Status.RUNNING
        verdict, watch = look(stopping, limits, watch, point)
        if stop is not None:
            stopped = stop & (verdict == Status.RUNNING)
            verdict = jnp.where(stopped, jnp.asarray(Status.STOPPED, jnp.int32), verdict)
        status = jnp.where(runs, verdict, status)
        lower = here.value < best.value
        lower |= (here.value == best.value) & (here.grad_norm < best.grad_norm)
        # What met the test is what is returned, be its f a rounding error above another's.
        improved = (point.accepted & lower) | (point.num_iters == 0) | (status == Status.CONVERGED)
        return status, watch, trees.where(runs & improved, here, best)

    if not any(map(trees.is_traced, jax.tree.leaves(stopping))):
        conclude = linalg.one_kernel(conclude)

    def body(state: LoopState) -> LoopState:
        k, runs = state.turn, state.status == Status.RUNNING
        value, aux, grads = evaluate(state.params, state.opt_state)
        grad_norm = gradient_norm(stopping, grads)
        searched = _search_steps(state.opt_state)
        new_evals = 1 if searched is None else jnp.where(k == 0, 1, searched)
        num_evals = state.num_evals + jnp.where(runs, new_evals, 0)
        finite = jnp.isfinite(value) & jnp.isfinite(grad_norm)

        def update() -> tuple[Params, Any]:
            return tx.update(
                grads, state.opt_state, state.params, value=value, grad=grads, value_fn=value_fn
            )

        updates, opt_state, accepted = (), state.opt_state, finite
        if searched is None:
            updates, opt_state = update()
            accepted = finite & _accepted(opt_state)
        point = Point(value, grad_norm, accepted, k, num_evals)
        stop = None if callback is None else _ask(callback, Progress(state.params, *point))
        here = Best(state.params, value, grad_norm, aux)
        status, watch, best = conclude(state.status, stop, state.watch, state.best, here, point)
        moves = status == Status.RUNNING
        if searched is not None:  # after the end, a line search would evaluate for nothing
            stay = (trees.zeros(state.params), state.opt_state)
            updates, opt_state = jax.lax.cond(moves, update, lambda: stay)

        def record(past: Array, new: Array) -> Array:
            new = jnp.asarray(new).astype(past.dtype)
            return past.at[k].set(jnp.where(runs, new, past[k]))

        t = jnp.where(moves, step_size_of(opt_state), 0.0)
        seen = (value, grad_norm, t, num_evals, accepted)
        moved = optax.apply_updates(state.params, updates)
        return LoopState(
            params=trees.where(moves, moved, state.params),
            opt_state=opt_state,
            best=best,
            turn=k + 1,
            num_iters=state.num_iters + moves.astype(jnp.int32),
            num_evals=num_evals,
            status=status,
            watch=watch,
            trajectory=Trajectory(*map(record, state.trajectory, seen)),
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


def _accepted(opt_state: Any) -> Bool[Array, ""]:
    """Whether the last update accepted its point, as optimizers do that do not speak of it."""
    flags = [n == 0 for _, n in optax.tree.get_all_with_path(opt_state, "rejections")]
    return jnp.all(jnp.stack(flags)) if flags else jnp.asarray(True)


def _ask(callback: Callback, info: Progress) -> Bool[Array, ""]:
    def on_host(info: Progress) -> Any:
        try:
            stop = bool(callback(jax.tree.map(np.asarray, info)))
        except StopIteration:  # SciPy's way to say so
            stop = True
        return np.asarray(stop)

    return io_callback(on_host, jax.ShapeDtypeStruct((), jnp.bool_), info, ordered=True)


def _check_scalar(out: Any, has_aux: bool) -> None:
    if has_aux and not (isinstance(out, tuple) and len(out) == 2):
        raise TypeError("With has_aux=True the objective must return a pair (value, aux).")
    value: Any = out[0] if has_aux else out
    is_scalar = getattr(value, "shape", None) == ()
    if not is_scalar or not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(
            f"The objective must return a real floating-point scalar, but it returns {value}: of a "
            f"pair (value, aux) say has_aux=True, of an array with one element take that, and of a "
            f"function that returns gradients too give the objective itself."
        )
