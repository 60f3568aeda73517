"""What each part of the default is worth, on the development problems.

python -m research.ablation POLICY [memory_size [guards]]

With `guards` the constants of acceptance too, each of which is compiled for itself.
"""

import sys
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import General, Rule
from research.lanes import development, print_table, run, table
from research.mixed import Mixed

GUARDS = {
    "accept all that is finite": lp.Guard(decrease=-jnp.inf),
    "decrease 1e-2": lp.Guard(decrease=1e-2),
    "decrease 0.1": lp.Guard(decrease=0.1),
    "halve": lp.Guard(least=0.5, first_least=0.5),
    "tenths": lp.Guard(most=0.1),
    "first step like others": lp.Guard(first_least=0.1),
}
"""Acceptance: all with the whole policy."""


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
        "rule, 5 pairs": rule(num_pairs=5.0),
        "rule, no length limit": rule(growth=1e30),
        "rule, unit first step": rule(unit_start=1.0),
    }


def figure(rows: list[Any], path: Path) -> None:
    """The areas as bars."""
    rows = sorted(rows, key=lambda row: row[1])
    fig = Figure(figsize=(7, 5), layout="constrained")
    ax = fig.subplots()
    ax.barh([row[0] for row in rows], [row[1] for row in rows], color="0.6")
    ax.set(xlabel="area under solved against log evaluations, development kinds")
    ax.set_xlim(min(row[1] for row in rows) - 0.05)
    for i, row in enumerate(rows):
        ax.annotate(f" {row[1]:.3f}", (row[1], i), va="center", fontsize=8)
    fig.savefig(path, dpi=110)


if __name__ == "__main__":
    path, *rest = sys.argv[1:]
    memory_size = int(rest[0]) if rest else 10
    general = lp.load_policy(path)
    assert isinstance(general, General)
    folder = Path("runs/research/ablation") / f"{Path(path).stem}-m{memory_size}"
    names, variants = development(1, 3000), lanes(general)
    results = run(names, list(variants.values()), folder / "policies", memory_size=memory_size)
    labels, whole = list(variants), [variants["general"]]
    for label, guard in GUARDS.items() if "guards" in rest else ():
        more = run(
            names,
            whole,
            folder / label.replace(" ", "-"),
            memory_size=memory_size,
            guard=guard,
        )
        results = {k: np.concatenate([v, more[k]]) for k, v in results.items()}
        labels.append(f"general, {label}")
    rows = table(results, labels)
    print_table(rows)
    figure(rows, Path("docs/research/figures/ablation.png"))
