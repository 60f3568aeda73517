"""Solvers that run until f is at most a target, on one problem alone or on a batch.

Here a run is one program; those of `host_solvers` go back to Python for each evaluation. A problem
is `loss(params, data)`; a batch has a leading axis on `x0` and `data`, and ends when a share of its
problems is there. All are compiled before, and evaluate f and its gradient `budget` times at most,
but for the line search that is under way.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jax_lbfgs_pi as lp
from benchmarks import peers
from jax_lbfgs_pi import trees
from jax_lbfgs_pi.loop import make_loop
from jax_lbfgs_pi.stopping import Status, Stopping


class Problem(NamedTuple):
    """What is to be solved.

    Attributes:
      loss: `(params, data) -> f`.
      x0: a pytree; in a batch with a leading axis.
      data: a pytree, likewise.
      share: of a batch, the share that must reach its target; None for one problem alone.
    """

    loss: Callable[[Any, Any], Any]
    x0: Any
    data: Any
    share: float | None = None


class Solved(NamedTuple):
    """Where a run ended; in a batch with a leading axis.

    Attributes:
      params: the best point.
      value: f there.
      num_evals: evaluations of f and its gradient.
      reached: whether the target was.
    """

    params: Any
    value: Any
    num_evals: Any
    reached: Any


Solver = Callable[[Any], Solved]
"""Of the target, a scalar, or one for each problem of a batch; -inf is never reached."""
Maker = Callable[[Problem, int], Solver]
"""Of the problem and the budget."""


def ours(**options: Any) -> Maker:
    """`lp.lbfgs_pi` with these options."""
    return with_optax(lambda: lp.lbfgs_pi(**options), retreats=True)


def zoom(memory_size: int) -> Maker:
    """`optax.lbfgs`."""
    return with_optax(lambda: optax.lbfgs(memory_size=memory_size))


def with_optax(make: Callable[[], Any], *, retreats: bool = False) -> Maker:
    """Any optax optimizer; the whole run is one compiled program."""

    def maker(problem: Problem, budget: int) -> Solver:
        tx = make()

        def one(x0: Any, data: Any, target: Any) -> Solved:
            loop = make_loop(
                tx,
                lambda params: problem.loss(params, data),
                max_iters=budget - 1,
                stopping=Stopping(gtol=0.0, target=target),  # or a stall, from which none returns
                retreats=retreats,
            )

            def going(state: Any) -> Any:
                running = (state.status == Status.RUNNING) & (state.num_evals < budget)
                return _going_on(running, state.status == Status.TARGET_REACHED, problem.share)

            end = jax.lax.while_loop(going, loop.body, loop.init(x0))
            reached = end.status == Status.TARGET_REACHED
            return Solved(end.best.params, end.best.value, end.num_evals, reached)

        return _compiled(one, problem)

    return maker


def jaxopt_lbfgs(memory_size: int) -> Maker:
    """`jaxopt.LBFGS`, whose zoom search tells its evaluations."""
    jaxopt = peers.load("jaxopt")

    def maker(problem: Problem, budget: int) -> Solver:
        options = {"history_size": memory_size, "tol": 0.0, "maxiter": budget}
        solver = jaxopt.LBFGS(problem.loss, **options)

        def one(x0: Any, data: Any, target: Any) -> Solved:
            def away(state: Any) -> Any:
                return ~(state.value <= target)

            def going(carry: Any) -> Any:
                _, state = carry
                running = away(state) & (state.num_fun_eval < budget)
                return _going_on(running, ~away(state), problem.share)

            def body(carry: Any) -> Any:
                return _kept(problem, away(carry[1]), tuple(solver.update(*carry, data)), carry)

            params, state = jax.lax.while_loop(going, body, (x0, solver.init_state(x0, data)))
            return Solved(params, state.value, state.num_fun_eval, ~away(state))

        return _compiled(one, problem)

    return maker


def optimistix_solver(name: str = "BFGS", **options: Any) -> Maker:
    """`optimistix.BFGS` or `LBFGS`, which evaluate once a step, stepped by hand."""
    optimistix = peers.load("optimistix")
    import equinox as eqx

    def maker(problem: Problem, budget: int) -> Solver:
        solver = getattr(optimistix, name)(rtol=0.0, atol=0.0, **options)

        def fun(x: Any, data: Any) -> Any:
            return problem.loss(x, data), None

        def one(x0: Any, data: Any, target: Any) -> Solved:
            value = jax.eval_shape(problem.loss, x0, data)
            whole = solver.init(fun, x0, data, {}, value, None, frozenset())
            start, static = eqx.partition(whole, eqx.is_array)

            def away(state: Any) -> Any:
                return state.first_step | ~(state.f_info.f <= target)

            def going(carry: Any) -> Any:
                _, state, evals = carry
                return _going_on(away(state) & (evals < budget), ~away(state), problem.share)

            def body(carry: Any) -> Any:
                x, state, evals = carry
                whole = eqx.combine(state, static)
                x, whole, _ = solver.step(fun, x, data, {}, whole, frozenset())
                new = (x, eqx.filter(whole, eqx.is_array), evals + 1)
                return _kept(problem, away(state), new, carry)

            end = jax.lax.while_loop(going, body, (x0, start, jnp.zeros((), jnp.int32)))
            x, state, evals = end
            return Solved(x, state.f_info.f, evals, ~away(state))

        return _compiled(one, problem)

    return maker


def _compiled(one: Callable[..., Solved], problem: Problem) -> Solver:
    """The run of one problem, or of a batch, as one program."""
    x0, data = jax.device_put(jax.tree.map(jnp.asarray, (problem.x0, problem.data)))
    shape = () if problem.share is None else jax.tree.leaves(x0)[0].shape[:1]
    run = one if problem.share is None else jax.vmap(one)
    compiled, at_once = jax.jit(run), jnp.full(shape, jnp.inf)
    jax.block_until_ready(compiled(x0, data, at_once))

    def solve(target: Any) -> Solved:
        # In NumPy, as an operation of JAX by itself takes as long as all of a small problem.
        target = np.broadcast_to(np.asarray(target, at_once.dtype), shape)
        return jax.block_until_ready(compiled(x0, data, target))

    return solve


def _kept(problem: Problem, going: Any, new: Any, old: Any) -> Any:
    """What the loop carries on: a problem of a batch stays where it ended."""
    return new if problem.share is None else trees.where(going, new, old)


def _going_on(running: Any, reached: Any, share: float | None) -> Any:
    """Whether the loop does: a batch does while fewer than the share of it are there."""

    @jax.custom_batching.custom_vmap
    def going(running: Any, reached: Any) -> Any:
        return running & ~reached

    @going.def_vmap
    def _(size: int, batched: Any, running: Any, reached: Any) -> Any:
        del size, batched
        return jnp.any(running) & (jnp.mean(reached) < (1.0 if share is None else share)), False

    return going(running, reached)
