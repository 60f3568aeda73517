"""Checkpoints of a training beside the rule on development problems.

python -m research.general_checkpoints NAME [memory_size [generation ...]]
"""

import sys
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jax_lbfgs_pi.policy import General, Rule, init_general
from research.lanes import development, print_table, run, table


def load(path: Path) -> General:
    """The policy of a checkpoint."""
    start = init_general(jax.random.key(0), Rule())
    _, unravel = ravel_pytree(jax.tree.map(jnp.asarray, start.params))
    return General(params=unravel(jnp.asarray(np.load(path))), base=Rule())


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    memory_size = int(rest[0]) if rest else 10
    folder = Path("runs/research") / name
    paths = sorted(folder.glob("weights-*.npy"))
    if rest[1:]:
        paths = [path for path in paths if path.stem.split("-")[1].lstrip("0") in rest[1:]]
    start = init_general(jax.random.key(0), Rule())
    policies = [start, *(load(path) for path in paths)]
    labels = ["rule", *(path.stem for path in paths)]
    tag = "-".join(path.stem.split("-")[1] for path in paths)
    results = run(
        development(1, 3000),
        policies,
        folder / f"development-m{memory_size}-{tag}",
        memory_size=memory_size,
    )
    for tau in (1e-3, 1e-6):
        print(f"tau = {tau:g}, m = {memory_size}")
        print_table(table(results, labels, tau))
