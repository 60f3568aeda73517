"""The course of runs of `minimize`, drawn."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jax_lbfgs_pi.evaluation.figures import finish_axes, line_style
from jax_lbfgs_pi.minimize import MinimizeResult

MOST_LINES = 100
"""Of a batch; more would be a blot."""


def plot_trajectory(
    results: MinimizeResult | Mapping[str, MinimizeResult], *, least: float | None = None
) -> Figure:
    """Draws f above the least, gradient norm and step size, against evaluations.

    A circle marks where a run ended. Of a batch, from `vmap`, each run has a thin line, of at most
    `MOST_LINES`.

    Args:
      results: of `minimize`, one or by name; its arrays may have leading axes of a batch.
      least: f of the minimum, if known; else the least that any of them found.

    Returns:
      A matplotlib figure: show it in a notebook, or `.savefig("run.png")`.

    Raises:
      ValueError: if there is no result, or none has a finite f.
    """
    named = {"": results} if isinstance(results, MinimizeResult) else dict(results)
    if not named:
        raise ValueError("There is no result to draw: give at least one.")
    values = np.concatenate([np.ravel(result.value) for result in named.values()])
    if not np.isfinite(values).any():
        raise ValueError("No result has a finite f, so there is nothing to draw.")
    floor = float(np.min(values[np.isfinite(values)])) if least is None else least
    figure = Figure(figsize=(10.0, 3.4), layout="constrained")
    grid = figure.subplots(1, 3)
    for i, (name, result) in enumerate(named.items()):
        for run, path in enumerate(_runs(result)):
            style = line_style(i)
            if len(_runs(result)) > 1:
                style |= {"linewidth": 0.6, "alpha": 0.5}
            label = name if run == 0 else None
            for axes, column in zip(grid, _columns(path, floor), strict=True):
                axes.semilogy(path["num_evals"], column, label=label, **style)
                axes.plot(
                    path["num_evals"][-1], column[-1], "o", color=style["color"], markersize=3
                )
    for axes, label in zip(
        grid, ("f above the least", "gradient norm", "step size t$_k$"), strict=True
    ):
        finish_axes(axes, xlabel="evaluations of f and its gradient", ylabel=label)
    if len(named) > 1:
        handles, labels = grid[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    return figure


def _runs(result: MinimizeResult) -> list[dict[str, np.ndarray]]:
    """The trajectories of a batch, each to its end."""
    past = {name: np.asarray(a) for name, a in result.trajectory._asdict().items()}
    length = past["value"].shape[-1]
    rows = {name: a.reshape(-1, length)[:MOST_LINES] for name, a in past.items()}
    ends = np.ravel(result.num_iters)[:MOST_LINES] + 1
    return [{name: a[i, :end] for name, a in rows.items()} for i, end in enumerate(ends)]


def _columns(path: dict[str, np.ndarray], floor: float) -> list[Any]:
    """What is drawn; NaN where there is nothing that a logarithmic axis could show."""
    drawn = (path["value"] - floor, path["grad_norm"], path["step_size"])
    return [np.where(np.isfinite(a) & (a > 0), a, np.nan) for a in drawn]
