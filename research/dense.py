"""A dense H beside a window of pairs, by the number of variables, on the development problems.

python -m research.dense [BUDGET]
"""

import sys
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import numpy as np
from flax import struct

import jax_lbfgs_pi as lp
from research.lanes import development, draw_by_size, of_size, print_table, run, table

GENERAL = lp.load_policy("general")


@struct.dataclass
class Free(lp.Rule):
    """t is not held to the last fall of f unless a trial was rejected."""

    def doubts(self, seen: Any) -> Any:
        return seen.rejections > 0


VARIANTS = {
    "general, m = 20": (GENERAL, 20),
    "general, full": (GENERAL, "full"),
    "rule, m = 20": (lp.Rule(), 20),
    "rule, full": (lp.Rule(), "full"),
    "bfgs": (lp.Rule(update="bfgs"), "dense"),
    "self-scaled bfgs": (lp.Rule(update="self-scaled-bfgs"), "dense"),
    "self-scaled broyden": (lp.Rule(), "dense"),
    "bfgs, free t": (Free(update="bfgs"), "dense"),
    "self-scaled bfgs, free t": (Free(update="self-scaled-bfgs"), "dense"),
    "self-scaled broyden, free t": (Free(), "dense"),
}
SIZES = ((1, 3), (4, 10), (11, 50), (51, 500), (11, 500), (1, 500))
"""Problems of so many variables stand together; the last two are unions of the others."""


if __name__ == "__main__":
    budget = int(sys.argv[1]) if sys.argv[1:] else 300
    names = development(2, 500)
    by_variant = {
        label: run(
            names,
            [policy],
            Path(f"runs/research/dense-{budget}") / label,
            num_evals=budget,
            memory_size=memory_size,
            num_starts=4,
        )
        for label, (policy, memory_size) in VARIANTS.items()
    }
    keys = list(next(iter(by_variant.values())))
    results = {key: np.concatenate([r[key] for r in by_variant.values()]) for key in keys}
    areas: dict[str, list[float]] = {label: [] for label in VARIANTS}
    for low, high in SIZES:
        chosen = of_size(results, low, high)
        rows = table(chosen, list(VARIANTS))
        print(f"{low} to {high} variables, {len(chosen)} runs, {budget} evaluations")
        print_table(rows)
        for label, area, _, _ in rows:
            areas[label].append(area)
    figure = draw_by_size(
        {label: values[:4] for label, values in areas.items()},
        SIZES[:4],
        "area under solved against log evaluations",
    )
    figure.savefig(f"docs/research/figures/dense-{budget}.png", dpi=110)
