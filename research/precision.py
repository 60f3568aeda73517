"""In float32, and without `value`: shares solved on a half of the suite, beside zoom's.

python -m research.precision POLICY [development|test]
"""

import sys
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import jax.numpy as jnp
import numpy as np

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.suite import get_problem
from jax_lbfgs_pi.training.population import best_values
from research.lanes import first_of_each_kind, print_table, table

NUM_EVALS = 300


def curves(name: str, policy: lp.StepPolicy) -> np.ndarray:
    """The best values, shape `(3, NUM_EVALS)`: as is, without value, in float32."""
    problem = get_problem(name)
    x0, data = jax.tree.map(jnp.asarray, (problem.x0, problem.data))

    def single(tree: object) -> object:
        def cast(leaf: jax.Array) -> jax.Array:
            floating = jnp.issubdtype(leaf.dtype, jnp.floating)
            return leaf.astype(jnp.float32) if floating else leaf

        return jax.tree.map(cast, tree)

    def run(x0: object, data: object, with_value: bool) -> np.ndarray:
        def fun(x: object) -> jax.Array:
            value = problem.loss(x, data)
            return value.astype(jax.tree.leaves(x)[0].dtype)

        @jax.jit
        def go(x0: object) -> jax.Array:
            return best_values(policy, fun, x0, NUM_EVALS, memory_size=20, with_value=with_value)

        return np.asarray(go(x0), np.float64)

    rows = run(x0, data, True), run(x0, data, False), run(single(x0), single(data), True)
    return np.stack(rows)


if __name__ == "__main__":
    path, *rest = sys.argv[1:]
    split = rest[0] if rest else "development"
    policy = lp.load_policy(path)
    assert isinstance(policy, lp.StepPolicy)
    folder = Path("runs/research/precision") / f"{Path(path).stem}-{split}"
    folder.mkdir(parents=True, exist_ok=True)
    results = {}
    for name in first_of_each_kind(split, 3000):
        file = folder / f"{name}.npy"
        if not file.exists():
            np.save(file, curves(name, policy))
        found = np.load(file)
        found[2] = np.maximum(found[2], found[:2].min())  # rounded below the minimum
        results[name] = found
    labels = ["float64", "without value", "float32"]
    for tau in (1e-3, 1e-6):
        print(f"tau = {tau:g}")
        print_table(table(results, labels, tau))
