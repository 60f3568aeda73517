"""Figures and tables of the training runs, from their logs; pure functions."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jax_lbfgs_pi.evaluation.figures import finish_axes, line_style
from jax_lbfgs_pi.evaluation.tables import Table
from jax_lbfgs_pi.reproduce.tables import number
from jax_lbfgs_pi.training.log import MetaTrainLog


def limits(log: MetaTrainLog) -> Figure:
    """The learned limits τ_m and τ_M after each outer step."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for i, (axes, field, label) in enumerate(
        ((upper, "tau_max", "τ$_M$"), (lower, "tau_min", "τ$_m$"))
    ):
        values = [getattr(record, field) for record in log.records]
        axes.plot(values, **(line_style(i) | {"linestyle": "-"}))
        finish_axes(axes, ylabel=label)
    upper.set_title("Learned limits of the log-step")
    finish_axes(lower, xlabel="outer step")
    return figure


def derivatives(distances: np.ndarray, by_layer: dict[str, np.ndarray]) -> Figure:
    """The derivative of the clip against the distance of σ from its upper bound."""
    figure = Figure(figsize=(6.8, 4.0), layout="constrained")
    axes = figure.subplots()
    for i, (name, values) in enumerate(by_layer.items()):
        # Exact zeros stand on the axis.
        axes.plot(distances, np.maximum(values, 1e-9), label=name, marker=".", **line_style(i))
    axes.set_xscale("symlog", linthresh=1e-9)
    axes.set_xticks([-1e-1, -1e-3, -1e-5, -1e-7, 0, 1e-7, 1e-5, 1e-3, 1e-1])
    axes.set_yscale("log")
    finish_axes(
        axes,
        xlabel="σ - τ$_M$, distance of the unclipped log-step from the bound",
        ylabel="‖∂τ/∂u$_1$‖ ‖u$_2$‖   (0 stands at 1e-9)",
        title="The clip's derivative near its bound, relative to the free one",
    )
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def losses(logs: dict[str, MetaTrainLog]) -> Figure:
    """The median of F over the first unrolls of each epoch, by layer."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for i, (name, log) in enumerate(logs.items()):
        medians = first_unroll_medians(log)
        axes.plot(np.arange(1, len(medians) + 1), medians, marker="o", label=name, **line_style(i))
    axes.legend(frameon=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    finish_axes(
        axes,
        xlabel="epoch",
        ylabel="F = Σ$_k$ f(x$_k$), median over first unrolls",
        title="Training with each way to differentiate the clip",
    )
    return figure


def first_unroll_medians(log: MetaTrainLog) -> list[float]:
    """The median of F over the unrolls that start from x0, epoch by epoch."""
    epochs = sorted({record.epoch for record in log.records})
    rows = [
        [r.loss for r in log.records if r.epoch == e and r.unroll == 0 and np.isfinite(r.loss)]
        for e in epochs
    ]
    return [float(np.median(row)) if row else float("nan") for row in rows]


def layer_table(logs: dict[str, MetaTrainLog]) -> Table:
    """What training made of each layer's derivative."""
    rows = []
    for name, log in logs.items():
        medians = first_unroll_medians(log)
        rows.append(
            [
                name,
                str(len(log.records)),
                number(medians[0]),
                number(medians[-1]),
                str(log.num_skipped),
                number(log.seconds_per_step),
            ]
        )
    header = ["clip layer", "outer steps", "F, first epoch", "F, last epoch", "skipped", "s / step"]
    return Table("Training with each clip layer: median F over first unrolls", header, rows)
