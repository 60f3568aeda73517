"""A physics-informed network, and what to change for yours: python -m examples.physics_informed.

-Δu + u³ = q on the unit square, u = 0 on its edge. Write your own `solution` (or none), `field` and
`residual`; the rest stays. Adam and `optax.lbfgs` are what many use today: all are given equally
many evaluations of the loss and its gradient, and then race to one loss.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

import jax_lbfgs_pi as lp
from benchmarks.solvers import Problem, ours
from examples.beside import everyone, keep, race, show
from jax_lbfgs_pi.evaluation.figures import finish_axes

WIDTHS = (2, 24, 24, 24, 1)


def init(key):
    """Glorot's weights of a tanh network."""
    keys = jax.random.split(key, len(WIDTHS) - 1)
    weights = jax.nn.initializers.glorot_normal()
    return [
        {"W": weights(k, (n_in, n_out)), "b": jnp.zeros(n_out)}
        for k, n_in, n_out in zip(keys, WIDTHS[:-1], WIDTHS[1:], strict=True)
    ]


def network(params, x):
    """From a point to a number."""
    for layer in params[:-1]:
        x = jnp.tanh(x @ layer["W"] + layer["b"])
    return (x @ params[-1]["W"] + params[-1]["b"])[0]


def field(params, x):
    """The network times what is 0 on the edge: no term of the loss is needed for it."""
    return x[0] * (1 - x[0]) * x[1] * (1 - x[1]) * network(params, 2 * x - 1)


def solution(x):
    """What the right-hand side is made from, to measure the error with."""
    return jnp.sin(2 * jnp.pi * x[0]) * jnp.sin(jnp.pi * x[1]) + x[0] * (1 - x[0]) * jnp.sin(
        3 * jnp.pi * x[1]
    )


def residual(u, x):
    """-Δu + u³."""
    return -jnp.trace(jax.hessian(u)(x)) + u(x) ** 3


def loss(params, points):
    """The mean squared residual."""
    right = jax.vmap(lambda x: residual(solution, x))(points)
    left = jax.vmap(lambda x: residual(lambda x: field(params, x), x))(points)
    return jnp.mean((left - right) ** 2)


def square(num):
    """Points of a grid, shape `(num², 2)`."""
    line = jnp.linspace(0.0, 1.0, num)
    return jnp.stack(jnp.meshgrid(line, line), -1).reshape(-1, 2)


def error(params):
    """The relative L2 error of u on a grid."""
    grid = square(41)
    exact = jax.vmap(solution)(grid)
    return jnp.linalg.norm(jax.vmap(lambda x: field(params, x))(grid) - exact) / jnp.linalg.norm(
        exact
    )


def quasi_newton(params, points, evals, memory_size="dense"):
    """One evaluation a step; nothing but the budget ends the run."""
    never = lp.Stopping(gtol=0.0, patience=None)
    options = {"max_evals": evals, "max_iters": evals, "tol": never, "memory_size": memory_size}
    return lp.minimize(loss, params, (points,), **options).params


def adam(params, points, evals):
    """With the usual cosine schedule."""
    tx = optax.adam(optax.cosine_decay_schedule(5e-3, evals))

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params, points), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), length=evals)[0][0]


def optax_lbfgs(params, points, evals):
    """The loop of optax's documentation, until its line searches have spent the budget."""
    tx = optax.lbfgs(memory_size=20)

    def fun(params):
        return loss(params, points)

    def step(carry):
        params, state, spent = carry
        value, grads = optax.value_and_grad_from_state(fun)(params, state=state)
        updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=fun)
        searched = optax.tree.get(state, "num_linesearch_steps")
        return optax.apply_updates(params, updates), state, (spent + searched).astype(jnp.int32)

    start = (params, tx.init(params), jnp.ones((), jnp.int32))
    return jax.lax.while_loop(lambda carry: carry[2] < evals, step, start)[0]


def adam_then_dense(params, points, evals):
    """A cold start: a quarter of the budget to Adam, and the dense H begins where it ends."""
    params = adam(params, points, evals // 4)
    return quasi_newton(params, points, evals - evals // 4)


OPTIMIZERS = {
    "Adam": adam,
    "optax.lbfgs, m = 20": optax_lbfgs,
    "L-BFGS-π, m = 20": lambda *args: quasi_newton(*args, memory_size=20),
    "Adam, then dense": adam_then_dense,
    "dense": quasi_newton,
}


def after_equal_budgets(points, evals, seeds):
    """Each optimizer's loss, error of u and seconds by start, and the parameters of the last."""
    ends, last = {}, None
    for name, optimizer in OPTIMIZERS.items():
        run = jax.jit(lambda p, x, optimizer=optimizer: optimizer(p, x, evals))
        run = run.lower(init(jax.random.key(0)), points).compile()
        ends[name] = np.empty((seeds, 3))
        for seed in range(seeds):
            began = time.perf_counter()
            last = jax.block_until_ready(run(init(jax.random.key(seed)), points))
            seconds = time.perf_counter() - began
            ends[name][seed] = float(loss(last, points)), float(error(last)), seconds
    return ends, last


def draw(params, ends):
    """u, its error, and the loss of all runs against their seconds."""
    figure = Figure(figsize=(11, 3.3), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    grid = square(101)
    u = jax.vmap(lambda x: field(params, x))(grid)
    wrong = jnp.abs(u - jax.vmap(solution)(grid))
    for axes, values, title in ((left, u, "u"), (middle, wrong, "its error")):
        image = axes.imshow(values.reshape(101, 101), origin="lower", extent=(0, 1, 0, 1))
        figure.colorbar(image, ax=axes)
        axes.set_title(title)
    for (name, runs), marker in zip(ends.items(), "osv^D", strict=False):
        right.semilogy(runs[:, 2], runs[:, 0], marker, label=name, markersize=5)
    right.set_xlim(left=0)
    right.legend(fontsize=7, loc="lower left")
    finish_axes(right, xlabel="seconds", ylabel="loss after as many evaluations")
    return figure


def main(evals=1000, num_points=1000, seeds=3, seconds=60.0):
    """The losses after as many evaluations, and the race."""
    jax.config.update("jax_enable_x64", True)
    points = jax.random.uniform(jax.random.key(100), (num_points, 2))
    ends, params = after_equal_budgets(points, evals, seeds)
    keep(draw(params, ends), "physics_informed")
    lines = [[name, *map(float, np.median(runs, axis=0))] for name, runs in ends.items()]
    header = ("", "loss", "error of u", "seconds")
    tables = show(f"after {evals} evaluations, medians of {seeds} starts", header, lines)
    x0 = init(jax.random.key(0))
    num = sum(leaf.size for leaf in jax.tree.leaves(x0))
    makers = everyone(20, bfgs=False, dense=ours(memory_size="dense"))
    title = f"n = {num:,}, to 1e-6 of the reduction"
    options = {"budget": 2 * evals, "seconds": seconds}
    return tables | race(title, Problem(loss, x0, points), makers, **options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evals", type=int, default=1000)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    main(args.evals, args.points, args.seeds)
