"""One optimizer on one problem, up to a number of evaluations of f and its gradient."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jax_lbfgs_pi.baselines import Competitor, ScipyCompetitor
from jax_lbfgs_pi.bench.competitors import ScipyByEvaluation
from jax_lbfgs_pi.evaluation.host import Asked, run_scipy
from jax_lbfgs_pi.loop import make_loop
from jax_lbfgs_pi.stopping import Status, Stopping
from jax_lbfgs_pi.suite.problem import Problem


@dataclasses.dataclass(frozen=True)
class Record:
    """What an optimizer did with its evaluations; arrays have an entry for each iterate.

    Of SciPy every evaluation counts as an iterate, of line searches in JAX the accepted points.

    Attributes:
      num_evals: evaluations of f made until the iterate was known; at most the budget.
      value: f there.
      grad_norm: the gradient norm there.
      status: a `Status`; `MAX_ITERS` also where the budget was spent, or SciPy gave up.
      seconds: for the whole run, without compilation.
      compile_seconds: for compilation; 0 where it was compiled before.
    """

    num_evals: np.ndarray
    value: np.ndarray
    grad_norm: np.ndarray
    status: int
    seconds: float
    compile_seconds: float

    @property
    def best(self) -> np.ndarray:
        """The least finite f so far, at each iterate; infinity before the first."""
        return np.minimum.accumulate(np.where(np.isfinite(self.value), self.value, np.inf))


Compiled = Callable[[Any, Any], tuple[dict[str, np.ndarray], int]]
"""From data and starting point to the arrays of a record, uncut, and a status."""


class Runner:
    """Runs competitors on problems, and compiles anew only where formula or shapes are new.

    Where they are, all that JAX has compiled is dropped: memory stays bounded over a suite.
    """

    def __init__(self, budget: int) -> None:
        """Makes a runner of `budget` evaluations for each run.

        Raises:
          ValueError: for `budget < 1`.
        """
        if budget < 1:
            raise ValueError(f"The budget must be at least 1 evaluation, but got {budget}.")
        self._budget = budget
        self._of: tuple[Any, Any] = (None, None)
        self._compiled: dict[str, Compiled] = {}

    def __call__(self, problem: Problem, competitor: Competitor) -> Record:
        """The record of a competitor on a problem."""
        data, x0 = jax.device_put(jax.tree.map(jnp.asarray, (problem.data, problem.x0)))
        shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (data, x0))
        if self._of[0] is not problem.loss or self._of[1] != shapes:
            self._compiled.clear()
            jax.clear_caches()
            self._of = (problem.loss, shapes)
        compile_seconds = 0.0
        if competitor.name not in self._compiled:
            began = time.perf_counter()
            example = (self._budget, data, x0)
            if isinstance(competitor, ScipyByEvaluation):
                run = _compile_scipy(problem.loss, competitor, *example)
            else:
                run = _compile(problem.loss, competitor, *example)
            self._compiled[competitor.name] = run
            compile_seconds = time.perf_counter() - began
        began = time.perf_counter()
        arrays, status = self._compiled[competitor.name](data, x0)
        seconds = time.perf_counter() - began
        # A line search may run past the budget: what it found there does not count.
        keep = (arrays["num_evals"] > 0) & (arrays["num_evals"] <= self._budget)
        arrays = {name: np.asarray(array)[keep] for name, array in arrays.items()}
        return Record(**arrays, status=status, seconds=seconds, compile_seconds=compile_seconds)


def _compile(
    loss: Callable[[Any, Any], Any], competitor: Competitor, budget: int, data: Any, x0: Any
) -> Compiled:
    if isinstance(competitor, ScipyCompetitor):
        raise ValueError(f"{competitor.name!r} races alone: the benchmark has ScipyByEvaluation.")
    tx = competitor.make()
    # So small a gradient is zero for all that can be done with it.
    tol = float(jnp.finfo(jnp.zeros(()).dtype).tiny)

    def run(data: Any, x0: Any) -> tuple[Any, Any]:
        loop = make_loop(
            tx,
            lambda params: loss(params, data),
            max_iters=budget - 1,
            stopping=Stopping(gtol=tol, patience=None),
            retreats=competitor.retreats,
        )
        end = jax.lax.while_loop(
            lambda state: loop.running(state) & (state.num_evals < budget),
            loop.body,
            loop.init(x0),
        )
        past = end.trajectory
        arrays = {
            "num_evals": past.num_evals, "value": past.value, "grad_norm": past.grad_norm
        }  # fmt: skip
        return arrays, end.status

    compiled = jax.jit(run).lower(data, x0).compile()

    def go(data: Any, x0: Any) -> tuple[dict[str, np.ndarray], int]:
        arrays, status = jax.device_get(compiled(data, x0))
        running = int(status) == Status.RUNNING
        return arrays, int(Status.MAX_ITERS if running else status)

    return go


def _compile_scipy(
    loss: Callable[[Any, Any], Any],
    competitor: ScipyByEvaluation,
    budget: int,
    data: Any,
    x0: Any,
) -> Compiled:
    flat, unravel = ravel_pytree(x0)

    def flat_loss(x: Any, data: Any) -> Any:
        return loss(unravel(x), data)

    value_and_grad = jax.jit(jax.value_and_grad(flat_loss)).lower(flat, data).compile()
    pairs = competitor.memory_size
    method = "BFGS" if pairs is None else "L-BFGS-B"
    options: dict[str, Any] = {} if pairs is None else {"maxcor": pairs}

    def go(data: Any, x0: Any) -> tuple[dict[str, np.ndarray], int]:
        start = np.asarray(ravel_pytree(x0)[0])
        rows: list[tuple[float, float]] = []

        def evaluate(x: np.ndarray) -> tuple[Any, Any]:
            return jax.device_get(value_and_grad(jnp.asarray(x, start.dtype), data))

        def watch(x: np.ndarray, value: float, grads: np.ndarray) -> None:
            rows.append((value, float(np.linalg.norm(grads))))

        objective = Asked(evaluate, start, budget=budget, watch=watch)
        run_scipy(objective, start, method=method, max_iters=budget + 1, **options)
        values, norms = np.array(rows).T
        arrays = {
            "num_evals": np.arange(1, len(rows) + 1), "value": values, "grad_norm": norms
        }  # fmt: skip
        return arrays, int(Status.CONVERGED if norms[-1] == 0 else Status.MAX_ITERS)

    return go
