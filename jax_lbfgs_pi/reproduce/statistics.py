"""Numbers with their uncertainty: bootstrap intervals of rates and medians.

Medians and quantiles are order statistics, never means of two, as costs may be infinite.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

from jax_lbfgs_pi.evaluation.statistics import (
    Estimate,
    Target,
    bootstrap,
    first,
    log_ratio,
    median,
    tied,
)
from jax_lbfgs_pi.reproduce.records import Records, hit


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean of some trainings' numbers, which are too few to resample: Student's interval."""
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return Estimate(mean, -np.inf, np.inf, count)
    half = float(student.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
    return Estimate(mean, mean - half, mean + half, count)


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
