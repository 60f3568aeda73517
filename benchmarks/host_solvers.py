"""Solvers that ask for f and its gradient from Python: SciPy's and PyTorch's.

Each asks the same compiled function of JAX, so what differs is the solver. A batch is solved one by
one, until its share is there.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jax.flatten_util import ravel_pytree
from threadpoolctl import threadpool_limits

from benchmarks import peers
from benchmarks.solvers import Maker, Problem, Solved, Solver

Objective = Callable[[Any], tuple[float, Any]]
"""Of a vector: f, a number, and its gradient, an array of JAX; ends the run by an exception."""


def scipy_solver(method: str, *, threads: int = 1, **options: Any) -> Maker:
    """SciPy's `L-BFGS-B` or `BFGS` with its own tests of progress off.

    Args:
      method: its name there.
      threads: of BLAS.
      **options: its own.
    """

    def run(objective: Objective, start: np.ndarray, budget: int) -> None:
        limits: dict[str, Any] = {"gtol": 0.0, "maxiter": budget + 1}
        if method == "L-BFGS-B":
            limits |= {"ftol": 0.0, "maxfun": 20 * budget + 20}

        def in_double(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, grads = objective(x)
            return value, np.asarray(grads, float)

        with threadpool_limits(threads, user_api="blas"):
            scipy.optimize.minimize(
                in_double, start, jac=True, method=method, options={**limits, **options}
            )

    return _asking(run)


def torch_lbfgs(memory_size: int, *, threads: int = 1) -> Maker:
    """`torch.optim.LBFGS` with its search for the strong Wolfe conditions.

    Args:
      memory_size: pairs.
      threads: of PyTorch.
    """
    torch = peers.load("torch")

    def run(objective: Objective, start: np.ndarray, budget: int) -> None:
        torch.set_num_threads(threads)
        x = torch.tensor(start, requires_grad=True)
        solver = torch.optim.LBFGS(
            [x], max_iter=budget, max_eval=budget, tolerance_grad=0.0, tolerance_change=0.0,
            history_size=memory_size, line_search_fn="strong_wolfe",
        )  # fmt: skip

        def closure() -> float:
            value, grads = objective(x.detach().numpy())
            x.grad = torch.from_dlpack(grads)
            return value

        solver.step(closure)

    return _asking(run)


class _Over(Exception):
    """Leaves a solver that looks at f between iterations only."""


def _asking(run: Callable[[Objective, np.ndarray, int], None]) -> Maker:
    def maker(problem: Problem, budget: int) -> Solver:
        alone = problem.share is None
        cases = [(problem.x0, problem.data)] if alone else _cases(problem)
        cases = jax.device_put(cases)
        flat, unravel = ravel_pytree(cases[0][0])
        starts = [np.asarray(ravel_pytree(x0)[0], float) for x0, _ in cases]
        value_and_grad = (
            jax.jit(jax.value_and_grad(lambda x, data: problem.loss(unravel(x), data)))
            .lower(flat, cases[0][1])
            .compile()
        )

        def one(start: np.ndarray, data: Any, target: float) -> tuple[np.ndarray, float, int]:
            best, evals = (start, np.inf), 0

            def objective(x: np.ndarray) -> tuple[float, Any]:
                nonlocal best, evals
                if best[1] <= target or evals == budget:
                    raise _Over
                value, grads = value_and_grad(jnp.asarray(x, flat.dtype), data)
                value, evals = float(value), evals + 1
                if value < best[1]:
                    best = (x.copy(), value)
                    if value <= target:
                        raise _Over
                return value, jax.block_until_ready(grads)

            with contextlib.suppress(_Over):
                run(objective, start, budget)
            return *best, evals

        def solve(target: Any) -> Solved:
            targets, rows, there = np.broadcast_to(target, len(cases)), [], 0
            for start, (_, data), aim in zip(starts, cases, targets, strict=True):
                enough = not alone and there >= problem.share * len(cases)
                rows.append((start, np.nan, 0) if enough else one(start, data, aim))
                there += rows[-1][1] <= aim
            params, values, evals = map(np.stack, zip(*rows, strict=True))
            out = Solved(params, values, evals, values <= targets)
            out = out._replace(params=jax.vmap(unravel)(jnp.asarray(params, flat.dtype)))
            return jax.tree.map(lambda a: a[0], out) if alone else out

        return solve

    return maker


def _cases(problem: Problem) -> list[tuple[Any, Any]]:
    num = len(jax.tree.leaves(problem.x0)[0])
    return [jax.tree.map(lambda a, i=i: a[i], (problem.x0, problem.data)) for i in range(num)]
