"""Numbers with their uncertainty: bootstrap intervals of rates and medians.

Medians and quantiles are order statistics, never means of two, as costs may be infinite.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jax_lbfgs_pi.evaluation.statistics import Target, first, log_ratio, median, tied
from jax_lbfgs_pi.reproduce.records import Records, hit

RESAMPLES, LEVEL = 2000, 0.95


class Estimate(NamedTuple):
    """A number with its 95 % bootstrap interval over tasks, and how many tasks there are."""

    value: float
    low: float
    high: float
    num_tasks: int


def bootstrap(values: np.ndarray, statistic: Callable[..., np.ndarray]) -> Estimate:
    """The percentile bootstrap (Efron 1979) over the tasks, with a fixed seed.

    Args:
      values: one number for each task, shape `(num_tasks,)`.
      statistic: of an array along `axis`.
    """
    if len(values) == 0:
        return Estimate(np.nan, np.nan, np.nan, 0)
    draws = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    resampled = statistic(values[draws], axis=1)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled, (tail, 1 - tail), method="inverted_cdf")
    return Estimate(float(statistic(values, axis=0)), float(low), float(high), len(values))


def median_cost(records: Records, optimizer: str, target: Target, cost: str) -> Estimate:
    """The median cost of a target over all tasks of an optimizer; infinity if most miss it."""
    tasks = records.tasks(optimizer)
    return bootstrap(records.column(optimizer, hit(target, cost), tasks), median)


def reached(records: Records, optimizer: str, target: Target) -> Estimate:
    """The share of tasks that meet a target, in percent."""
    costs = records.column(optimizer, hit(target, "num_evals"), records.tasks(optimizer))
    return bootstrap(100.0 * np.isfinite(costs), np.mean)


def wins(
    records: Records, optimizer: str, against: str, target: Target, cost: str
) -> tuple[Estimate, Estimate]:
    """W and T of Table 1 in percent: met the target first; both at one cost, or neither did."""
    tasks = records.tasks(optimizer, against)
    costs = [records.column(name, hit(target, cost), tasks) for name in (optimizer, against)]
    return bootstrap(first(*costs), np.mean), bootstrap(tied(*costs), np.mean)


def advantages(
    records: Records, optimizer: str, against: str, value: str = "min_value"
) -> np.ndarray:
    """I_a = ln(f_a / f_π) of paper eq. 8 for each task: positive favours `optimizer`.

    Args:
      records: the rows.
      optimizer: π.
      against: a.
      value: `min_value` or `final_value`; values below 1e-300 count as that, and a final value that
        is not finite as infinity. Where both are equal I_a is 0.
    """
    tasks = records.tasks(optimizer, against)
    return log_ratio(*(records.column(name, value, tasks) for name in (against, optimizer)))
