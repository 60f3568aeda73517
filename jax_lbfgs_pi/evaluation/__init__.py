"""Races between optimizers, and what they say."""

from jax_lbfgs_pi.evaluation.figures import advantage_boxes, curves, loss_curve, save_figure
from jax_lbfgs_pi.evaluation.race import Results, load_results, race
from jax_lbfgs_pi.evaluation.report import as_json, markdown, rich_tables
from jax_lbfgs_pi.evaluation.run import Run
from jax_lbfgs_pi.evaluation.statistics import (
    Summary,
    Target,
    advantage,
    first_hits,
    least_value,
    summarize,
    wins_and_ties,
)
from jax_lbfgs_pi.evaluation.trajectory_figure import plot_trajectory

__all__ = [
    "Results",
    "Run",
    "Summary",
    "Target",
    "advantage",
    "advantage_boxes",
    "as_json",
    "curves",
    "first_hits",
    "least_value",
    "load_results",
    "loss_curve",
    "markdown",
    "plot_trajectory",
    "race",
    "rich_tables",
    "save_figure",
    "summarize",
    "wins_and_ties",
]
