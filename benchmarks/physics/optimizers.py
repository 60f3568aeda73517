"""The optimizers of the race, each from a problem and a budget to what it did with it."""

import contextlib
import time
from typing import NamedTuple

import jax
import numpy as np
import optax
import optimistix
import scipy.optimize
from jax.flatten_util import ravel_pytree
from threadpoolctl import threadpool_limits

import jax_lbfgs_pi as lp
from benchmarks.physics.zoom_broyden import minimize as zoom_broyden
from jax_lbfgs_pi.evaluation.race import compile_loop
from jax_lbfgs_pi.loop import make_loop


class Run(NamedTuple):
    """What an optimizer did.

    Attributes:
      evals: evaluations made until a value was known.
      best: the least f so far.
      seconds: since the start, without compilation.
      params: the point of the least f, raveled.
    """

    evals: np.ndarray
    best: np.ndarray
    seconds: np.ndarray
    params: np.ndarray


def in_jax(make):
    """An optax optimizer, in a compiled loop that stops between chunks to look at the clock."""

    def solve(loss, points, x0, max_evals):
        def loop(points):
            return make_loop(
                make(),
                lambda x: loss(x, points),
                max_iters=max_evals,
                stopping=lp.Stopping(gtol=0.0, patience=None),
                max_evals=max_evals,
                retreats=True,
            )

        compiled = compile_loop(loop)
        compiled(points, x0, 0)
        state, run = compiled(points, x0, max_evals)
        params = np.asarray(ravel_pytree(state.best.params)[0])
        return Run(run.num_evals, least_so_far(run.value), run.seconds, params)

    return solve


def least_so_far(values):
    """The least finite value up to each."""
    return np.minimum.accumulate(np.where(np.isfinite(values), values, np.inf))


class _Spent(Exception):
    pass


def on_host(solve):
    """An optimizer in NumPy, every evaluation of which is recorded; one BLAS thread."""

    def run(loss, points, x0, max_evals):
        flat, back = ravel_pytree(x0)
        evaluate = jax.jit(jax.value_and_grad(lambda v, points: loss(back(v), points)))
        jax.block_until_ready(evaluate(flat, points))
        values, clock, best = [], [], [np.inf, np.asarray(flat)]
        began = time.perf_counter()

        def value_and_grad(x):
            if len(values) == max_evals:
                raise _Spent
            f, g = evaluate(x, points)
            f, g = float(f), np.asarray(g)
            values.append(f)
            clock.append(time.perf_counter() - began)
            if f < best[0]:
                best[:] = f, np.array(x)
            return f, g

        with threadpool_limits(1, "blas"), contextlib.suppress(_Spent):
            solve(value_and_grad, np.asarray(flat))
        evals = np.arange(1, len(values) + 1)
        return Run(evals, least_so_far(np.array(values)), np.array(clock), best[1])

    return run


def scipys(method, **options):
    """A method of `scipy.optimize.minimize`, which must not stop before the budget is spent."""

    def solve(value_and_grad, x0):
        most = {"maxiter": 10**9, **options}
        scipy.optimize.minimize(value_and_grad, x0, jac=True, method=method, options=most)

    return solve


def optimistix_bfgs(loss, points, x0, max_evals):
    """Backtracking search: each step is one evaluation. Only its end is known."""
    solver = optimistix.BFGS(rtol=0.0, atol=0.0)

    @jax.jit
    def solve(x0, points):
        found = optimistix.minimise(
            lambda x, points: loss(x, points), solver, x0, points, max_steps=max_evals, throw=False
        )
        return found.value, loss(found.value, points)

    program = solve.lower(x0, points).compile()
    began = time.perf_counter()
    x, f = jax.block_until_ready(program(x0, points))
    seconds = time.perf_counter() - began
    first = float(loss(x0, points))
    return Run(
        np.array([1, max_evals]), np.array([first, min(first, float(f))]),
        np.array([0.0, seconds]), np.asarray(ravel_pytree(x)[0]),
    )  # fmt: skip


OURS, SEARCHED = "L-BFGS-π dense", "zoom-searched Broyden"
OPTIMIZERS = {
    OURS: in_jax(lambda: lp.lbfgs_pi(memory_size="dense")),
    SEARCHED: on_host(zoom_broyden),
    "optax.lbfgs": in_jax(lambda: optax.lbfgs(memory_size=10)),
    "L-BFGS-π": in_jax(lambda: lp.lbfgs_pi(memory_size=10)),
    "SciPy L-BFGS-B": on_host(scipys("L-BFGS-B", maxcor=10, maxfun=10**9, ftol=0.0, gtol=0.0)),
    "SciPy BFGS": on_host(scipys("BFGS", gtol=0.0)),
    "optimistix BFGS": optimistix_bfgs,
}
"""By name; all with 10 pairs but those with a matrix."""
