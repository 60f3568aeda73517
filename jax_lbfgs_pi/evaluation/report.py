"""A race's results as tables: for the terminal, as Markdown, and for machines."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from rich.table import Table as RichTable

from jax_lbfgs_pi.evaluation import tables as layout
from jax_lbfgs_pi.evaluation.race import Results
from jax_lbfgs_pi.evaluation.statistics import Summary, Target, summarize
from jax_lbfgs_pi.evaluation.tables import Table

COSTS = {"num_evals": "evaluations", "seconds": "seconds", "iterations": "iterations"}


def _number(value: float, form: str = ".0f") -> str:
    if math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:{form}}"


def _rows(
    lines: Sequence[Summary], targets: Sequence[Target], cost: str
) -> tuple[list[str], list[list[str]]]:
    form = "#.3g" if cost == "seconds" else ".0f"
    header = ["", *(str(target) for target in targets)]
    body = []
    for line in lines:
        cells = []
        for i in range(len(targets)):
            cell = f"{_number(line.median_cost[i], form)} ({_number(line.reached[i])})"
            cells.append(cell)
        body.append([line.name, *cells])
    return header, body


def _win_rows(
    lines: Sequence[Summary], targets: Sequence[Target]
) -> tuple[list[str], list[list[str]]]:
    header = ["against", *(str(target) for target in targets), "I_a"]
    body = []
    for line in lines[1:]:
        cells = [
            f"{_number(w, '.1f')} / {_number(t, '.1f')}"
            for w, t in zip(line.wins, line.ties, strict=True)
        ]
        body.append([line.name, *cells, f"{line.advantage:+.2f}"])
    return header, body


def tables(results: Results, favourite: str, targets: Sequence[Target]) -> list[Table]:
    """The report.

    Costs to each target in evaluations and in seconds (median over all tasks, and the share that
    meets the target), then the favourite's wins and ties by either cost, and the median of I_a.
    """
    report = []
    for cost in ("num_evals", "seconds"):
        lines = summarize(results, favourite, targets, cost)
        title = f"{COSTS[cost].capitalize()} to a target: median (% of tasks that meet it)"
        report.append(Table(title, *_rows(lines, targets, cost)))
    for cost in ("num_evals", "seconds"):
        lines = summarize(results, favourite, targets, cost)
        title = f"{favourite} wins / ties in %, by {COSTS[cost]}; median I_a"
        report.append(Table(title, *_win_rows(lines, targets)))
    return report


def rich_tables(results: Results, favourite: str, targets: Sequence[Target]) -> list[RichTable]:
    """The report for a terminal of 80 columns."""
    return [layout.for_terminal(table) for table in tables(results, favourite, targets)]


def markdown(results: Results, favourite: str, targets: Sequence[Target]) -> str:
    """The report in Markdown."""
    return "\n".join(map(layout.markdown, tables(results, favourite, targets)))


def as_json(results: Results, favourite: str, targets: Sequence[Target]) -> dict[str, Any]:
    """The report for machines; infinite and undefined numbers are null."""

    def finite(value: Any) -> Any:
        if isinstance(value, list):
            return [finite(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    def one(line: Summary) -> dict[str, Any]:
        return {key: finite(value) for key, value in dataclasses.asdict(line).items()}

    return {
        "favourite": favourite,
        "num_tasks": len(results),
        "targets": [dataclasses.asdict(target) for target in targets],
        "by": {
            cost: [one(line) for line in summarize(results, favourite, targets, cost)]
            for cost in ("num_evals", "seconds")
        },
    }
