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
from jax.flatten_util import ravel_pytree

from benchmarks import peers
from benchmarks.solvers import Maker, Problem, Solved, Solver
from jax_lbfgs_pi.evaluation.host import Asked, Enough, run_scipy


def scipy_solver(method: str, *, threads: int = 1, **options: Any) -> Maker:
    """SciPy's `L-BFGS-B` or `BFGS` with its own tests of progress off.

    Args:
      method: its name there.
      threads: of BLAS.
      **options: its own.
    """

    def run(objective: Asked, start: np.ndarray, budget: int) -> None:
        run_scipy(objective, start, method=method, max_iters=budget + 1, threads=threads, **options)

    return _asking(run)


def torch_lbfgs(memory_size: int, *, threads: int = 1) -> Maker:
    """`torch.optim.LBFGS` with its search for the strong Wolfe conditions.

    Args:
      memory_size: pairs.
      threads: of PyTorch.
    """
    torch = peers.load("torch")

    def run(objective: Asked, start: np.ndarray, budget: int) -> None:
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

        with contextlib.suppress(Enough):
            solver.step(closure)

    return _asking(run)


def _asking(run: Callable[[Asked, np.ndarray, int], None]) -> Maker:
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
            def evaluate(x: np.ndarray) -> tuple[Any, Any]:
                return value_and_grad(jnp.asarray(x, flat.dtype), data)

            asked = Asked(evaluate, start, budget=budget, target=target)
            run(asked, start, budget)
            return *asked.best, asked.num_evals

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
