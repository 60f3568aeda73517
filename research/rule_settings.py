"""Constants of the rule, each varied alone, on the development problems.

python -m research.rule_settings
"""

from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

from matplotlib.figure import Figure

from jax_lbfgs_pi.policy import Rule
from research.lanes import development, print_table, run, table

BASE = {"num_pairs": 10.0}
SETTINGS = {
    "base: cap 10, x1.3": {},
    "cap 10, x2": {"raised": 2.0},
    "cap 10, x1.5": {"raised": 1.5},
    "cap 10, x1.1": {"raised": 1.1},
    "cap 1, x1.5": {"cap": 1.0, "raised": 1.5},
    "cap 1, x2": {"cap": 1.0, "raised": 2.0},
    "cap 1, x1.2": {"cap": 1.0, "raised": 1.2},
    "cap 3, x1.3": {"cap": 3.0},
    "cap 100, x1.3": {"cap": 100.0},
    "short": {"cap": 1.0, "raised": 1.0},
    "at most 2 x short": {"cap": 2.0, "raised": 1.0, "lowered": 1.0, "rejected": 1.0},
    "at most 4 x short": {"cap": 4.0, "raised": 1.0, "lowered": 1.0, "rejected": 1.0},
    "long": {"cap": 1e6, "raised": 1.0, "lowered": 1.0, "rejected": 1.0},
    "long, lowered": {"cap": 1e6, "raised": 2.0},
    "lowered 0.7": {"lowered": 0.7},
    "lowered 0.25": {"lowered": 0.25},
    "lower ratio -0.2": {"lower_ratio": -0.2},
    "lower ratio -1": {"lower_ratio": -1.0, "raise_ratio": -0.5},
    "raise ratio 0": {"raise_ratio": 0.0},
    "raise ratio 0.3": {"raise_ratio": 0.3},
    "rejected 0.5": {"rejected": 0.5},
    "rejected 0.1": {"rejected": 0.1},
    "longest 1": {"longest": 1.0},
    "longest 2": {"longest": 2.0},
    "longest 8": {"longest": 8.0},
    "slope ratio 0.7": {"least_slope_ratio": 0.7},
    "slope ratio 0.5": {"least_slope_ratio": 0.5},
    "growth 3": {"growth": 3.0},
    "growth 30": {"growth": 30.0},
    "growth 100": {"growth": 100.0},
    "m = 3": {"num_pairs": 3.0},
    "m = 5": {"num_pairs": 5.0},
    "m = 20": {"num_pairs": 20.0},
    "m = 20, cap 10, x2": {"num_pairs": 20.0, "raised": 2.0},
    "m = 20, short": {"num_pairs": 20.0, "cap": 1.0, "raised": 1.0},
}


REAL = ("digits", "logistic", "poisson-diabetes", "gp-", "pinn", "matrix", "control", "ode-")
REAL += ("diffusion", "curve-spectrum")


def figure(rows: dict[str, list], path: Path) -> None:
    """Areas under solved-against-log-budget by setting, published formulas beside real tasks."""
    fig = Figure(figsize=(9, 8), layout="constrained")
    axes = fig.subplots(1, len(rows), sharey=True)
    order = [row[0] for row in sorted(next(iter(rows.values())), key=lambda row: row[1])]
    for axis, (title, table_rows) in zip(axes, rows.items(), strict=True):
        areas = {label: area for label, area, *_ in table_rows}
        base = next(iter(SETTINGS))
        axis.plot([areas[label] for label in order], order, "o")
        axis.axvline(areas[base], color="C1", linewidth=0.8)
        axis.plot(areas[base], base, "oC1")
        axis.grid(alpha=0.3)
        axis.set_title(title)
        axis.set_xlabel("area under share solved against log budget")
    fig.savefig(path, dpi=110)


if __name__ == "__main__":
    rules = [Rule(**{**BASE, **changes}) for changes in SETTINGS.values()]
    results = run(development(2), rules, Path("runs/research/rule"), memory_size=20)
    real = {name: c for name, c in results.items() if name.startswith(REAL)}
    formulas = {name: c for name, c in results.items() if name not in real}
    rows = {}
    for title, some, tau in (
        (f"{len(formulas)} of published formulas, 1e-6", formulas, 1e-6),
        (f"{len(real)} real tasks, 1e-4", real, 1e-4),
    ):
        rows[title] = table(some, list(SETTINGS), tau)
        print(title)
        print_table(rows[title])
    figure(rows, Path("docs/research/figures/rule.png"))
