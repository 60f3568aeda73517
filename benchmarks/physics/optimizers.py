"""The optimizers of the race, each from a problem and a budget to what it did with it."""

import contextlib
import time
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
import optax
import optimistix
from jax.flatten_util import ravel_pytree
from threadpoolctl import threadpool_limits

import jax_lbfgs_pi as lp
from benchmarks.physics.zoom_broyden import minimize as zoom_broyden
from jax_lbfgs_pi.evaluation.host import Asked, Enough, run_scipy
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


def on_host(solve):
    """An optimizer in NumPy, every evaluation of which is recorded, until it has `Enough`."""

    def run(loss, points, x0, max_evals):
        flat, back = ravel_pytree(x0)
        evaluate_at = jax.jit(jax.value_and_grad(lambda v, points: loss(back(v), points)))
        jax.block_until_ready(evaluate_at(flat, points))
        values, clock = [], []
        began = time.perf_counter()

        def evaluate(x):
            return jax.device_get(evaluate_at(x, points))

        def watch(x, value, grads):
            values.append(value)
            clock.append(time.perf_counter() - began)

        start = np.asarray(flat)
        asked = Asked(evaluate, start, budget=max_evals, watch=watch)
        solve(asked, start)
        evals = np.arange(1, len(values) + 1)
        return Run(evals, least_so_far(np.array(values)), np.array(clock), asked.best[0])

    return run


def searched(value_and_grad, x0):
    """The zoom-searched Broyden method, with one BLAS thread."""
    with threadpool_limits(1, "blas"), contextlib.suppress(Enough):
        zoom_broyden(value_and_grad, x0)


def scipys(method, **options):
    """A method of `scipy.optimize.minimize`, until the budget is spent."""
    return on_host(partial(run_scipy, method=method, max_iters=10**6, **options))


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
    f"{OURS}, rule": in_jax(lambda: lp.lbfgs_pi("rule", memory_size="dense")),
    SEARCHED: on_host(searched),
    "optax.lbfgs": in_jax(lambda: optax.lbfgs(memory_size=10)),
    "L-BFGS-π": in_jax(lambda: lp.lbfgs_pi(memory_size=10)),
    "SciPy L-BFGS-B": scipys("L-BFGS-B", maxcor=10),
    "SciPy BFGS": scipys("BFGS"),
    "optimistix BFGS": optimistix_bfgs,
}
"""By name; all with 10 pairs but those with a matrix."""
