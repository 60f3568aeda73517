"""What no solver of a batch can do without."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.batch_problems import Loss, Solver


def evaluations_one(loss: Loss, num: int) -> Callable[[Any, Any], Any]:
    """`(x0, data) -> (x, f)` by `num + 1` evaluations alone: the least that a solver costs.

    A tiny gradient step stands between them, or all would be one.
    """

    def solve(x0: Any, data: Any) -> Any:
        def step(x: Any, _: Any) -> tuple[Any, Any]:
            value, grads = jax.value_and_grad(loss)(x, data)
            return x - 1e-9 * grads, value

        x, values = jax.lax.scan(step, x0, length=num + 1)
        return x, values[-1]

    return solve


def bare_bfgs_one(loss: Loss, num: int) -> Callable[[Any, Any], Any]:
    """`(x0, data) -> (x, f)` by `num` steps of BFGS with nothing to decide: H g, an evaluation, H₊.

    It solves nothing, as its steps are too short to leave x0's valley: it is what a step with a
    matrix costs at least, in the form that compiles to the least.
    """

    def solve(x0: Any, data: Any) -> Any:
        both = jax.value_and_grad(loss)

        def step(carry: Any, _: Any) -> tuple[Any, Any]:
            x, g, matrix = carry
            moved = x - 1e-3 * (matrix @ g)
            value, grads = both(moved, data)
            s, y = moved - x, grads - g
            sy, hy = s @ y, matrix @ y
            curved = sy > 0.0
            per_sy = jnp.where(curved, 1.0 / jnp.where(curved, sy, 1.0), 0.0)
            way = 0.5 * per_sy * (per_sy * (y @ hy) + 1.0) * s - per_sy * hy
            matrix += jnp.outer(way, s) + jnp.outer(s, way)
            return (moved, grads, matrix), value

        start = (x0, both(x0, data)[1], jnp.eye(x0.size))
        (x, *_), values = jax.lax.scan(step, start, length=num)
        return x, values[-1]

    return solve


BOUNDS: dict[str, Solver] = {"bare BFGS": bare_bfgs_one, "evaluations": evaluations_one}
"""Of a method with a matrix, and of any."""
