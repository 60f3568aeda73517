"""SciPy's L-BFGS-B in a race: what users reach for outside JAX."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from jax_lbfgs_pi.evaluation.host import run_scipy
from jax_lbfgs_pi.evaluation.run import Run
from jax_lbfgs_pi.stopping import Status


def compile_scipy(
    loss: Callable[[Any, Any], Any], data: Any, x0: Any, *, tol: float, memory_size: int = 5
) -> Callable[[Any, Any, int], Run]:
    """A function of `(data, x0, max_iters)` that runs SciPy's `L-BFGS-B`, with one BLAS thread.

    SciPy's own tests of progress are off; where its line search fails, the run ends. It does not
    tell its step sizes, so they are NaN.

    Args:
      loss: the objective, `(params, data) -> f`, which is compiled here, once.
      data: an example of what it reads besides the parameters.
      x0: an example of a starting point, a pytree.
      memory_size: `maxcor`.
      tol: a run ends where the 2-norm of the gradient is below this.
    """
    flat, unravel = ravel_pytree(x0)
    value_and_grad = jax.jit(
        lambda x, data: jax.value_and_grad(lambda v: loss(unravel(v), data))(x)
    )
    jax.block_until_ready(value_and_grad(flat, data))
    return functools.partial(_run, value_and_grad, tol, memory_size)


def _run(
    value_and_grad: Callable, tol: float, memory_size: int, data: Any, x0: Any, max_iters: int
) -> Run:
    flat, _ = ravel_pytree(x0)
    rows: list[tuple[float, float, int, float]] = []
    trials: list[tuple[np.ndarray, float, float, float]] = []  # since the last iterate
    num_evals = 0
    first: tuple[float, np.ndarray] | None = None

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal num_evals, first
        if first is not None:  # SciPy begins with x0, which is known
            known, first = first, None
            return known
        value, grads = jax.device_get(value_and_grad(x, data))
        num_evals += 1
        trial = (float(value), float(np.linalg.norm(grads)), time.perf_counter() - began)
        trials.append((x.copy(), *trial))
        if num_evals == 1:
            rows.append((trial[0], trial[1], 1, trial[2]))
        return float(value), grads

    def on_iteration(intermediate_result: Any) -> None:
        x = intermediate_result.x
        _, value, norm, seconds = next(t for t in reversed(trials) if np.array_equal(t[0], x))
        rows.append((value, norm, num_evals, seconds))
        trials.clear()
        if norm < tol:
            raise StopIteration

    began = time.perf_counter()
    start = objective(np.asarray(flat, float))
    if rows[0][1] < tol or max_iters == 0:
        return _as_run(rows, tol)
    first = start
    run_scipy(
        objective,
        flat,
        method="L-BFGS-B",
        max_iters=max_iters,
        callback=on_iteration,
        maxcor=memory_size,
    )
    return _as_run(rows, tol)


def _as_run(rows: list[tuple[float, float, int, float]], tol: float) -> Run:
    values, norms, evals, seconds = (np.asarray(column) for column in zip(*rows, strict=True))
    return Run(
        value=values,
        grad_norm=norms,
        step_size=np.full(len(values), np.nan),
        num_evals=evals,
        seconds=seconds,
        status=int(Status.CONVERGED if norms[-1] < tol else Status.MAX_ITERS),
    )
