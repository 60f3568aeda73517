"""How many pairs, by the number of variables, on the development problems.

python -m research.memory [POLICY]
"""

import sys
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

from matplotlib.figure import Figure

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import General, Rule
from research.lanes import development, of_size, print_table, run, table

MEMORIES = (3, 5, 7, 10, 14, 20, 30)
SIZES = ((1, 10), (11, 100), (101, 3000))
"""Problems of so many variables stand together."""


def figure(areas: dict[str, list[float]], path: Path) -> None:
    """The area under the curve against m, by size."""
    fig = Figure(figsize=(6, 4), layout="constrained")
    ax = fig.subplots()
    for i, (label, values) in enumerate(areas.items()):
        ax.plot(MEMORIES, values, marker="os^"[i], label=label)
    ax.set_xscale("log", base=2)
    ax.set_xticks(MEMORIES, [str(m) for m in MEMORIES])
    ax.set(xlabel="m", ylabel="area under solved against log evaluations")
    ax.legend()
    fig.savefig(path, dpi=110)


if __name__ == "__main__":
    policy = lp.load_policy(sys.argv[1]) if sys.argv[1:] else Rule()
    name = Path(sys.argv[1]).stem if sys.argv[1:] else "rule"

    def trusting(m: int) -> Rule | General:
        base = Rule(num_pairs=float(m))
        return policy.replace(base=base) if isinstance(policy, General) else base  # pyright: ignore

    results = run(
        development(1, 3000),
        [trusting(m) for m in MEMORIES],
        Path("runs/research/memory") / name,
        memory_size=max(MEMORIES),
        num_starts=8,
    )
    areas = {}
    for low, high in SIZES:
        chosen = of_size(results, low, high)
        rows = table(chosen, [f"m = {m}" for m in MEMORIES])
        print(f"{low} to {high} variables, {len(chosen)} runs")
        print_table(rows)
        areas[f"{low} to {high} variables"] = [row[1] for row in rows]
    figure(areas, Path(f"docs/research/figures/memory-{name}.png"))
