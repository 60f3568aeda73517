"""Batches of small problems, and the solvers that `batch` maps over them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jax_lbfgs_pi as lp
from benchmarks import peers

MEMORY_SIZE = 5
Loss = Callable[[Any, Any], Any]
Solver = Callable[[Loss, int], Callable[[Any, Any], Any]]


class Batch(NamedTuple):
    """B problems of one shape.

    Attributes:
      name: for the table.
      loss: `(params, data) -> f`.
      data: a pytree with a leading axis of B, or None.
      x0: shape `(B, n)`.
      least: the least value of each problem's f, shape `(B,)`.
      target: the median of `f - least` that ends the race.
    """

    name: str
    loss: Loss
    data: Any
    x0: Any
    least: Any
    target: float


def rosenbrock(x: Any, data: Any) -> Any:
    """The chained Rosenbrock function; it has no data."""
    del data
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def logistic(x: Any, data: Any) -> Any:
    """Logistic regression with L2 regularization; labels are ±1."""
    margins = data["labels"] * (data["inputs"] @ x)
    return jnp.mean(jax.nn.softplus(-margins)) + 0.5e-3 * jnp.sum(x**2)


def rosenbrocks(num: int) -> Batch:
    """Rosenbrock functions of dimension 10, from starting points in [-2, 2]."""
    x0 = jax.random.uniform(jax.random.key(0), (num, 10), minval=-2.0, maxval=2.0)
    return Batch(f"Rosenbrock ×{num}", rosenbrock, None, x0, jnp.zeros(num), 1e-6)


def logistics(num: int) -> Batch:
    """Logistic regressions on 100 random points of dimension 20, from 0."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(num, 100, 20))
    weights, noise = rng.normal(size=(num, 20, 1)), rng.normal(size=(num, 100))
    labels = np.sign((inputs @ weights)[..., 0] + noise)
    data = jax.tree.map(jnp.asarray, {"inputs": inputs, "labels": labels})
    x0 = jnp.zeros((num, 20))
    # Curvature is all there is to these problems; 500 iterations leave rounding errors alone.
    least = mapped(ours_one(logistic, 500))(x0, data)[-1]
    return Batch(f"logistic ×{num}", logistic, data, x0, least, 1e-8)


def exponential(x: Any, data: Any) -> Any:
    """Squared error of a sum of two decaying exponentials and a constant."""
    t, y = data["t"], data["y"]
    model = x[0] * jnp.exp(-x[1] * t) + x[2] * jnp.exp(-x[3] * t) + x[4]
    return jnp.sum((model - y) ** 2)


def exponentials(num: int) -> Batch:
    """Fits of 5 parameters to 30 exact points, from within 30 % of the truth."""
    rng = np.random.default_rng(0)
    least, most = [1.0, 0.3, 1.0, 1.5, -0.5], [3.0, 0.8, 3.0, 4.0, 0.5]
    truth = rng.uniform(least, most, size=(num, 5))
    t = np.linspace(0.0, 4.0, 30)
    a, b, c, d, e = (truth[:, [i]] for i in range(5))
    y = a * np.exp(-b * t) + c * np.exp(-d * t) + e
    data = {"t": jnp.asarray(np.broadcast_to(t, y.shape)), "y": jnp.asarray(y)}
    x0 = jnp.asarray(truth * rng.uniform(0.7, 1.3, size=truth.shape))
    return Batch(f"exponential ×{num}", exponential, data, x0, jnp.zeros(num), 1e-8)


def ours_one(loss: Loss, max_iters: int, memory_size: Any = MEMORY_SIZE) -> Callable[..., Any]:
    """`(x0, data) -> (x, f)` by `lp.minimize` with the default policy."""

    def solve(x0: Any, data: Any) -> Any:
        result = lp.minimize(
            lambda x: loss(x, data), x0, memory_size=memory_size, max_iters=max_iters, tol=0.0
        )
        return result.params, result.value

    return solve


def optax_one(loss: Loss, max_iters: Any) -> Callable[[Any, Any], Any]:
    """`(x0, data) -> (x, f)` by `optax.lbfgs` in the loop of optax's documentation.

    `max_iters` may be traced, so that one compilation serves all.
    """
    tx = optax.lbfgs(memory_size=MEMORY_SIZE)

    def solve(x0: Any, data: Any) -> Any:
        def fun(x: Any) -> Any:
            return loss(x, data)

        value_and_grad = optax.value_and_grad_from_state(fun)

        def step(carry: Any) -> Any:
            params, state = carry
            value, grads = value_and_grad(params, state=state)
            updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=fun)
            return optax.apply_updates(params, updates), state

        def going_on(carry: Any) -> Any:
            # With the tolerance at 0 the docs' other test, on the gradient norm, never stops it.
            return optax.tree.get(carry[1], "count") < max_iters

        params, state = jax.lax.while_loop(going_on, step, (x0, tx.init(x0)))
        return params, optax.tree.get(state, "value")

    return solve


