"""A policy trained on the rule with ω beside the one before.

The curves of that one are kept by `research.omega`, run at commit c1bf07f.

python -m research.omega_trained FOLDER [generation ...]: FOLDER is the `--out` of a training.
"""

import sys
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import numpy as np

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import init_general
from research.lanes import development, num_variables, of_size, print_table, run, table

SIZES = ((1, 3), (4, 10), (11, 50), (51, 100), (101, 500), (501, 10_000), (1, 10_000))


def main() -> None:
    folder, *generations = sys.argv[1:]
    paths = sorted((Path(folder) / "policies").glob("*.safetensors"))
    paths = [p for p in paths if not generations or p.stem.lstrip("0") in generations]
    start = init_general(jax.random.key(0), lp.Rule())
    policies = [start, *(lp.load_policy(p).replace(base=start.base) for p in paths)]
    labels = ["before", "the rule, with ω", *(p.stem for p in paths)]
    results = {}
    for memory, low, high in ((20, 1, 3), ("full", 4, 100), (20, 101, 1000)):
        names = [n for n in development(2, high) if low <= num_variables(n) <= high]
        kept = Path(f"runs/research/omega-{memory}")
        before = {n: np.load(kept / f"{n}.npy")[:1] for n in names if (kept / f"{n}.npy").exists()}
        tag = "-".join([str(memory), *(p.stem for p in paths)])
        names = [n for n in names if n in before]
        out = Path(folder) / "development" / tag
        new = run(names, policies, out, memory_size=memory, num_starts=8)
        for name in names:
            for i in range(8):
                key = f"{name}/{i}" if i else name
                results[key] = np.concatenate([before[name][:, i], new[key]])
    for low, high in SIZES:
        chosen = of_size(results, low, high)
        if chosen:
            print(f"{low} to {high} variables, {len(chosen)} runs")
            print_table(table(chosen, labels))


if __name__ == "__main__":
    main()
