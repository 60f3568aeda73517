"""What each part of the default is worth, on the development problems.

python -m research.ablation [I/N]

I/N makes the runs of every N-th problem from the I-th on, and no table.
"""

import sys
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import General, Rule
from jax_lbfgs_pi.transform import DEFAULT_GUARD
from research.lanes import development, print_table, run, table
from research.mixed import Mixed

PER_KIND, LARGEST, NUM_STARTS = 1, 3000, 8
FOLDER = Path("runs/research/ablation")

GUARDS = {
    "accepts all that is finite": lp.Guard(decrease=-jnp.inf),
    "decrease 1e-2": lp.Guard(decrease=1e-2),
    "decrease 0.1": lp.Guard(decrease=0.1),
    "halves": lp.Guard(least=0.5, first_least=0.5),
    "down to tenths": lp.Guard(most=0.1),
    "first step like others": lp.Guard(first_least=0.1),
}
COMPILED: dict[str, dict[str, Any]] = {
    "5 pairs": {"memory_size": 5},
    "without value": {"with_value": False},
}
"""What is no number, so that each is a program of its own."""


def lanes(general: General) -> dict[str, Mixed]:
    """The whole, one answer learned at a time, the rule, and the rule without each of its parts."""

    def rule(unit_start: float = 0.0, **changes: Any) -> Mixed:
        bare = general.replace(base=Rule(**{"num_pairs": 1e6, **changes}))  # pyright: ignore
        return Mixed(bare, 0.0, 0.0, 0.0, unit_start=unit_start)

    whole = general.replace(base=Rule(num_pairs=1e6))  # pyright: ignore
    return {
        "general": Mixed(whole),
        "only γ learned": Mixed(whole, 1.0, 0.0, 0.0),
        "only t learned": Mixed(whole, 0.0, 0.0, 1.0),
        "only ω learned": Mixed(whole, 0.0, 1.0, 0.0),
        "γ by rule": Mixed(whole, 0.0, 1.0, 1.0),
        "t by rule": Mixed(whole, 1.0, 1.0, 0.0),
        "ω by rule": Mixed(whole, 1.0, 0.0, 1.0),
        "rule": rule(),
        "rule, γ short": rule(cap=1.0, raised=1.0),
        "rule, γ long": rule(cap=1e6, raised=1.0, lowered=1.0, rejected=1.0),
        "rule, ω = 1": rule(omega_power=0.0),
        "rule, t = 1": rule(longest=1.0),
        "rule, no length limit": rule(growth=1e30),
        "rule, unit first step": rule(unit_start=1.0),
    }


def figure(rows: list[Any], path: Path) -> None:
    """The areas as points."""
    rows = sorted(rows, key=lambda row: row[1])
    fig = Figure(figsize=(7, 6), layout="constrained")
    ax = fig.subplots()
    ax.plot([row[1] for row in rows], [row[0] for row in rows], "o", color="0.3")
    ax.set(xlabel="area under solved against log evaluations, development kinds")
    ax.margins(x=0.15)
    ax.grid(axis="y", alpha=0.3)
    for i, row in enumerate(rows):
        ax.annotate(f"   {row[1]:.3f}", (row[1], i), va="center", fontsize=8)
    fig.savefig(path, dpi=110)


def main() -> None:
    index, count = map(int, sys.argv[1].split("/")) if sys.argv[1:] else (0, 1)
    general = lp.load_policy("general")
    assert isinstance(general, General)
    variants = lanes(general)
    whole = variants["general"]
    policies = [*variants.values(), *(whole for _ in GUARDS)]
    guards = [*(DEFAULT_GUARD for _ in variants), *GUARDS.values()]
    names = development(PER_KIND, LARGEST)[index::count]
    options: dict[str, Any] = {"memory_size": None, "num_starts": NUM_STARTS}
    results: dict[str, np.ndarray] = {}
    for name in names:  # problem by problem, so that all there is of one is there together
        parts = [run([name], policies, FOLDER / "lanes", guards=guards, **options)]
        for label, change in COMPILED.items():
            folder = FOLDER / label.replace(" ", "-")
            parts.append(run([name], [whole], folder, **(options | change)))
        for key in parts[0]:
            results[key] = np.concatenate([part[key] for part in parts])
    if count == 1:
        rows = table(results, [*variants, *(f"general, {label}" for label in (*GUARDS, *COMPILED))])
        print_table(rows)
        figure(rows, Path("docs/research/figures/ablation.png"))


if __name__ == "__main__":
    main()
