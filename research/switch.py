"""All pairs in a full memory first, then a dense H that begins with what that has learned.

python -m research.switch
"""

from functools import partial
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.dense_history import DenseHistory
from jax_lbfgs_pi.suite import get_problem
from research.lanes import development, moved, num_variables, of_size, print_table, table

AFTER = (0, 20, 80, 300)
NUM_EVALS, NUM_STARTS = 300, 2
SIZES = ((4, 10), (11, 50), (51, 100), (101, 700))
LABELS = ["dense", *(f"full, dense after {k}" for k in AFTER[1:-1]), "full"]
FULL = lp.lbfgs_pi("general", memory_size="full")
DENSE = lp.lbfgs_pi("dense", memory_size="dense")


def to_dense(state, anew):
    """H as one matrix, with γ of the newest pair."""
    (old, *others), (new, *_) = state, anew
    full = old.history
    gamma = old.pair.sy / old.pair.yy
    history = DenseHistory(
        gamma * full.start + full.rest,
        gamma * full.ways[0] + full.ways[1],
        full.num_pairs,
        full.last,
        full.rows,
    )
    return (old._replace(history=history, memory=new.memory), *others)


def curve(loss, after, x0, data):
    """The best f after each evaluation."""

    def step(tx, carry, _):
        x, state, best = carry
        value, grads = jax.value_and_grad(loss)(x, data)
        updates, state = tx.update(grads, state, x, value=value)
        best = jnp.where(jnp.isfinite(value), jnp.minimum(best, value), best)
        return (optax.apply_updates(x, updates), state, best), best

    best = jnp.full((), jnp.inf)
    if after == 0:
        return lax.scan(partial(step, DENSE), (x0, DENSE.init(x0), best), length=NUM_EVALS)[1]
    carry, first = lax.scan(partial(step, FULL), (x0, FULL.init(x0), best), length=after)
    x, state, best = carry
    carry = x, to_dense(state, DENSE.init(x0)), best
    return jnp.concatenate(
        [first, lax.scan(partial(step, DENSE), carry, length=NUM_EVALS - after)[1]]
    )


def main():
    """Runs, and prints."""
    out = Path("runs/research/switch")
    out.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in development(1, 700):
        if num_variables(name) < 4:
            continue
        path = out / f"{name}.npy"
        if not path.exists():
            problem = get_problem(name)
            x0, data = jax.tree.map(jnp.asarray, (problem.x0, problem.data))
            starts = jax.tree.map(lambda leaf: moved(leaf, NUM_STARTS), x0)
            curves = [
                jax.jit(jax.vmap(partial(curve, problem.loss, k), (0, None)))(starts, data)
                for k in AFTER
            ]
            np.save(path, np.stack(curves, 1))
            jax.clear_caches()
            print(name, flush=True)
        results |= {f"{name}/{i}": one for i, one in enumerate(np.load(path))}
    for low, high in ((4, 700), *SIZES):
        chosen = of_size(results, low, high)
        print(f"{low} to {high} variables, {len(chosen)} runs")
        print_table(table(chosen, LABELS))


if __name__ == "__main__":
    main()
