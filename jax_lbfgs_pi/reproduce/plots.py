"""The paper's figures from records; pure functions."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from jax_lbfgs_pi.evaluation.figures import BAR, finish_axes, line_style
from jax_lbfgs_pi.evaluation.statistics import Target
from jax_lbfgs_pi.reproduce.records import Records, RunFolder, hit
from jax_lbfgs_pi.reproduce.statistics import advantages

STEPPING = ("L-BFGS-BTLS",)


def curves(folder: RunFolder, tasks: Sequence[int], names: Sequence[str]) -> Figure:
    """f(x_k) against time for all optimizers, and beneath it t_k of π and BTLS (Fig. 3 and 7).

    Args:
      folder: records with the curves of these tasks.
      tasks: at most five in a row of panels.
      names: optimizers, the favourite first.
    """
    columns = min(5, len(tasks))
    blocks = -(-len(tasks) // columns)
    width = 3.4 * columns if columns <= 3 else 2.7 * columns
    figure = Figure(figsize=(width, 4.7 * blocks + 0.6), layout="constrained")
    grid = figure.subplots(
        2 * blocks, columns, squeeze=False, gridspec_kw={"height_ratios": [2, 1] * blocks}
    )
    for axes in grid.flat:
        axes.set_visible(False)
    for i, task in enumerate(tasks):
        row, column = 2 * (i // columns), i % columns
        upper, lower = grid[row, column], grid[row + 1, column]
        _task_curves(upper, lower, folder, task, names)
        upper.set_title(f"task {task}")
        if column == 0:
            upper.set_ylabel("f(x$_k$)")
            lower.set_ylabel("step size t$_k$")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False)
    return figure


def _task_curves(
    upper: Axes, lower: Axes, folder: RunFolder, task: int, names: Sequence[str]
) -> None:
    ends, least, start = [], [], 1.0
    for i, name in enumerate(names):
        curve = folder.curve(task, name)
        if curve is None:
            continue
        values = np.where(np.isfinite(curve["value"]), curve["value"], np.nan)
        start = values[0]
        ends.append(curve["seconds"][-1])
        least.append(np.nanmin(values))
        upper.semilogy(curve["seconds"], values, label=name, **line_style(i))
        if i == 0 or name in STEPPING:
            lower.semilogy(curve["seconds"], curve["step_size"], **line_style(i))
    if not ends:
        return
    for axes in (upper, lower):
        axes.set_visible(True)
        # Those that use up all iterations would leave the others a corner.
        axes.set_xlim(0, 1.05 * float(np.median(ends)))
    upper.set_ylim(0.5 * max(min(least), 1e-12), 5 * start)  # a run that blows up is cut off
    lower.set_ylim(1e-3, 2.0)
    finish_axes(upper)
    finish_axes(lower, xlabel="wall-clock time (s)")


def scatter(
    records: Records, favourite: str, against: Sequence[str], targets: Sequence[Target], cost: str
) -> Figure:
    """t_f of the favourite against that of each competitor, with margins for ∞ (Fig. 4)."""
    units = {"seconds": "s", "num_evals": "evaluations", "iterations": "iterations"}[cost]
    figure = Figure(
        figsize=(2.6 * len(against) + 0.4, 2.6 * len(targets) + 0.3), layout="constrained"
    )
    grid = figure.subplots(len(targets), len(against), squeeze=False)
    for row, target in zip(grid, targets, strict=True):
        for axes, name in zip(row, against, strict=True):
            tasks = records.tasks(favourite, name)
            mine, theirs = (
                records.column(who, hit(target, cost), tasks) for who in (favourite, name)
            )
            _scatter_panel(axes, mine, theirs)
            finish_axes(axes, title=f"{name}, {target}")
            axes.title.set_fontsize(9)
    for axes in grid[-1]:
        axes.set_xlabel(f"t$_f$ of the competitor ({units})", fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel(f"t$_f$ of {favourite} ({units})", fontsize=9)
    return figure


def _scatter_panel(axes: Axes, mine: np.ndarray, theirs: np.ndarray) -> None:
    finite = np.concatenate([mine[np.isfinite(mine)], theirs[np.isfinite(theirs)]])
    low, high = (finite.min(), finite.max()) if finite.size else (1.0, 10.0)
    low, high = 0.8 * low, 1.25 * high
    beyond = high * (high / low) ** 0.12  # where ∞ stands
    both = np.isinf(mine) & np.isinf(theirs)  # a number stands for these
    x, y = (np.where(np.isfinite(v), v, beyond)[~both] for v in (theirs, mine))
    axes.loglog(x, y, ".", color=line_style(6)["color"], markersize=3, alpha=0.5)
    edge = (high / low) ** 0.06
    axes.plot([low, high], [low, high], color="0.4", linewidth=0.8)
    axes.axvspan(high, high * edge**3, color="0.92", zorder=0)
    axes.axhspan(high, high * edge**3, color="0.92", zorder=0)
    axes.set(xlim=(low, high * edge**3), ylim=(low, high * edge**3))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=8)
    axes.text(beyond, low * edge**0.3, "∞", ha="center", va="bottom", fontsize=9)
    axes.text(low * edge**0.3, beyond, "∞", ha="left", va="center", fontsize=9)
    if both.any():
        axes.text(beyond, beyond, str(int(both.sum())), ha="center", va="center", fontsize=8)


def boxes(
    panels: Sequence[tuple[str, Records, Sequence[str]]],
    against: Sequence[str],
    value: str = "min_value",
) -> Figure:
    """Box plots of I_a, quartiles, whiskers from 5 % to 95 % (Fig. 5, 6 and 8).

    Args:
      panels: title, records, and the policies whose boxes stand side by side.
      against: the competitors, one group of boxes for each.
      value: `min_value`, or `final_value`.
    """
    figure = Figure(figsize=(3.6 * len(panels) + 0.6, 3.8), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, records, policies) in zip(grid, panels, strict=True):
        for j, policy in enumerate(policies):
            data = [_shown(advantages(records, policy, name, value)) for name in against]
            width = 0.7 / len(policies)
            places = np.arange(len(against)) + (j - (len(policies) - 1) / 2) * width
            drawn = axes.boxplot(
                data,
                positions=places,
                whis=(5, 95),
                widths=0.8 * width,
                patch_artist=True,
                flierprops={"marker": ".", "markersize": 2, "alpha": 0.4},
                medianprops={"color": BAR[0], "linewidth": 1.6},
                boxprops={"facecolor": BAR[1 + j], "alpha": 0.8},
            )
            drawn["boxes"][0].set_label(policy)
        axes.axhline(0.0, color="0.4", linewidth=0.8)
        if np.max(np.abs(axes.get_ylim())) > 1.0:
            axes.set_yscale("symlog", linthresh=1.0)
            axes.yaxis.set_major_formatter("{x:g}")
        axes.set_xticks(np.arange(len(against)), against, rotation=20, ha="right")
        finish_axes(axes, title=title)
        if len(policies) > 1:
            axes.legend(frameon=False, fontsize=8)
    least = {"min_value": "least f", "final_value": "final f"}[value]
    grid[0].set_ylabel(f"I$_a$ = ln(f$_a$ / f$_π$), {least}\n(above 0: π is lower)")
    return figure


def _shown(index: np.ndarray) -> np.ndarray:
    """Infinite I_a, where one of two runs ended in overflow, stand at ±700."""
    return np.clip(index, -700.0, 700.0)
