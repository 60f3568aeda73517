"""Iterations of other libraries, each as its documentation would have it.

A loss is a function of parameters and data.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from benchmarks import peers
from benchmarks.problems import MLPTask
from benchmarks.timing import Candidate

Loss = Callable[[Any, Any], Any]


def jaxopt_iteration(loss: Loss, x0: Any, data: Any, memory_size: int) -> tuple[Any, Any]:
    """`(step, start)` of `jaxopt.LBFGS` with its zoom line search."""
    jaxopt = peers.load("jaxopt")
    solver = jaxopt.LBFGS(loss, history_size=memory_size, tol=0.0, maxiter=10**6)

    def step(carry: Any, data: Any) -> tuple[Any, Any]:
        params, state = solver.update(*carry, data)
        return (params, state), state.value

    return step, (x0, solver.init_state(x0, data))


def optimistix_iteration(loss: Loss, x0: Any, data: Any, memory_size: int) -> tuple[Any, Any]:
    """`(step, start)` of `optimistix.LBFGS`; a step is one trial of its backtracking search."""
    optimistix = peers.load("optimistix")
    import equinox as eqx

    solver = optimistix.LBFGS(rtol=0.0, atol=0.0, history_length=memory_size)
    value = jax.eval_shape(loss, x0, data)
    tags: frozenset[object] = frozenset()

    def with_aux(params: Any, data: Any) -> tuple[Any, None]:
        return loss(params, data), None

    start = solver.init(with_aux, x0, data, {}, value, None, tags)
    arrays, static = eqx.partition(start, eqx.is_array)

    def step(carry: Any, data: Any) -> tuple[Any, Any]:
        params, arrays, num_evals = carry
        state = eqx.combine(arrays, static)
        params, state, _ = solver.step(with_aux, params, data, {}, state, tags)
        return (params, eqx.filter(state, eqx.is_array), num_evals + 1), num_evals

    return step, (x0, arrays, jnp.zeros((), int))


class ScipySolve:
    """A solve by SciPy's L-BFGS-B on a flat vector.

    Attributes:
      counts: evaluations and iterations of the last solve.
    """

    def __init__(self, problem: MLPTask, memory_size: int, num_iters: int):
        flat, unravel = ravel_pytree(problem.x0)
        self._x0 = np.asarray(flat)
        self._fun = jax.jit(
            jax.value_and_grad(lambda x: problem.task.loss(unravel(x), problem.data))
        )
        self._options = {
            "maxcor": memory_size, "maxiter": num_iters, "maxfun": 10**6, "ftol": 0.0, "gtol": 0.0
        }  # fmt: skip
        self._blas = peers.one_blas_thread()
        self.counts = (0, 0)

    def __call__(self) -> float:
        def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, grads = self._fun(x)
            return float(value), np.asarray(grads)

        with self._blas.limit(limits=1, user_api="blas"):
            result = peers.load("scipy").minimize(
                evaluate, self._x0, jac=True, method="L-BFGS-B", options=self._options
            )
        self.counts = (result.nfev, result.nit)
        return result.fun


def torch_candidates(
    problem: MLPTask, memory_size: int, skipped: int, num_iters: int
) -> tuple[dict[str, Candidate], Callable[[], float]]:
    """`torch.optim.LBFGS` without line search, and its own forward and backward pass."""
    import torch

    from benchmarks.torch_meta import mlp_data, mlp_loss, split

    images, labels = mlp_data(problem.data)
    width = 20
    x0 = torch.tensor(np.asarray(ravel_pytree(problem.x0)[0]))
    run: dict[str, Any] = {}

    def begin() -> None:
        run["weights"] = [part.clone().requires_grad_() for part in split(x0, width)]
        run["optimizer"] = torch.optim.LBFGS(
            run["weights"], lr=1.0, max_iter=1, history_size=memory_size
        )

    def closure() -> Any:
        run["optimizer"].zero_grad()
        loss = mlp_loss(run["weights"], images, labels)
        loss.backward()
        return loss

    def setup() -> None:
        begin()
        for _ in range(skipped):
            step()

    def step() -> Any:
        return run["optimizer"].step(closure)

    def count() -> float:
        setup()
        before = run["optimizer"].state[run["weights"][0]]["func_evals"]
        for _ in range(num_iters):
            step()
        if not all(bool(torch.isfinite(weight).all()) for weight in run["weights"]):
            raise AssertionError("torch.optim.LBFGS left the finite numbers.")
        return (run["optimizer"].state[run["weights"][0]]["func_evals"] - before) / num_iters

    begin()
    peers.set_torch_threads(closure)
    timed = {
        "torch value_and_grad": Candidate(closure, begin, calls=num_iters),
        "torch.optim.LBFGS (t = 1)": Candidate(step, setup, calls=num_iters),
    }
    return timed, count
