"""`general` on the real kinds of the test half, by kind, at several targets.

python -m research.real [FOLDER]

FOLDER keeps the records; it is that of the `lbfgs-pi bench` of `docs/research/06-real.md`.
"""

import sys
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

from jax_lbfgs_pi import bench
from jax_lbfgs_pi.suite import get_problem, list_problems

KINDS = (
    "control-fishing", "digits-tanh", "film-design", "gp-sine", "logistic-cancer",
    "matrix-factorisation", "ode-lotka-volterra", "pinn-burgers", "pinn-wave", "softmax-wine",
)  # fmt: skip
PEERS = (
    "t = 1", "BTLS", "ADAM", "RMSProp", "optax.lbfgs", "SciPy m=5", "SciPy m=10", "Kanzow-Steck",
)  # fmt: skip
SCIPY = "better of SciPy m=5, 10"
SEARCHES = "best of five line searches"
MEMORY_SIZE = 20
BUDGET = 300


if __name__ == "__main__":
    folder = Path(sys.argv[1] if sys.argv[1:] else "runs/bench-test20-real")
    known = bench.bench_competitors(MEMORY_SIZE)
    policies = [bench.policy_entrant(name, memory_size=MEMORY_SIZE) for name in ("general", "rule")]
    results = bench.run_suite(
        list_problems("test", KINDS, per_kind=4),
        get_problem,
        [*(known[name] for name in PEERS), *policies],
        budget=BUDGET,
        folder=bench.RecordFolder(folder, {"budget": BUDGET, "memory_size": MEMORY_SIZE}),
        max_variables=3000,
    )
    for tau in (1e-2, 1e-4, 1e-6):
        costs = bench.costs_to(results, tau)
        costs = bench.better_of(costs, ["SciPy m=5", "SciPy m=10"], SCIPY)
        searches = ["BTLS", "optax.lbfgs", "SciPy m=5", "SciPy m=10", "Kanzow-Steck"]
        costs = bench.better_of(costs, searches, SEARCHES)
        print(f"\ntau = {tau:g}: first in %, ties half; median ratio of evaluations")
        against = [
            "t = 1",
            "BTLS",
            "ADAM",
            "Kanzow-Steck",
            "optax.lbfgs",
            SCIPY,
            "π rule",
            SEARCHES,
        ]
        duels = [bench.duel(costs, "π general", name) for name in against]
        for duel in duels:
            score = duel.score
            print(f"{duel.against:28s} {score.value:.0%} [{score.low:.0%}, {score.high:.0%}]")
        for kind in dict.fromkeys(costs.kinds):
            cells = [f"{d.by_kind[kind]:4.0%} {d.ratio_by_kind[kind]:4.2f}" for d in duels]
            print(f"{kind:22s}", "  ".join(cells))
