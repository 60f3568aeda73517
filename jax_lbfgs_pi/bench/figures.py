"""Figures of the benchmark: performance profile, data profiles, over all kinds and by kind."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jax_lbfgs_pi.bench.costs import Costs
from jax_lbfgs_pi.bench.statistics import data_profile, performance_profile, solved_area
from jax_lbfgs_pi.evaluation.figures import finish_axes

# Without black, the favourite's. A dash and a marker together tell any two apart without colour.
_COLOURS = ["#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#0072B2", "0.5"]
_DASHES = ["--", "-.", ":", (0, (6, 1, 1, 1, 1, 1))]
_MARKERS = ["o", "s", "^", "v", "D", "x", "+", "*", "p"]
_NUM_RIVALS = 4  # in the panels of the kinds


def style(i: int) -> dict[str, Any]:
    """The style of the i-th competitor's line; the favourite's, the first, is thick and black."""
    if i == 0:
        return {"color": "black", "linewidth": 2.6, "zorder": 10}
    return {
        "color": _COLOURS[(i - 1) % len(_COLOURS)],
        "linestyle": _DASHES[(i - 1) % len(_DASHES)],
        "linewidth": 1.2,
        "marker": _MARKERS[(i - 1) % len(_MARKERS)],
        "markersize": 4,
        "markevery": (5 * i % 24, 24),  # of 121 points; not all at the same place
    }


def favourite_first(names: Sequence[str], favourite: str) -> list[str]:
    """The names, the favourite's in front."""
    return [favourite, *(name for name in names if name != favourite)]


def profile_performance(costs: Costs, favourite: str, *, greatest: float = 20.0) -> Figure:
    """Dolan and Moré's performance profile: share solved within a factor of the fastest.

    Args:
      costs: of the suite.
      favourite: drawn bold.
      greatest: the greatest factor shown.
    """
    factors = np.geomspace(1.0, greatest, 121)
    figure, axes = _single()
    _lines(axes, costs, favourite, factors, performance_profile(costs, factors))
    axes.set_xscale("log")
    ticks = [t for t in (1, 2, 3, 5, 10, 20, 50, 100) if t <= greatest]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.minorticks_off()
    label = "evaluations, as a multiple of the fastest competitor's"
    finish_axes(axes, xlabel=label, ylabel="share of problems solved")
    axes.set_ylim(0, 1.02)
    return _with_legend(figure, axes)


def profile_data(
    costs: Costs, favourite: str, *, budget: int = 300, per_variable: bool = False
) -> Figure:
    """Moré and Wild's data profile: share solved within a number of evaluations.

    Args:
      costs: of the suite.
      favourite: drawn bold.
      budget: the most evaluations shown, or where `per_variable`, the most in units of n + 1.
      per_variable: whether evaluations are divided by n + 1.
    """
    unit = "evaluations / (n + 1)" if per_variable else "evaluations of f and its gradient"
    budgets = np.geomspace(1.0, budget, 121)
    figure, axes = _single()
    shares = data_profile(costs, budgets, per_variable=per_variable)
    _lines(axes, costs, favourite, budgets, shares)
    axes.set_xscale("log")
    finish_axes(axes, xlabel=unit, ylabel="share of problems solved")
    axes.set_ylim(0, 1.02)
    return _with_legend(figure, axes)


def profiles_by_kind(costs: Costs, favourite: str, *, budget: int = 300) -> Figure:
    """A small data profile for each kind: the favourite's and its four best rivals'.

    Args:
      costs: of the suite.
      favourite: drawn bold.
      budget: the most evaluations shown.
    """
    areas = solved_area(costs, max(budget, 2))
    rivals = [name for name in costs.names if name != favourite]
    rivals = sorted(rivals, key=lambda name: -areas[name].value)[:_NUM_RIVALS]
    names = [favourite, *rivals]
    kinds = list(dict.fromkeys(costs.kinds))
    columns = min(4, len(kinds))
    rows = math.ceil(len(kinds) / columns)
    figure = Figure(figsize=(2.6 * columns + 0.6, 1.9 * rows + 0.9), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    budgets = np.geomspace(1.0, budget, 121)
    for axes, kind in zip(grid.flat, kinds, strict=False):
        chosen = costs.only(kind)
        shares = dict(zip(chosen.names, data_profile(chosen, budgets), strict=True))
        for i, name in enumerate(names):
            axes.plot(budgets, shares[name], label=name, **style(i))
        axes.set_title(f"{kind} ({len(chosen.problems)})", fontsize=9)
        axes.set_xscale("log")
        axes.set_ylim(-0.03, 1.03)
        finish_axes(axes)
    for axes in grid.flat[len(kinds) :]:
        axes.set_visible(False)
    figure.supxlabel("evaluations of f and its gradient", fontsize=10)
    figure.supylabel("share of problems solved", fontsize=10)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(3, columns), frameon=False)
    return figure


def _single() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.2, 4.6), layout="constrained")
    return figure, figure.subplots()


def _lines(axes: Axes, costs: Costs, favourite: str, x: np.ndarray, shares: np.ndarray) -> None:
    rows = dict(zip(costs.names, shares, strict=True))
    for i, name in enumerate(favourite_first(costs.names, favourite)):
        axes.plot(x, rows[name], label=name, **style(i))


def _with_legend(figure: Figure, axes: Axes) -> Figure:
    """The legend in the order of the lines' right ends, where the eye arrives."""
    handles, labels = axes.get_legend_handles_labels()
    ends = [-float(np.asarray(line.get_ydata())[-1]) for line in axes.get_lines()]
    order = sorted(range(len(ends)), key=ends.__getitem__)
    handles, labels = [handles[i] for i in order], [labels[i] for i in order]
    legend = figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    for text, i in zip(legend.get_texts(), order, strict=True):
        text.set_fontweight("bold" if i == 0 else "normal")
    return figure
