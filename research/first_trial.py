"""How far f must fall at the first trial for it to be accepted, and how fast steps may grow.

python -m research.first_trial suite
python -m research.first_trial families
python -m research.first_trial networks
"""

import sys
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import General
from jax_lbfgs_pi.training.population import best_values
from jax_lbfgs_pi.transform import DEFAULT_GUARD, MOST_FULL
from research import trust
from research.drawn import Family, evaluations, kept, mean_ratio, problems_of
from research.lanes import (
    development,
    num_variables,
    of_size,
    print_table,
    run,
    stack,
    table,
)
from research.starts import FAMILIES

CHOICES = (
    (1e-4, 10.0),
    (0.1, 10.0),
    (0.2, 10.0),
    (0.3, 10.0),
    (0.35, 10.0),
    (0.4, 10.0),
    (0.45, 10.0),
    (1e-4, 3.0),
    (0.2, 3.0),
    (0.2, 2.0),
    (0.3, 2.0),
)
"""`Guard.first_decrease` and `Rule.growth`; the first as until now."""
LABELS = [f"{decrease:g}, {growth:g}" for decrease, growth in CHOICES]
LEVELS = (1e-3, 1e-6)
SIZES = ((1, 10), (11, 100), (101, MOST_FULL), (MOST_FULL + 1, 20_000), (1, 20_000))
FOLDER = Path("runs/research/first_trial")
GENERAL = lp.load_policy("general")
assert isinstance(GENERAL, General)
POLICIES = [GENERAL.replace(base=lp.Rule(growth=growth)) for _, growth in CHOICES]  # pyright: ignore
GUARDS = [DEFAULT_GUARD._replace(first_decrease=decrease) for decrease, _ in CHOICES]


def suite() -> None:
    """Areas, shares and first places on the development problems, by size."""
    names = development(2, 5000)
    results: dict[str, np.ndarray] = {}
    options: dict[str, Any] = {"guards": GUARDS, "num_starts": 2}
    for name in names:
        memory = "full" if num_variables(name) <= MOST_FULL else 20
        results |= run([name], POLICIES, FOLDER / "suite", memory_size=memory, **options)
    for low, high in SIZES:
        chosen = of_size(results, low, high)
        for tau in LEVELS:
            print(f"{low} to {high} variables, {len(chosen)} runs, to {tau:g}")
            print_table(table(chosen, LABELS, tau))


def curves_of(family: Family, num_evals: int, num_tasks: int) -> jax.Array:
    """Best values by task, choice and evaluation."""
    memory = "full" if family.name in FULL else 20

    def one(policy: Any, guard: Any, x0: Any, data: Any) -> jax.Array:
        def fun(x: Any) -> jax.Array:
            return family.loss(x, data)

        return best_values(policy, fun, x0, num_evals, memory_size=memory, guard=guard)

    lanes = jax.vmap(one, (0, 0, None, None))
    tasks = jax.vmap(lanes, (None, None, 0, 0))
    return jax.jit(tasks)(stack(POLICIES), stack(GUARDS), *problems_of(family, num_tasks))


FULL = {family.name for family, *_ in FAMILIES}


def families() -> None:
    """Evaluations over those of the first choice, geometric means."""
    ratios: dict[float, list[np.ndarray]] = {tau: [] for tau in LEVELS}
    print(f"{'':24s}", *LABELS, sep="; ")
    for family, *sizes in FAMILIES:
        path = FOLDER / "families" / f"{family.name}.npy"
        found = kept(path, lambda f=family, s=sizes: curves_of(f, *s))
        for tau, rows in ratios.items():
            rows.append(mean_ratio(evaluations(found, tau)))
            print(f"{family.name:20s} {tau:g}", *(f"{2**x:6.3f}" for x in rows[-1]), flush=True)
    for tau, rows in ratios.items():
        print(f"{'all':20s} {tau:g}", *(f"{2**x:6.3f}" for x in np.mean(rows, 0)))


def networks() -> None:
    """120 networks without decay, of 592 weights, to f = 1e-3 (page 09)."""
    for memory in (5, 20, "full"):
        for decrease in (1e-4, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45):
            guard = DEFAULT_GUARD._replace(first_decrease=decrease)
            count(f"{memory} pairs, {decrease:g}", memory_size=memory, guard=guard)
        for length in (1.0, 2.0, 3.0):
            count(f"{memory} pairs, steps of {length:g}", memory_size=memory, max_step=length)


def count(label: str, **options: Any) -> None:
    """Prints how many networks get down, and the median of their evaluations."""
    evals = trust.networks([GENERAL], 120, **options)[:, 0]
    print(f"{label}: {np.isfinite(evals).sum()}, {np.median(evals):.0f}", flush=True)


if __name__ == "__main__":
    {"families": families, "networks": networks, "suite": suite}[sys.argv[1]]()
