"""ω from values, by its power and bounds, on the development problems.

python -m research.omega MEMORY [FEWEST [MOST [EVALS]]]: "full", "dense" or a number of pairs;
variables; evaluations, 300 unless told.
"""

import math
import sys
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import numpy as np

import jax_lbfgs_pi as lp
from research.lanes import (
    development,
    draw_by_size,
    num_variables,
    of_size,
    print_table,
    run,
    table,
)

SETTINGS = {
    "ω = 1": (0.0, (0.5, 1.5)),
    "ratio^½ in 0.5 to 1.5": (0.5, (0.5, 1.5)),
    "ratio^½ in 0.1 to 2": (0.5, (0.1, 2.0)),
    "ratio^½ in 0.2 to 5": (0.5, (0.2, 5.0)),
    "ratio^⅓ in 0.2 to 5": (0.33, (0.2, 5.0)),
    "ratio in 0.2 to 1.5": (1.0, (0.2, 1.5)),
    "ratio in 0.5 to 2": (1.0, (0.5, 2.0)),
    "1 / ratio in 0.5 to 2": (-1.0, (0.5, 2.0)),
}
SIZES = ((1, 3), (4, 10), (11, 50), (51, 100), (101, 500), (501, 10_000), (1, 10_000))


def main() -> None:
    memory = sys.argv[1]
    given = tuple(map(int, sys.argv[2:]))
    fewest, most, num_evals = (*given, *(1, 1000, 300)[len(given) :])
    names = [name for name in development(2, most) if num_variables(name) >= fewest]
    learned = lp.load_policy("general")
    # A step on a matrix costs n² in each lane.
    settings = dict(list(SETTINGS.items())[:3]) if memory == "dense" else SETTINGS
    rules = [
        lp.Rule(omega_power=power, least_omega=least, most_omega=most)
        for power, (least, most) in settings.values()
    ]
    policies = rules if memory == "dense" else [learned.replace(base=rule) for rule in rules]
    results = run(
        names,
        policies,
        Path(f"runs/research/omega-{memory}{'' if num_evals == 300 else f'-{num_evals}'}"),
        num_evals=num_evals,
        memory_size=int(memory) if memory.isdigit() else memory,
        num_starts=4 if memory == "dense" else 8,
    )
    first: dict[str, list[float]] = {label: [] for label in settings}
    for low, high in SIZES:
        chosen = of_size(results, low, high)
        rows = table(chosen, list(settings)) if chosen else []
        shares = {label: share for label, _, _, share in rows}
        for label, values in first.items():
            values.append(shares.get(label, math.nan))
        if rows:
            print(f"{low} to {high} variables, {len(chosen)} runs")
            print_table(rows)
    if num_evals != 300:  # long runs to f = 0
        ends = np.log10(np.stack([curves[:, [num_evals // 2, -1]] for curves in results.values()]))
        for label, (half, end) in zip(settings, np.mean(ends - ends[:, :1], axis=0), strict=True):
            print(f"{label:24} log₁₀ f less that of ω = 1: {half:.2f} halfway, {end:.2f} last")
        return
    lines = {label: values[:-1] for label, values in first.items()}
    figure = draw_by_size(lines, SIZES[:-1], "share ahead of ω = 1, ties half")
    figure.axes[0].set_ylim(0, 1)
    figure.savefig(f"docs/research/figures/omega-{memory}.png", dpi=110)


if __name__ == "__main__":
    main()