def optimistix_one(loss: Loss, max_iters: Any) -> Callable[[Any, Any], Any]:
    """`(x0, data) -> (x, f)` by `optimistix.BFGS`, which evaluates once a step, stepped by hand.

    `max_iters` may be traced; its own loop wants a number.
    """
    optimistix = peers.load("optimistix")
    solver = optimistix.BFGS(rtol=0.0, atol=0.0)

    def solve(x0: Any, data: Any) -> Any:
        def fun(x: Any, data: Any) -> Any:
            return loss(x, data), None

        value = jax.eval_shape(loss, x0, data)
        start = solver.init(fun, x0, data, {}, value, None, frozenset())

        def step(_: Any, carry: Any) -> Any:
            x, state = carry
            x, state, _ = solver.step(fun, x, data, {}, state, frozenset())
            return x, state

        x, _ = jax.lax.fori_loop(0, max_iters, step, (x0, start))
        return x, loss(x, data)

    return solve


def mapped(one: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A solver under `vmap`, compiled."""
    return jax.jit(jax.vmap(one))


def our_fewest_iterations(batch: Batch, most: int, memory_size: Any = MEMORY_SIZE) -> int | None:
    """The smallest `max_iters` at which the median over the batch is at the target; None if none.

    Read from one long run, as `lp.minimize` returns the least value among f(x_0), ..., f(x_k).
    """

    def values(x0: Any, data: Any) -> Any:
        def fun(x: Any) -> Any:
            return batch.loss(x, data)

        result = lp.minimize(fun, x0, memory_size=memory_size, max_iters=most, tol=0.0)
        return result.trajectory.value

    visited = np.asarray(mapped(values)(batch.x0, batch.data))
    least = np.fmin.accumulate(visited, axis=1)  # past the end of a run stand NaNs
    reached = np.median(least - np.asarray(batch.least)[:, None], axis=0) <= batch.target
    return int(np.argmax(reached)) if reached.any() else None


def fewest_by_bisection(one: Solver, batch: Batch, most: int) -> int | None:
    """The same of a solver that takes a traced `max_iters`; one less was tried too."""

    @jax.jit
    def median(x0: Any, data: Any, max_iters: Any) -> Any:
        _, values = jax.vmap(one(batch.loss, max_iters))(x0, data)
        return jnp.median(values - batch.least)

    def reached(max_iters: int) -> bool:
        return float(median(batch.x0, batch.data, max_iters)) <= batch.target

    low, high = 0, 1  # `low` does not reach it, `high` may
    while not reached(high):
        low, high = high, 2 * high
        if high > most:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


OURS, OPTAX, OPTIMISTIX = "L-BFGS-π", "optax.lbfgs", "optimistix.BFGS"
MATRICES = {f"{OURS}, {memory_size}": memory_size for memory_size in ("full", "dense")}
"""Ours with n² or 2 n² numbers, for n of 5 to 20 no more than a few pairs have."""
SOLVERS: dict[str, Solver] = {
    OURS: ours_one,
    **{name: partial(ours_one, memory_size=size) for name, size in MATRICES.items()},
    OPTAX: optax_one,
}
FEWEST_ITERATIONS: dict[str, Callable[[Batch, int], int | None]] = {
    OURS: our_fewest_iterations,
    **{name: partial(our_fewest_iterations, memory_size=m) for name, m in MATRICES.items()},
    OPTAX: partial(fewest_by_bisection, optax_one),
}
if peers.load("optimistix") is not None:
    SOLVERS[OPTIMISTIX] = optimistix_one
    FEWEST_ITERATIONS[OPTIMISTIX] = partial(fewest_by_bisection, optimistix_one)


def executed_evaluations(one: Solver, batch: Batch, max_iters: int) -> int:
    """How often a mapped solver evaluates the objective, all problems at once counting as one.

    Counted by a callback in the objective, in a run that is not timed; a search that goes on for
    one problem is executed for all.
    """
    count = 0

    def tick(x: Any) -> Any:
        nonlocal count
        count += 1
        return np.zeros(np.shape(x), np.asarray(x).dtype)

    def loss(x: Any, data: Any) -> Any:
        # It reads x, or it could be moved out of the loop; it is added, or it could be dropped.
        token = jax.lax.stop_gradient(x[0])
        shape = jax.ShapeDtypeStruct((), x.dtype)
        zero = jax.pure_callback(tick, shape, token, vmap_method="broadcast_all")
        return batch.loss(x, data) + zero

    solve = mapped(one(loss, max_iters))
    jax.block_until_ready(solve(batch.x0, batch.data))
    return count
