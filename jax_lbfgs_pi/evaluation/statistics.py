"""What a race says: first hits, wins and ties, and the index I_a. Pure functions.

`median`, `first`, `tied` and `log_ratio` are of arrays, one entry for each task: `reproduce` takes
the same numbers from its records as a race does from its runs.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jax_lbfgs_pi.evaluation.race import Results
from jax_lbfgs_pi.evaluation.run import Run

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


@dataclasses.dataclass(frozen=True)
class Target:
    """A criterion that a run meets at its first iterate with `quantity` below `level`.

    Attributes:
      quantity: `grad_norm` (the paper's) or `value`.
      level: the threshold.
    """

    quantity: str
    level: float

    def __str__(self) -> str:
        symbol = {"grad_norm": "‖g‖", "value": "f"}[self.quantity]
        mantissa, exponent = f"{self.level:.5e}".split("e")
        return f"{symbol}<{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def median(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """The lower median, an element of `values`: the mean of two could be ∞ - ∞."""
    return np.sort(values, axis=axis).take((values.shape[axis] - 1) // 2, axis=axis)


def first(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """100 for each task where `mine` is the lower of two costs, else 0; its mean is W in percent.

    Args:
      mine: costs of a target, infinity where it was not met, shape `(num_tasks,)`.
      theirs: a competitor's, likewise.
    """
    return 100.0 * (mine < theirs)


def tied(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """100 for each task where two costs are equal, both infinite too, else 0; its mean is T."""
    return 100.0 * (mine == theirs)


def log_ratio(theirs: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """I_a = ln(f_a / f_π) of paper eq. 8, f_a in `theirs`, f_π in `mine`, shape `(num_tasks,)`.

    Values below 1e-300 count as that, those that are not finite as infinity; where both are equal,
    I_a is 0.
    """
    a, pi = (np.where(np.isfinite(f), np.maximum(f, 1e-300), np.inf) for f in (theirs, mine))
    with np.errstate(invalid="ignore"):  # ∞ - ∞, where both are equal
        return np.where(a == pi, 0.0, np.log(a) - np.log(pi))


def first_hit(run: Run, target: Target, cost: str) -> float:
    """The cost at which a run first meets a target; infinity if it never does.

    Args:
      run: the run.
      target: the criterion.
      cost: `num_evals`, `seconds`, or `iterations`.
    """
    hits = np.flatnonzero(getattr(run, target.quantity) < target.level)
    if hits.size == 0:
        return math.inf
    return float(hits[0]) if cost == "iterations" else float(getattr(run, cost)[hits[0]])


def first_hits(results: Results, name: str, target: Target, cost: str) -> np.ndarray:
    """`first_hit` of one competitor on every task, shape `(num_tasks,)`."""
    return np.array([first_hit(runs[name], target, cost) for runs in results])


def wins_and_ties(
    results: Results, name: str, against: str, target: Target, cost: str
) -> tuple[float, float]:
    """W and T of Table 1, in percent of the tasks.

    W: `name` met the target first. T: both met it at the same cost, or neither did.
    """
    costs = [first_hits(results, who, target, cost) for who in (name, against)]
    return float(np.mean(first(*costs))), float(np.mean(tied(*costs)))


def least_value(run: Run) -> float:
    """min_k f(x_k), over the finite values."""
    finite = run.value[np.isfinite(run.value)]
    return float(np.min(finite)) if finite.size else math.inf


def advantage(results: Results, name: str, against: str) -> np.ndarray:
    """I_a = ln(f_a / f_π) of paper eq. 8 for each task, f the least value: positive favours `name`.

    Values below 1e-300 count as that; where neither run has a finite f, I_a is 0.
    """
    values = (np.array([least_value(runs[who]) for runs in results]) for who in (against, name))
    return log_ratio(*values)


@dataclasses.dataclass(frozen=True)
class Summary:
    """One competitor's line in the report.

    Attributes:
      name: the competitor.
      median_cost: for each target the median cost over all tasks; infinity if most never meet it.
      reached: for each target the share of tasks that meet it, in percent.
      wins, ties: of the favourite against this competitor for each target, in percent; NaN for the
        favourite itself.
      advantage: the median of I_a; NaN for the favourite itself.
      ms_per_eval: median milliseconds for one evaluation, everything included.
    """

    name: str
    median_cost: list[float]
    reached: list[float]
    wins: list[float]
    ties: list[float]
    advantage: float
    ms_per_eval: float


def summarize(
    results: Results, favourite: str, targets: Sequence[Target], cost: str
) -> list[Summary]:
    """The report's lines, the favourite's first.

    Args:
      results: of a race.
      favourite: the competitor that the others are held against, L-BFGS-π.
      targets: the criteria.
      cost: `num_evals`, `seconds` or `iterations`.
    """
    names = [favourite, *(name for name in results[0] if name != favourite)]
    lines = []
    for name in names:
        hits = [first_hits(results, name, target, cost) for target in targets]
        pairs = [
            wins_and_ties(results, favourite, name, target, cost)
            if name != favourite
            else (math.nan, math.nan)
            for target in targets
        ]
        lines.append(
            Summary(
                name=name,
                median_cost=[float(median(h)) for h in hits],
                reached=[100 * float(np.mean(np.isfinite(h))) for h in hits],
                wins=[w for w, _ in pairs],
                ties=[t for _, t in pairs],
                advantage=(
                    math.nan
                    if name == favourite
                    else float(median(advantage(results, favourite, name)))
                ),
                ms_per_eval=float(
                    np.median([1e3 * r[name].seconds[-1] / r[name].num_evals[-1] for r in results])
                ),
            )
        )
    return lines
