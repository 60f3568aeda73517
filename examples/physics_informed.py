"""A physics-informed network, and what to change for yours: python -m examples.physics_informed.

-Δu + u³ = q on the unit square, u = 0 on its edge. Write your own `solution` (or none), `field` and
`residual`; the rest stays. Adam and `optax.lbfgs` are what many use today; here all are given
equally many evaluations of the loss and its gradient.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import optax

import jax_lbfgs_pi as lp

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


def error(params):
    """The relative L2 error of u on a grid."""
    line = jnp.linspace(0.0, 1.0, 41)
    grid = jnp.stack(jnp.meshgrid(line, line), -1).reshape(-1, 2)
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


def main(evals, num_points, seeds):
    """Prints the loss, the error of u and the seconds of each, without compilation."""
    points = jax.random.uniform(jax.random.key(100), (num_points, 2))
    print(f"{evals} evaluations      loss, error of u, seconds; a line for each start")
    for name, optimizer in OPTIMIZERS.items():
        run = jax.jit(lambda p, x, optimizer=optimizer: optimizer(p, x, evals))
        run = run.lower(init(jax.random.key(0)), points).compile()
        for seed in range(seeds):
            began = time.perf_counter()
            params = jax.block_until_ready(run(init(jax.random.key(seed)), points))
            seconds = time.perf_counter() - began
            last = float(loss(params, points))
            print(f"{name:20s} {last:9.1e} {float(error(params)):9.1e} {seconds:6.1f}", flush=True)
            yield name, seed, last


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--evals", type=int, default=1000)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    for _ in main(args.evals, args.points, args.seeds):
        pass
