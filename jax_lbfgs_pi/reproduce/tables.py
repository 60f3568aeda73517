"""The paper's tables from records, with intervals; pure functions."""

import math
from collections.abc import Sequence

import numpy as np

from jax_lbfgs_pi.evaluation.statistics import Target, median
from jax_lbfgs_pi.evaluation.tables import Table
from jax_lbfgs_pi.reproduce import statistics
from jax_lbfgs_pi.reproduce.records import Records
from jax_lbfgs_pi.reproduce.statistics import Estimate

COST_NAMES = {"seconds": "seconds", "num_evals": "evaluations", "iterations": "iterations"}

PAPER_TABLE1: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {
    "mnist-1x20": {
        "ADAM": ((0, 0), (95.8, 4.2), (90.9, 9.1)),
        "RMSProp": ((5.5, 0), (95.8, 4.2), (90.9, 9.1)),
        "L-BFGS-B": ((32.1, 0), (49.3, 0.5), (54.9, 3.3)),
        "L-BFGS-BTLS": ((40.8, 0), (55.6, 0.6), (59.0, 2.5)),
    },
    "mnist-2x400": {
        "ADAM": ((4.7, 0), (5.8, 0), (10.5, 0)),
        "RMSProp": ((100, 0), (100, 0), (100, 0)),
        "L-BFGS-B": ((5.7, 0), (5.5, 0), (5.5, 0)),
        "L-BFGS-BTLS": ((1.0, 0), (1.0, 0), (1.2, 0)),
    },
    "mnist-4x800": {
        "ADAM": ((0, 0), (0.1, 0), (0.2, 0.1)),
        "RMSProp": ((92.7, 7.3), (81.0, 19.0), (67.2, 32.8)),
        "L-BFGS-B": ((9.2, 1.2), (8.5, 2.1), (7.6, 3.0)),
        "L-BFGS-BTLS": ((0, 0), (0, 0), (0, 0)),
    },
}
"""W and T in percent at `TABLE1_LEVELS` (paper, Table 1; damaged digits restored, SPEC §7)."""

TABLE1_LEVELS = {
    "mnist-1x20": (1e-3, 1e-4, 1e-5),
    "mnist-2x400": (1e-5, 1e-6, 1e-7),
    "mnist-4x800": (1e-5, 1e-6, 1e-7),
}


def number(value: float, digits: int = 3) -> str:
    """Three significant digits, ∞, or a dash."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if 0 < abs(value) < 1e-3 or abs(value) >= 1e6:
        return f"{value:.{digits - 1}e}"
    return np.format_float_positional(value, digits, unique=True, fractional=False, trim="-")


def number_of_tasks(count: int) -> str:
    """As in `1 task` and `1,000 tasks`."""
    return f"{count:,} task" if count == 1 else f"{count:,} tasks"


def interval(estimate: Estimate) -> str:
    """As in `54.9 [51.8, 58.0]`."""
    if estimate.num_tasks == 0:
        return "–"
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def table1(records: Records, race: str, favourite: str, cost: str) -> Table:
    """W/T of the favourite against each competitor, with the interval of W, and the paper's."""
    levels = TABLE1_LEVELS[race]
    targets = [Target("grad_norm", level) for level in levels]
    rows = []
    for name in records.optimizers:
        if name == favourite:
            continue
        cells, papers = [], PAPER_TABLE1[race].get(name)
        for i, target in enumerate(targets):
            w, t = statistics.wins(records, favourite, name, target, cost)
            cells.append(f"{interval(w)} / {number(t.value)}")
            cells.append("–" if papers is None else f"{papers[i][0]:g} / {papers[i][1]:g}")
        rows.append([name, str(len(records.tasks(favourite, name))), *cells])
    header = ["against", "tasks"]
    for target in targets:
        header += [f"W [95 %] / T, {target}", "paper"]
    title = f"Table 1, {race}: {favourite} first in % of tasks (W) and ties (T), by "
    return Table(title + COST_NAMES[cost], header, rows)


def costs(records: Records, race: str, targets: Sequence[Target], cost: str) -> Table:
    """Median cost of each target with its interval, and the share of tasks that meet it.

    `race` heads the title, and may be empty.
    """
    rows = []
    for name in records.optimizers:
        cells = [str(len(records.tasks(name)))]
        for target in targets:
            typical = statistics.median_cost(records, name, target, cost)
            share = statistics.reached(records, name, target)
            cells.append(f"{interval(typical)} ({number(share.value)} %)")
        rows.append([name, *cells])
    header = ["", "tasks", *(str(target) for target in targets)]
    title = f"{COST_NAMES[cost]} to a target, median [95 %] (tasks that meet it)"
    return Table(f"{race}: {title}" if race else title.capitalize(), header, rows)


def advantage_table(records: Records, race: str, favourites: Sequence[str]) -> Table:
    """Medians of I_a with intervals, of the least and of the final f."""
    rows = []
    for favourite in favourites:
        for name in records.optimizers:
            if name == favourite:
                continue
            cells = []
            for value in ("min_value", "final_value"):
                index = statistics.advantages(records, favourite, name, value)
                cells.append(interval(statistics.bootstrap(index, median)))
            rows.append([favourite, name, str(len(records.tasks(favourite, name))), *cells])
    header = ["policy", "against", "tasks", "I_a, least f", "I_a, final f"]
    title = f"{race}: I_a = ln(f_a / f_π), median [95 %]; above 0 the policy is lower"
    return Table(title, header, rows)


def endings(records: Records, race: str) -> Table:
    """How runs ended: plateaus, least and final f, milliseconds for an evaluation."""
    rows = []
    for name in records.optimizers:
        tasks = records.tasks(name)
        plateau, least, final, seconds, evals = (
            records.column(name, column, tasks)
            for column in ("plateau", "min_value", "final_value", "seconds", "num_evals")
        )
        finite = np.where(np.isnan(final), np.inf, final)
        rows.append(
            [
                name,
                str(len(tasks)),
                number(100 * float(np.mean(plateau))),
                number(float(median(least))),
                number(float(median(finite))),
                number(1e3 * float(np.median(seconds / evals))),
            ]
        )
    header = ["", "tasks", "plateau stops %", "median least f", "median final f", "ms / evaluation"]
    return Table(f"{race}: how runs end", header, rows)
