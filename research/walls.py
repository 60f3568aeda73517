"""How far back a trial goes where f is not finite, on likelihoods and barriers in natural units.

python -m research.walls
"""

import itertools
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import numpy as np

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.acceptance import Guard
from jax_lbfgs_pi.training.population import best_values
from research.drawn import Family, evaluations, kept, mean_ratio, problems_of
from research.lanes import development, evals_to, print_table, run, stack, table
from research.walled import FAMILIES

NUM_EVALS = 150
FIRST, LATER = (1e-3, 1e-2, 0.03, 0.1, 0.25, 0.5), (0.1, 0.25, 0.5)


def guard_with(first: float, later: float) -> Guard:
    """The default's with these shares."""
    return Guard(first_blind=first, blind=later)


def curves_of(family: Family, guards: list[Guard], num_evals: int) -> np.ndarray:
    """Best values by task and guard, shape `(tasks, guards, evaluations)`."""
    x0, data = problems_of(family)
    policy = lp.load_policy("general")

    def one(guard: Guard, x: Any, d: Any) -> jax.Array:
        def fun(x: Any) -> jax.Array:
            return family.loss(x, d)

        return best_values(policy, fun, x, num_evals, memory_size="full", guard=guard)

    lanes = jax.vmap(jax.vmap(one, (0, None, None)), (None, 0, 0))
    return np.asarray(jax.jit(lanes)(stack(guards), x0, data))


def main() -> None:
    """Runs, and prints the mean of log₂ of the evaluations over those of the first guard."""
    pairs = list(itertools.product(FIRST, LATER))
    guards = list(itertools.starmap(guard_with, pairs))
    folder = Path("runs/research/walls")
    ratios = []
    for family in FAMILIES:
        path = folder / f"{family.name}.npy"
        evals = evaluations(kept(path, lambda f=family: curves_of(f, guards, NUM_EVALS)), 1e-6)
        solved, medians = evals <= NUM_EVALS, np.median(evals, 0)
        ratio = mean_ratio(evals)
        ratios.append(ratio)
        print(f"{family.name:20s} solved {solved.mean():.2f}  evals {medians[0]:.0f}", end="  ")
        print(" ".join(f"{2**x:.2f}" for x in ratio), flush=True)
    print(f"{'all':44s}", " ".join(f"{2**x:.3f}" for x in np.mean(ratios, 0)))
    print(pairs)

    few = [(1e-3, 0.1), (0.03, 0.25), (0.1, 0.25)]
    policies = [lp.load_policy("general")] * len(few)
    results = run(
        development(2, 1000), policies, folder / "suite", memory_size=None, num_starts=3,
        guards=list(itertools.starmap(guard_with, few)),
    )  # fmt: skip
    differs = {k: c for k, c in results.items() if not (c == c[:1]).all()}
    print(f"development problems: {len(differs)} of {len(results)} runs differ")
    print_table(table(differs, [str(pair) for pair in few]))
    for name, curves in differs.items():
        print(f"{name:34s}", evals_to(curves, curves.min(), 1e-6))


if __name__ == "__main__":
    main()
