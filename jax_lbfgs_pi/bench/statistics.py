"""What the costs say: shares solved, duels, profiles, bad ends. Pure functions.

Means over problems give every kind the same weight: a kind may have one instance or twenty. Their
intervals are bootstrap percentiles (2.5 % and 97.5 %) over kinds: instances of one formula are no
independent draws, so a kind is drawn with all of its problems.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jax_lbfgs_pi.bench.costs import Costs
from jax_lbfgs_pi.bench.records import ProblemRuns
from jax_lbfgs_pi.stopping import Status

RESAMPLES = 2000
TAIL = 10  # evaluations at the end of a run by which its end is judged


class Estimate(NamedTuple):
    """A mean over kinds and its 95 % interval."""

    value: float
    low: float
    high: float


def kind_mean(per_problem: np.ndarray, costs: Costs, *, seed: int = 0) -> Estimate:
    """The mean over kinds of the mean over their problems, with its bootstrap interval.

    Args:
      per_problem: a number for each problem, shape `(P,)`.
      costs: says which problem is of which kind.
      seed: of the resampling.
    """
    names, inverse = np.unique(costs.kinds, return_inverse=True)
    means = np.bincount(inverse, per_problem) / np.bincount(inverse)
    draws = np.random.default_rng(seed).integers(len(names), size=(RESAMPLES, len(names)))
    low, high = np.percentile(means[draws].mean(axis=1), [2.5, 97.5])
    return Estimate(float(means.mean()), float(low), float(high))


def solved_at_budgets(
    costs: Costs, budgets: Sequence[float] = (50, 100, 300)
) -> dict[str, list[Estimate]]:
    """The share of problems solved within each budget of evaluations, by competitor."""
    return {
        name: [kind_mean(1.0 * (costs.of(name) <= budget), costs) for budget in budgets]
        for name in costs.names
    }


def solved_area(costs: Costs, budget: int = 300) -> dict[str, Estimate]:
    """The area under the share solved against log(evaluations) from 1 to `budget`, of 1."""
    areas = 1.0 - np.log(np.minimum(costs.evals, budget)) / np.log(budget)
    return {name: kind_mean(areas[:, i], costs) for i, name in enumerate(costs.names)}


@dataclasses.dataclass(frozen=True)
class Duel:
    """One competitor against another: who meets the target first.

    Attributes:
      name, against: the two.
      score: the share of first places, ties counting half; both at the same evaluation is a tie,
        and so is that neither meets the target.
      wins, losses, ties, neither: shares of problems; `ties` without `neither`.
      by_kind: the score on each kind.
      ratio_by_kind: the lower median of evaluations over the other's on each kind, over problems
        that at least one of them solves: 0 where only `name` does, infinity where only the other
        does; NaN if neither solves any.
    """

    name: str
    against: str
    score: Estimate
    wins: float
    losses: float
    ties: float
    neither: float
    by_kind: dict[str, float]
    ratio_by_kind: dict[str, float]


def duel(costs: Costs, name: str, against: str) -> Duel:
    """Two competitors' first places, over all kinds and by kind."""
    mine, theirs = costs.of(name), costs.of(against)
    points = np.where(mine < theirs, 1.0, np.where(mine == theirs, 0.5, 0.0))
    solved = np.isfinite(np.minimum(mine, theirs))
    ratios = {}
    for kind in dict.fromkeys(costs.kinds):
        of_kind = costs.only(kind)
        ratios[kind] = _median_ratio(of_kind.of(name), of_kind.of(against))
    kinds = np.array(costs.kinds)
    return Duel(
        name=name,
        against=against,
        score=kind_mean(points, costs),
        wins=float(costs.weights @ (mine < theirs)),
        losses=float(costs.weights @ (mine > theirs)),
        ties=float(costs.weights @ ((mine == theirs) & solved)),
        neither=float(costs.weights @ ~solved),
        by_kind={kind: float(points[kinds == kind].mean()) for kind in ratios},
        ratio_by_kind=ratios,
    )


def _median_ratio(mine: np.ndarray, theirs: np.ndarray) -> float:
    keep = np.isfinite(np.minimum(mine, theirs))
    if not keep.any():
        return math.nan
    ratios = np.sort(mine[keep] / theirs[keep])
    return float(ratios[(len(ratios) - 1) // 2])


def performance_profile(costs: Costs, factors: np.ndarray) -> np.ndarray:
    """Dolan and Moré's: the share of problems solved within a factor of the least evaluations.

    Args:
      costs: of the suite; the least is that of all competitors in it.
      factors: shape `(F,)`.

    Returns:
      Shares, shape `(C, F)`.
    """
    least = costs.evals.min(axis=1, keepdims=True)
    ratios = costs.evals / np.where(np.isfinite(least), least, 1.0)  # ∞ / 1 where nobody solves
    return np.einsum("p,pcf->cf", costs.weights, ratios[:, :, None] <= factors)


def data_profile(costs: Costs, budgets: np.ndarray, *, per_variable: bool = False) -> np.ndarray:
    """Moré and Wild's: the share of problems solved within a number of evaluations.

    Args:
      costs: of the suite.
      budgets: evaluations, shape `(B,)`.
      per_variable: whether budgets are in units of n + 1 evaluations.

    Returns:
      Shares, shape `(C, B)`.
    """
    units = np.array(costs.num_variables)[:, None] + 1 if per_variable else 1
    return np.einsum("p,pcb->cb", costs.weights, (costs.evals / units)[:, :, None] <= budgets)


@dataclasses.dataclass(frozen=True)
class BadEnds:
    """How many runs of a competitor ended badly.

    Attributes:
      non_finite: that f or its gradient stopped, or without a finite f in its last 10 iterates.
      above_start: whose last 10 iterates are all above f₀ (where finite).
    """

    non_finite: int
    above_start: int


def bad_ends(results: Sequence[ProblemRuns], name: str) -> BadEnds:
    """The bad ends of one competitor."""
    non_finite = above = 0
    for runs in results:
        record = runs.records[name]
        tail = record.value[-TAIL:]
        tail = tail[np.isfinite(tail)]
        if record.status == Status.NON_FINITE or not tail.size:
            non_finite += 1
        elif tail.min() > record.value[0]:
            above += 1
    return BadEnds(non_finite, above)
