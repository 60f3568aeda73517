"""Where a run begins: whether f(x0) counts in acceptance, and how long the first step may be.

python -m research.starts families
python -m research.starts suite
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
import optax

import jax_lbfgs_pi as lp
from jax_lbfgs_pi import acceptance
from jax_lbfgs_pi.suite import get_problem
from jax_lbfgs_pi.training.population import best_values
from research import middling, walled
from research.drawn import evaluations, kept, mean_ratio, problems_of
from research.lanes import development, moved, num_variables, print_table, table

SHARES = (np.inf, 10.0, 1.0)
"""The first step is no longer than these times the norm of x0."""
EVALS = {"walled": 150, "middling": 300}
FAMILIES = {
    "walled": walled.FAMILIES,
    "middling": tuple(
        family
        for family in middling.FAMILIES
        if family.name not in ("network", "topics")  # these take an hour
    ),
}


def all_known(values: acceptance.Values) -> jax.Array:
    """f(x0) counts as the other values do, as it did until this was measured."""
    return jnp.arange(values.last.size, dtype=jnp.int32) < values.known


WINDOWS = {"f(x0) counts": all_known, "f(x0) does not": acceptance.counting}
LABELS = [f"{name}, {share:g}" for name in WINDOWS for share in SHARES]


def both(make: Callable[[], jax.Array], axis: int) -> np.ndarray:
    """Lanes with one window and then the other, each compiled anew."""
    parts = []
    for counting in WINDOWS.values():
        jax.clear_caches()
        with mock.patch.object(acceptance, "counting", counting):
            parts.append(np.asarray(make()))
    return np.concatenate(parts, axis=axis)


def lanes(fun: Callable[[Any], jax.Array], x0: Any, num_evals: int, memory_size: Any) -> jax.Array:
    """Best values by the first step's limit and evaluation."""
    value, grads = jax.value_and_grad(fun)(x0)
    far = optax.tree.norm(x0)
    guess = jnp.where(value == 0, 1.0, 2.0 * jnp.abs(value) / optax.tree.norm(grads))
    most = jnp.array(SHARES) * jnp.where(far > 0, far, jnp.inf)
    policy = lp.load_policy("general")

    def one(length: jax.Array) -> jax.Array:
        return best_values(
            policy, fun, x0, num_evals, memory_size=memory_size, first_step=length
        )  # fmt: skip

    return jax.vmap(one)(jnp.minimum(guess, most))


def of_family(family: Any, num_evals: int) -> np.ndarray:
    """Curves by problem, lane and evaluation."""

    def one(x: Any, d: Any) -> jax.Array:
        return lanes(lambda x: family.loss(x, d), x, num_evals, "full")

    problems = problems_of(family, 24 if num_evals == EVALS["walled"] else 8)
    return both(lambda: jax.jit(jax.vmap(one))(*problems), axis=1)


def of_suite(name: str) -> np.ndarray:
    """Curves by start, lane and evaluation."""
    problem = get_problem(name)
    x0, data = jax.tree.map(jnp.asarray, (problem.x0, problem.data))
    memory_size = "full" if num_variables(name) <= 200 else 20

    def one(x: Any) -> jax.Array:
        return lanes(lambda x: problem.loss(x, data), x, 300, memory_size)

    starts = jax.tree.map(lambda leaf: moved(leaf, 3), x0)
    return both(lambda: jax.jit(jax.vmap(one))(starts), axis=1)


def families(folder: Path) -> None:
    """Evaluations over those of the first lane, geometric means."""
    ratios: dict[float, list[np.ndarray]] = {1e-3: [], 1e-6: []}
    print(f"{'':24s}", *LABELS, sep="; ")
    for kind, chosen in FAMILIES.items():
        for family in chosen:
            path = folder / f"{family.name}.npy"
            curves = kept(path, lambda f=family, k=kind: of_family(f, EVALS[k]))
            for tau, rows in ratios.items():
                rows.append(mean_ratio(evaluations(curves, tau)))
                print(f"{family.name:20s} {tau:g}", *(f"{2**x:6.3f}" for x in rows[-1]), flush=True)
    for tau, rows in ratios.items():
        print(f"{'all':20s} {tau:g}", *(f"{2**x:6.3f}" for x in np.mean(rows, 0)))


def suite(folder: Path) -> None:
    """Areas, shares and first places on development problems of up to 1,000 variables."""
    results = {}
    for name in development(1, 1000):
        curves = kept(folder / f"{name}.npy", lambda n=name: of_suite(n))
        results |= {f"{name}/{i}" if i else name: one for i, one in enumerate(curves)}
        print(name, flush=True)
    for tau in (1e-3, 1e-6):
        print_table(table(results, LABELS, tau))


if __name__ == "__main__":
    {"families": families, "suite": suite}[sys.argv[1]](Path("runs/research/starts") / sys.argv[1])
