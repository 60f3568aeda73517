"""Policies trained with the last pair brought in again, beside those shipped and trained without.

python -m research.again_trained MEMORY POLICY.safetensors: MEMORY is dense, full or a window's m.
Of a dense H also on the seven equations of `benchmarks.physics`.
"""

import sys
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import jax.numpy as jnp
import numpy as np

import jax_lbfgs_pi as lp
from benchmarks.physics.equations import EQUATIONS
from benchmarks.physics.optimizers import in_jax
from jax_lbfgs_pi.policy import OF_A_DENSE_H, OF_A_WINDOW, init_general
from research.lanes import development, num_variables, of_size, print_table, run, table

SIZES = ((1, 3), (4, 10), (11, 50), (51, 100), (101, 1000), (1, 1000))
NETWORKS = ("pinn-poisson-0", "pinn-poisson-1")
BUDGETS = (300, 1000, 3000)
LABELS = ["rule", "trained without", "trained with"]


def main() -> None:
    """Runs, and prints."""
    memory, path = sys.argv[1:]
    dense = memory == "dense"
    names = development(2, 1000 if memory.isdigit() else 100)
    kinds = OF_A_DENSE_H if dense else OF_A_WINDOW
    rule = init_general(jax.random.key(0), lp.Rule(), kinds)
    before = lp.load_policy("dense" if dense else "general")
    policies = [rule, before.replace(base=rule.base), lp.load_policy(path).replace(base=rule.base)]
    size = int(memory) if memory.isdigit() else memory
    out = Path("runs/research/again_trained") / memory
    if memory.isdigit():
        names = [n for n in names if not 4 <= num_variables(n) <= 100]
    results = run(names, policies, out, memory_size=size, num_starts=4)
    for low, high in SIZES:
        chosen = of_size(results, low, high)
        if chosen:
            print(f"{low} to {high} variables, {len(chosen)} runs")
            print_table(table(chosen, LABELS))
            pairs = {key: curves[1:] for key, curves in chosen.items()}
            least = {key: curves.min() for key, curves in chosen.items()}
            print("first against that without:", table(pairs, LABELS[1:], more=least)[1][-1])
    if memory.isdigit():
        return
    networks = run(
        list(NETWORKS), policies, out, memory_size=size, num_starts=4, num_evals=BUDGETS[-1]
    )
    print("networks: f over that of the rule", *BUDGETS)
    for lane, label in enumerate(LABELS):
        logs = [[np.log(c[lane, b - 1] / c[0, b - 1]) for c in networks.values()] for b in BUDGETS]
        print(f"{label:24s}", *(f"{np.exp(np.mean(log)):10.1e}" for log in logs))
    if dense:
        on_equations({"without": before, "with": policies[-1]}, out)


def on_equations(policies: dict[str, lp.General], out: Path) -> None:
    """Prints f of the second policy over that of the first, geometric means of three starts."""
    all_logs = []
    for title, equation in EQUATIONS.items():
        logs = []
        for seed in range(3):
            curves = []
            for name, policy in policies.items():
                path = out / f"{title} {seed} {name}.npy"
                if not path.exists():
                    solver = in_jax(lambda p=policy: lp.lbfgs_pi(p, memory_size="dense"))
                    x0, points = jax.tree.map(jnp.asarray, (equation.start(seed), equation.points))
                    np.save(path, solver(equation.loss, points, x0, 1000).best)
                curves.append(np.load(path))
            logs.append([np.log(curves[1][b - 1] / curves[0][b - 1]) for b in (300, 1000)])
        all_logs += logs
        print(f"{title:18}", *np.exp(np.mean(logs, 0)).round(2), flush=True)
    print(f"{'all':18}", *np.exp(np.mean(all_logs, 0)).round(2))


if __name__ == "__main__":
    main()
