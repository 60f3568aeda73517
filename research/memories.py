"""A window, all pairs and a dense H on development problems, by the number of variables.

python -m research.memories
"""

from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import numpy as np

import jax_lbfgs_pi as lp
from research.lanes import development, of_size, print_table, run, table

VARIANTS = {
    "m = 20": ("general", 20),
    "full": ("general", "full"),
    "dense": ("dense", "dense"),
}
SIZES = ((1, 3), (4, 10), (11, 50), (51, 100), (11, 100), (101, 1000), (1, 1000))


def main() -> None:
    """Runs, and prints."""
    names = development(2, 1000)
    lanes = []
    for label, (policy, memory_size) in VARIANTS.items():
        out = Path("runs/research/memories") / label
        policies = [lp.load_policy(policy)]
        lanes.append(run(names, policies, out, memory_size=memory_size, num_starts=3))
    results = {key: np.concatenate([lane[key] for lane in lanes]) for key in lanes[0]}
    for low, high in SIZES:
        chosen = of_size(results, low, high)
        print(f"{low} to {high} variables, {len(chosen)} runs")
        print_table(table(chosen, list(VARIANTS)))


if __name__ == "__main__":
    main()
