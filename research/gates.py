"""When should a learned residual be silent? Gates on its answers, and its answers one by one.

python -m research.gates POLICY [memory_size]
"""

import sys
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import General, Rule
from research.lanes import development, print_table, run, table
from research.mixed import Mixed

if __name__ == "__main__":
    path, *rest = sys.argv[1:]
    memory_size = int(rest[0]) if rest else 10
    policy = lp.load_policy(path)
    assert isinstance(policy, General)
    policy = policy.replace(base=Rule(num_pairs=1e6))  # pyright: ignore
    variants = {
        "rule": Mixed(policy, 0.0, 0.0, 0.0),
        "general": Mixed(policy),
        "γ": Mixed(policy, 1.0, 0.0, 0.0),
        "t": Mixed(policy, 0.0, 0.0, 1.0),
        "half γ": Mixed(policy, 0.5, 1.0, 1.0),
        "fast 0.03": Mixed(policy, fast=0.03),
        "less 0.1": Mixed(policy, soft=0.1),
        "less 0.2": Mixed(policy, soft=0.2),
        "less 0.3": Mixed(policy, soft=0.3),
    }
    folder = (
        Path("runs/research/gates")
        / f"{Path(path).parents[1].name}-{Path(path).stem}-m{memory_size}"
    )
    results = run(
        development(1, 3000),
        list(variants.values()),
        folder,
        memory_size=memory_size,
        num_starts=8,
    )
    for tau in (1e-3, 1e-6):
        print(f"tau = {tau:g}, m = {memory_size}")
        print_table(table(results, list(variants), tau))
