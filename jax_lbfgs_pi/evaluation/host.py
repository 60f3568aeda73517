"""Solvers that ask for f and its gradient from Python, one evaluation after the other: SciPy's."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import scipy.optimize
from threadpoolctl import threadpool_limits

ValueAndGrad = Callable[[np.ndarray], tuple[Any, Any]]
"""Of a vector: f, a number, and its gradient, an array."""


class Enough(Exception):
    """Leaves a solver that looks at f and at its budget between iterations only."""


class Asked:
    """An objective that counts, keeps the best, and raises `Enough`.

    Attributes:
      num_evals: evaluations so far.
      best: the point of the least f, and f; x0 and infinity until there is one.
    """

    def __init__(
        self,
        value_and_grad: ValueAndGrad,
        x0: np.ndarray,
        *,
        budget: float = np.inf,
        target: float = -np.inf,
        watch: Callable[[np.ndarray, float, Any], Any] = lambda x, value, grads: None,
    ) -> None:
        """Asks `value_and_grad` until f is at most `target` or `budget` evaluations are made.

        Args:
          value_and_grad: the objective.
          x0: where the solver begins, shape `(n,)`.
          budget: evaluations.
          target: of f.
          watch: called with x, f and its gradient after each.
        """
        self._value_and_grad, self._watch = value_and_grad, watch
        self._budget, self._target = budget, target
        self.num_evals = 0
        self.best: tuple[np.ndarray, float] = (x0, np.inf)

    def __call__(self, x: np.ndarray) -> tuple[float, Any]:
        """Evaluates f and its gradient, which is there when this returns.

        Raises:
          Enough: instead of an evaluation where there is no more to be done, and after the one that
            reaches the target.
        """
        if self.best[1] <= self._target or self.num_evals >= self._budget:
            raise Enough
        value, grads = self._value_and_grad(x)
        value, grads = float(value), jax.block_until_ready(grads)
        self.num_evals += 1
        self._watch(x, value, grads)
        if value < self.best[1]:
            self.best = (x.copy(), value)
            if value <= self._target:
                raise Enough
        return value, grads


def run_scipy(
    objective: ValueAndGrad,
    x0: Any,
    *,
    method: str,
    max_iters: int,
    threads: int = 1,
    callback: Callable[..., Any] | None = None,
    **options: Any,
) -> None:
    """`scipy.optimize.minimize` without its own tests of progress, until `Enough`.

    Where its line search fails it ends too.

    Args:
      objective: f and its gradient; most often an `Asked`.
      x0: where to begin, shape `(n,)`.
      method: `L-BFGS-B` or `BFGS`.
      max_iters: iterations.
      threads: of BLAS; products are often too short for two, which may take ten times as long.
      callback: of SciPy.
      **options: of SciPy, such as `maxcor`.
    """
    limits: dict[str, Any] = {"gtol": 0.0, "maxiter": max_iters}
    if method == "L-BFGS-B":
        limits |= {"ftol": 0.0, "maxfun": 20 * max_iters + 1}

    def in_double(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, grads = objective(x)
        return value, np.asarray(grads, float)

    with contextlib.suppress(Enough), threadpool_limits(threads, user_api="blas"):
        scipy.optimize.minimize(
            in_double,
            np.asarray(x0, float),
            jac=True,
            method=method,
            callback=callback,
            options=limits | options,
        )
