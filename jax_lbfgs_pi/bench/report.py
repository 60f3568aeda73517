"""The benchmark's results as tables: for the terminal, as Markdown, and for machines."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jax_lbfgs_pi.bench.costs import Costs, better_of
from jax_lbfgs_pi.bench.figures import favourite_first
from jax_lbfgs_pi.bench.records import ProblemRuns
from jax_lbfgs_pi.bench.statistics import (
    Estimate,
    bad_ends,
    duel,
    solved_area,
    solved_at_budgets,
)
from jax_lbfgs_pi.evaluation.tables import Table

VIRTUAL_BEST = "virtual best"
_LONGEST_NAME, _LONGEST_KIND = 20, 18


def report_budgets(budget: int) -> list[int]:
    """The budgets at which shares are shown: 50 and 100 evaluations, and all."""
    return [*(b for b in (50, 100) if b < budget), budget]


def _percent(value: float) -> str:
    return f"{100 * value:.0f}"


def _interval(estimate: Estimate) -> str:
    return f"{_percent(estimate.value)} [{_percent(estimate.low)}–{_percent(estimate.high)}]"


def _ratio(value: float) -> str:
    return "–" if math.isnan(value) else "∞" if math.isinf(value) else f"{value:.2f}"


def _short(name: str, length: int = _LONGEST_NAME) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def tables(
    results: Sequence[ProblemRuns], costs: Costs, favourite: str, *, budget: int = 300
) -> list[Table]:
    """The report: shares solved, the favourite's duels, results by kind, how runs ended.

    Args:
      results: of the suite.
      costs: `costs_to` of them.
      favourite: whom the others are held against.
      budget: evaluations that each run had.
    """
    return [
        _solved_rows(costs, favourite, budget),
        _duel_rows(costs, favourite),
        _kind_rows(costs, favourite, budget),
        _end_rows(results, costs, favourite),
    ]


def _solved_rows(costs: Costs, favourite: str, budget: int) -> Table:
    budgets = report_budgets(budget)
    all_of_them = better_of(costs, costs.names, VIRTUAL_BEST)
    shares = solved_at_budgets(all_of_them, budgets)
    areas = solved_area(all_of_them, max(budget, 2))
    names = favourite_first(costs.names, favourite)
    names = sorted(names, key=lambda name: -areas[name].value)
    body = [
        [_short(name), *map(_interval, shares[name]), _percent(areas[name].value)]
        for name in [VIRTUAL_BEST, *names]
    ]
    header = ["", *(f"≤ {b}" for b in budgets), "area"]
    return Table("Solved within evaluations, % [95 %]; area under the curve", header, body)


def _duel_rows(costs: Costs, favourite: str) -> Table:
    body = []
    for name in costs.names:
        if name != favourite:
            d = duel(costs, favourite, name)
            ratios = [r for r in d.ratio_by_kind.values() if not math.isnan(r)]
            middle = float(np.sort(ratios)[(len(ratios) - 1) // 2]) if ratios else math.nan
            shares = [_percent(x) for x in (d.wins, d.ties, d.losses, d.neither)]
            body.append([_short(name), _interval(d.score), *shares, _ratio(middle)])
    header = ["against", "score", "wins", "ties", "loses", "neither", "evals"]
    title = f"{favourite}: first to the target in %, ties half; median ratio of evaluations"
    return Table(title, header, body)


def _kind_rows(costs: Costs, favourite: str, budget: int) -> Table:
    rivals = [name for name in costs.names if name != favourite]
    body = []
    for kind in dict.fromkeys(costs.kinds):
        chosen = costs.only(kind)
        solved = {name: float(np.mean(np.isfinite(chosen.of(name)))) for name in costs.names}
        areas = solved_area(chosen, max(budget, 2))
        best = max(rivals, key=lambda name: areas[name].value, default=favourite)
        d = duel(chosen, favourite, best)
        body.append([
            _short(kind, _LONGEST_KIND), str(len(chosen.problems)), _percent(solved[favourite]),
            _short(best), _percent(solved[best]), _percent(d.score.value),
            _ratio(d.ratio_by_kind[kind]),
        ])  # fmt: skip
    header = ["kind", "N", "%", "best rival", "%", "score", "evals"]
    return Table(f"{favourite} by kind: solved, and against the best rival there", header, body)


def _end_rows(results: Sequence[ProblemRuns], costs: Costs, favourite: str) -> Table:
    body = []
    for name in favourite_first(costs.names, favourite):
        ends, records = bad_ends(results, name), [runs.records[name] for runs in results]
        ms = float(np.median([1e3 * r.seconds / len(r.num_evals) for r in records]))
        compiled = sum(r.compile_seconds for r in records)
        body.append([
            _short(name), str(ends.non_finite), str(ends.above_start), f"{ms:.3g}",
            f"{sum(r.seconds for r in records):.0f}", f"{compiled:.0f}",
        ])  # fmt: skip
    header = ["", "non-finite", "above f₀", "ms/step", "run s", "build s"]
    return Table(f"How {len(results)} runs ended, and their time", header, body)


def as_json(
    results: Sequence[ProblemRuns], costs: Costs, favourite: str, *, budget: int = 300
) -> dict[str, Any]:
    """The report for machines; infinite and undefined numbers are null."""
    areas, budgets = solved_area(costs, max(budget, 2)), report_budgets(budget)
    shares = solved_at_budgets(costs, budgets)
    return _finite({
        "favourite": favourite,
        "competitors": {
            name: {
                "solved": {
                    str(b): s._asdict() for b, s in zip(budgets, shares[name], strict=True)
                },
                "area": areas[name]._asdict(),
                "bad_ends": dataclasses.asdict(bad_ends(results, name)),
            }
            for name in costs.names
        },
        "duels": [_as_dict(costs, favourite, name) for name in costs.names if name != favourite],
        "problems": {
            problem: {
                "kind": costs.kinds[i],
                "num_variables": costs.num_variables[i],
                "evals": dict(zip(costs.names, costs.evals[i].tolist(), strict=True)),
            }
            for i, problem in enumerate(costs.problems)
        },
    })  # fmt: skip


def _as_dict(costs: Costs, favourite: str, name: str) -> dict[str, Any]:
    found = duel(costs, favourite, name)
    return dataclasses.asdict(found) | {"score": found.score._asdict()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
