"""The first step no longer than a share of the start's distance from 0.

python -m research.first_step
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import jax.numpy as jnp
import numpy as np
import optax

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.suite import get_problem
from jax_lbfgs_pi.training.population import best_values
from research.drawn import NUM_TASKS, Family, evaluations, kept, mean_ratio, problems_of
from research.lanes import development, moved, num_variables, print_table, table
from research.walled import FAMILIES

NUM_EVALS = 150
SHARES = (np.inf, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
LABELS = (*map(str, SHARES), "length 1")


Objective = Callable[[Any], jax.Array]
Lengths = Callable[[Objective, Any], jax.Array]
"""Of an objective and a start to lengths of the first step."""


def limited(fun: Objective, x0: Any, shares: tuple[float, ...]) -> jax.Array:
    """2|f|/‖g‖, or 1 where f is 0, at most each share of ‖x0‖, which is no limit at 0."""
    value, grads = jax.value_and_grad(fun)(x0)
    far = optax.tree.norm(x0)
    guess = 2.0 * jnp.abs(value) / optax.tree.norm(grads)
    most = jnp.array(shares) * jnp.where(far > 0, far, jnp.inf)
    return jnp.minimum(jnp.where(value == 0, 1.0, guess), most)


def and_one(fun: Objective, x0: Any) -> jax.Array:
    """Those of this page, and length 1."""
    return jnp.append(limited(fun, x0, SHARES), 1.0)


def lanes(lengths: Lengths, fun: Objective, x0: Any, num_evals: int, memory_size: Any) -> jax.Array:
    """Best values by length and evaluation."""
    policy = lp.load_policy("general")

    def one(length: jax.Array) -> jax.Array:
        return best_values(
            policy, fun, x0, num_evals, memory_size=memory_size, first_step=length
        )  # fmt: skip

    return jax.vmap(one)(lengths(fun, x0))


def of_family(
    lengths: Lengths, family: Family, num_evals: int = NUM_EVALS, num_tasks: int = NUM_TASKS
) -> jax.Array:
    """Curves by problem, length and evaluation."""

    def one(x: Any, d: Any) -> jax.Array:
        return lanes(lengths, lambda x: family.loss(x, d), x, num_evals, "full")

    return jax.jit(jax.vmap(one))(*problems_of(family, num_tasks))


def of_suite(lengths: Lengths, name: str, most_full: int = 100) -> jax.Array:
    """Curves by start, length and evaluation; with all pairs up to `most_full` variables."""
    problem = get_problem(name)
    x0, data = jax.tree.map(jnp.asarray, (problem.x0, problem.data))
    memory_size = "full" if num_variables(name) <= most_full else 20

    def one(x: Any) -> jax.Array:
        return lanes(lengths, lambda x: problem.loss(x, data), x, 300, memory_size)

    return jax.jit(jax.vmap(one))(jax.tree.map(lambda leaf: moved(leaf, 3), x0))


def main() -> None:
    """Runs, and prints evaluations to 1e-6 over those without a limit, geometric means."""
    folder, ratios = Path("runs/research/first_step"), []
    print(f"{'':20s}", *(f"{label:>5s}" for label in LABELS))
    for family in FAMILIES:
        curves = kept(folder / f"{family.name}.npy", lambda f=family: of_family(and_one, f))
        ratios.append(mean_ratio(evaluations(curves, 1e-6)))
        print(f"{family.name:20s}", *(f"{2**x:5.2f}" for x in ratios[-1]), flush=True)
    print(f"{'all':20s}", *(f"{2**x:5.3f}" for x in np.mean(ratios, 0)))
    results = {}
    for name in development(2, 1000):
        curves = kept(folder / "suite" / f"{name}.npy", lambda n=name: of_suite(and_one, n))
        results |= {f"{name}/{i}" if i else name: one for i, one in enumerate(curves)}
    print_table(table(results, LABELS))


if __name__ == "__main__":
    main()
