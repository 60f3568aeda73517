"""How many pairs a window should have above 400 variables, in evaluations and in seconds.

python -m research.pairs families
python -m research.pairs networks
"""

import sys
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np

import jax_lbfgs_pi as lp
from research import middling, trust
from research.drawn import Family, evaluations, kept, mean_ratio, problems_of
from research.seconds import curves_of, turn_seconds

MEMORIES = (20, 30, 50, 70, 100)
LEVELS = (1e-3, 1e-6)
NUM_TASKS = 4
FOLDER = Path("runs/research/pairs")


def line(family: Family, ratios: list[list[np.ndarray]]) -> None:
    """Prints a row, and keeps its logarithms."""
    x0, data = problems_of(family, NUM_TASKS)
    name = f"{family.name}.npy"

    def curves() -> np.ndarray:
        return np.stack([curves_of(family, m, x0, data) for m in MEMORIES], 1)

    found = kept(FOLDER / name, curves)
    first = jax.tree.map(lambda a: a[0], (x0, data))
    turns = kept(FOLDER / f"turns {name}", lambda: turn_seconds(family, *first, MEMORIES))
    of_evals = [mean_ratio(evaluations(found, tau)) for tau in LEVELS]
    ratios.append([*of_evals, of_evals[1] + np.log2(turns / turns[0])])
    shares = "  ".join(" ".join(f"{2**r:5.2f}" for r in row) for row in ratios[-1])
    micros = " ".join(f"{1e6 * t:6.0f}" for t in turns)
    print(f"{family.name:28s} {shares}  {micros}", flush=True)


def mean(ratios: list[list[np.ndarray]]) -> None:
    """Prints the geometric mean of all rows."""
    rows = np.mean(ratios, 0)
    print(f"{'all':28s}", "  ".join(" ".join(f"{2**r:5.2f}" for r in row) for row in rows))


def families() -> None:
    """Problems that are drawn."""
    ratios: list[list[np.ndarray]] = []
    for family in middling.LARGE:
        line(family, ratios)
    mean(ratios)


def networks() -> None:
    """Networks without decay, of 592 weights, where fewer pairs are safer (page 09)."""
    policies = [lp.load_policy("general")]
    evals = [trust.networks(policies, memory_size=m) for m in (5, *MEMORIES)]
    labels = [f"m = {m}" for m in (5, *MEMORIES)]
    trust.print_networks(np.concatenate(evals, axis=1), labels)


if __name__ == "__main__":
    {"families": families, "networks": networks}[sys.argv[1]]()
