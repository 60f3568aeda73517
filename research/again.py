"""The pair before the newest brought in again, beside each memory as it was: development problems.

python -m research.again [VARIANT ...]: runs those alone; without any, also prints and draws.
"""

import sys
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import numpy as np

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import OF_A_DENSE_H, init_general
from research.lanes import (
    development,
    draw_by_size,
    evals_to,
    of_size,
    print_table,
    run,
    table,
)

ZERO = init_general(jax.random.key(0), lp.Rule())
ZERO_DENSE = init_general(jax.random.key(0), lp.Rule(), OF_A_DENSE_H)
VARIANTS = {
    "full": ([ZERO, lp.load_policy("general")], lp.Full()),
    "full, again": ([ZERO, lp.load_policy("general")], lp.Full(again=True)),
    "dense": ([ZERO_DENSE, lp.load_policy("dense")], lp.Dense()),
    "dense, again": ([ZERO_DENSE, lp.load_policy("dense")], lp.Dense(again=True)),
}
"""Each with the rule and with the policy trained for it, in two lanes."""
SIZES = ((4, 10), (11, 50), (51, 100))
NETWORKS = ("pinn-poisson-0", "pinn-poisson-1")
BUDGETS = (300, 1000, 3000)
OUT = Path("runs/research/again")


def main() -> None:
    """Runs, and prints and draws if all were asked for."""
    names, chosen = development(2, 100), sys.argv[1:] or list(VARIANTS)
    small, networks = {}, {}
    for label in chosen:
        policies, memory = VARIANTS[label]
        options = {"memory_size": memory}
        small[label] = run(names, policies, OUT / label / "small", num_starts=4, **options)
        networks[label] = run(
            list(NETWORKS), policies, OUT / label, num_evals=BUDGETS[-1], num_starts=4, **options
        )
    if sys.argv[1:]:
        return
    keys = list(of_size(small["full"], SIZES[0][0], SIZES[-1][1]))
    results = {key: np.concatenate([small[label][key] for label in VARIANTS]) for key in keys}
    labels = [f"{lane}, {label}" for label in VARIANTS for lane in ("rule", "learned")]
    areas: dict[str, list[float]] = {label: [] for label in labels}
    for low, high in (*SIZES, (SIZES[0][0], SIZES[-1][1])):
        rows = table(of_size(results, low, high), labels)
        print(f"{low} to {high} variables, {len(of_size(results, low, high))} runs")
        print_table(rows)
        for label, area, _, _ in rows:
            areas[label].append(area)
    ylabel = "area under solved against log evaluations"
    shown = {label: values[:3] for label, values in areas.items()}
    draw_by_size(shown, SIZES, ylabel).savefig("docs/research/figures/again.png", dpi=110)
    print("beside the same without: first, ties half; evaluations to 1e-6, mean and 10, 90 %")
    for lane, label in enumerate(labels):
        if label.endswith("again"):
            beside(results, label, lane, lane - 2)
    print("networks: f over that of the rule, full", *BUDGETS)
    for lane, label in enumerate(labels):
        memory, which = list(VARIANTS)[lane // 2], lane % 2
        ratios = [
            np.exp(
                np.mean([
                    np.log(networks[memory][key][which, b - 1] / networks["full"][key][0, b - 1])
                    for key in networks["full"]
                ])
            )
            for b in BUDGETS
        ]  # fmt: skip
        print(f"{label:24s}" + "".join(f"{ratio:10.1e}" for ratio in ratios))


def beside(results: dict[str, np.ndarray], label: str, lane: int, other: int) -> None:
    """One line: a lane against another."""
    least = {key: curves.min() for key, curves in results.items()}
    pairs = {key: curves[[other, lane]] for key, curves in results.items()}
    _, (*_, first) = table(pairs, ["without", label], more=least)
    evals = np.array([evals_to(curves, least[key], 1e-6) for key, curves in pairs.items()])
    theirs, ours = evals[np.isfinite(evals).all(1)].T
    ratios = ours / theirs
    low, high = np.quantile(ratios, [0.1, 0.9])
    mean = np.exp(np.mean(np.log(ratios)))
    print(f"{label:24s} {first:.3f}  {mean:.3f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
