"""A policy trained for a dense H beside the rule, and beside `general` with a full memory.

python -m research.dense_trained FOLDER [generation ...]: FOLDER is the `--out` of a training, whose
last policy stands beside those of some generations that were kept.
"""

import sys
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import numpy as np

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import OF_A_DENSE_H, General, init_general
from research.lanes import (
    development,
    draw_by_size,
    num_variables,
    of_size,
    print_table,
    run,
    table,
)

SIZES = ((1, 3), (4, 10), (11, 50), (51, 100))
NETWORKS = ("pinn-poisson",)
BUDGETS = (300, 1000, 3000)


def without(learned: General, answer: str) -> General:
    """The policy whose factor of an answer is 1."""
    layer, unit = ("size", 0) if answer == "t" else ("answer", learned.answers.index(answer))
    weights = jax.tree.map(np.array, learned.params)
    weights[layer]["kernel"][:, unit], weights[layer]["bias"][unit] = 0.0, 0.0
    return learned.replace(params=weights)  # pyright: ignore[reportAttributeAccessIssue]


def main() -> None:
    """Runs, prints tables by number of variables, and draws."""
    folder, *generations = sys.argv[1:]
    paths = [Path(folder) / "policies" / f"{int(g):05d}.safetensors" for g in generations]
    paths.append(Path(folder) / "policy.safetensors")
    rule = init_general(jax.random.key(0), lp.Rule(), OF_A_DENSE_H)
    learned = [lp.load_policy(p) for p in paths]
    last = learned[-1]
    assert isinstance(last, General)
    variants = {
        "rule": rule,
        **{f"generation {int(g)}": p for g, p in zip(generations, learned[:-1], strict=True)},
        "learned": last,
        **{f"{name} by rule": without(last, name) for name in (*OF_A_DENSE_H, "t")},
    }
    out = Path(folder) / "development" / "-".join(["learned", *generations])
    labels = list(variants)
    small = development(2, SIZES[-1][-1])
    options = {"num_starts": 4}
    results = run(small, list(variants.values()), out / "dense", memory_size="dense", **options)
    full = run(small, [lp.load_policy("general")], out / "full", memory_size="full", **options)
    results = {key: np.concatenate([results[key], full[key]]) for key in full}
    labels.append("general, full")
    areas: dict[str, list[float]] = {label: [] for label in labels}
    for low, high in (*SIZES, (1, SIZES[-1][-1])):
        chosen = of_size(results, low, high)
        rows = table(chosen, labels)
        print(f"{low} to {high} variables, {len(chosen)} runs")
        print_table(rows)
        for label, area, _, _ in rows:
            areas[label].append(area)
    ylabel = "area under solved against log evaluations"
    shown = {k: v[:4] for k, v in areas.items() if "by rule" not in k}
    draw_by_size(shown, SIZES, ylabel).savefig("docs/research/figures/dense-trained.png", dpi=110)

    names = [name for name in development(2) if name.rsplit("-", 1)[0] in NETWORKS]
    print("networks of", *{num_variables(name) for name in names}, "weights: f over the rule's")
    policies = [rule, *learned]
    curves = run(
        names, policies, out / "networks", memory_size="dense", num_evals=BUDGETS[-1], num_starts=4
    )
    print(f"{'':16s}" + "".join(f"{budget:8d}" for budget in BUDGETS))
    for lane, label in enumerate(labels[: len(policies)]):
        ratios = [
            np.exp(np.mean([np.log(c[lane, b - 1] / c[0, b - 1]) for c in curves.values()]))
            for b in BUDGETS
        ]
        print(f"{label:16s}" + "".join(f"{ratio:8.2f}" for ratio in ratios))


if __name__ == "__main__":
    main()
