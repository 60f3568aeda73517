"""Figures of a race: curves of a few tasks, and box plots of I_a over all."""

import dataclasses
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jax_lbfgs_pi.evaluation.race import Results
from jax_lbfgs_pi.evaluation.run import Run
from jax_lbfgs_pi.evaluation.statistics import advantage, least_value
from jax_lbfgs_pi.files import write_atomically

# Okabe & Ito's colours, which the colour-blind can tell apart; black is the favourite's.
_COLOURS = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#0072B2", "#F0E442"]
_DASHES = ["-", "--", "-.", ":", "--", "-.", ":", "-"]


DPI = 130  # of what is saved
BAR = ["#000000", "#56B4E9", "#E69F00", "#009E73"]  # a line over boxes, and the boxes


def line_style(i: int) -> dict[str, Any]:
    """The style of the i-th optimizer's line; the favourite's, the first, is thick and black."""
    colour, dash = _COLOURS[i % len(_COLOURS)], _DASHES[i % len(_DASHES)]
    return {"color": colour, "linestyle": dash, "linewidth": 1.8 if i == 0 else 1.2, "zorder": -i}


def finish_axes(axes: Axes, **labels: str) -> None:
    """Labels axes, and gives them the style of all our figures."""
    axes.set(**labels)
    axes.grid(visible=True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def curves(results: Results, favourite: str, *, num_tasks: int = 3) -> Figure:
    """f(x_k) against iterations and against seconds, and t_k, for the first tasks.

    Where f falls below 0 on one of them, it is f less the least that anyone found.

    Args:
      results: of a race.
      favourite: drawn first and thickest.
      num_tasks: a column for each.
    """
    num_tasks = min(num_tasks, len(results))
    names = [favourite, *(name for name in results[0] if name != favourite)]
    stepping = [n for n in (favourite, "L-BFGS-BTLS") if n in names]
    figure = Figure(figsize=(3.6 * num_tasks + 0.4, 8.4), layout="constrained")
    grid = figure.subplots(3, num_tasks, squeeze=False)
    lows = [min(map(least_value, runs.values())) for runs in results[:num_tasks]]
    lows = [low if np.isfinite(low) else 0.0 for low in lows]
    below = min(lows) < 0
    for column, runs, low in zip(grid.T, results, lows, strict=False):
        if below:
            runs = {
                name: dataclasses.replace(run, value=run.value - low) for name, run in runs.items()
            }
        for name in names:
            run, style = runs[name], line_style(names.index(name))
            values = np.where(np.isfinite(run.value), run.value, np.nan)
            column[0].semilogy(values, label=name, **style)
            column[1].semilogy(run.seconds, values, **style)
            if name in stepping:
                column[2].semilogy(run.step_size, label=name, **style)
        # A run that blows up must not flatten all others.
        for axes in column[:2]:
            axes.set_ylim(*_value_limits(runs))
        column[1].set_xlim(0, _time_limit(runs))
        finish_axes(column[0], xlabel="iteration k")
        finish_axes(column[1], xlabel="wall-clock time (s)")
        finish_axes(column[2], xlabel="iteration k")
    for index, axes in enumerate(grid[0]):
        axes.set_title(f"task {index}")
    value = "f(x$_k$), less the least" if below else "f(x$_k$)"
    for axes, label in zip(grid[:, 0], (value, value, "step size t$_k$"), strict=True):
        axes.set_ylabel(label)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    return figure


def _value_limits(runs: dict[str, Run]) -> tuple[float, float]:
    values = np.concatenate([run.value for run in runs.values()])
    finite = values[np.isfinite(values)]
    start = next(iter(runs.values())).value[0]
    if finite.size == 0 or not np.isfinite(start):
        return 1e-12, 1.0
    return 0.5 * max(float(finite.min()), 1e-12), max(5.0 * start, 1e-11)


def _time_limit(runs: dict[str, Run]) -> float:
    return 1.05 * float(np.median([run.seconds[-1] for run in runs.values()]))


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def advantage_boxes(results: Results, favourite: str) -> Figure:
    """Box plots of I_a = ln(f_a / f_π), f the least value of a run (paper, Fig. 5).

    Boxes span the quartiles, whiskers 5 % to 95 % of the tasks.
    """
    rivals = [name for name in results[0] if name != favourite]
    figure = Figure(figsize=(1.3 * len(rivals) + 1.2, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.boxplot(
        [_finite(advantage(results, favourite, name)) for name in rivals],
        whis=(5, 95),
        widths=0.55,
        flierprops={"marker": ".", "markersize": 3, "alpha": 0.5},
        medianprops={"color": _COLOURS[4], "linewidth": 1.6},
    )
    axes.set_xticks(range(1, len(rivals) + 1), rivals)
    axes.axhline(0.0, color="0.4", linewidth=0.8)
    finish_axes(
        axes,
        ylabel=f"I$_a$ = ln( f$_a$ / f$_π$ )   (above 0: {favourite} is lower)",
        title=f"Least value found, {len(results)} tasks",
    )
    axes.set_ylabel(axes.get_ylabel(), fontsize=9)
    return figure


def loss_curve(losses: np.ndarray, epochs: np.ndarray, title: str) -> Figure:
    """The loss of each outer step, and its median over each epoch.

    Args:
      losses: of each outer step, shape `(steps,)`; NaN where it was skipped.
      epochs: the epoch of each, shape `(steps,)`.
      title: of the figure.
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    steps = np.arange(len(losses))
    axes.plot(steps, losses, ".", color=_COLOURS[2], markersize=4, label="outer step")
    centres = [steps[epochs == e].mean() for e in np.unique(epochs)]
    medians = [
        np.median(_finite(losses[epochs == e]))
        if np.isfinite(losses[epochs == e]).any()
        else np.nan
        for e in np.unique(epochs)
    ]
    axes.plot(centres, medians, "o-", color=_COLOURS[0], markersize=4, label="epoch median")
    if np.all(_finite(losses) > 0):  # a mean logarithm may be negative
        axes.set_yscale("log")
    axes.legend(frameon=False)
    finish_axes(axes, xlabel="outer step", ylabel="loss F", title=title)
    return figure


def gain_curve(gains: np.ndarray, wins: Sequence[float], window: int = 50) -> Figure:
    """How much better a policy in training is than the one that it began as.

    Args:
      gains: the mean difference of the losses in each generation, shape `(generations,)`; below 0
        where it is better.
      wins: the share of problems on which it is better.
      window: generations that a running mean takes together.
    """
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    window = min(window, len(gains))
    kernel = np.ones(window) / window
    where = np.arange(window - 1, len(gains))
    for axes, rows, level, label in (
        (upper, gains, 0.0, "log₁₀ of the gap, less the rule's"),
        (lower, np.asarray(wins), 0.5, "share of problems better"),
    ):
        axes.plot(rows, ".", color=_COLOURS[2], markersize=2, label="generation")
        mean = np.convolve(rows, kernel, mode="valid")
        axes.plot(where, mean, color=_COLOURS[0], label=f"mean of {window}")
        axes.axhline(level, color="0.5", linewidth=0.8)
        finish_axes(axes, xlabel="generation", ylabel=label, title="")
    upper.legend(frameon=False)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes a figure as PNG, atomically; returns the path."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    write_atomically(path, buffer.getvalue())
    return Path(path)
