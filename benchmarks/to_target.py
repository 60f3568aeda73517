"""To the same f: evaluations and seconds of several solvers, as users feel them."""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.solvers import Maker, Problem, Solved
from benchmarks.timing import Candidate, Timing, compare


class Outcome(NamedTuple):
    """What came of a comparison, by the name of the solver.

    Attributes:
      targets: f that was to be reached; of a batch one for each problem.
      solved: each run to the target.
      timing: of those that reached it.
      compile_seconds: building and compiling.
      least: the least f that anyone found.
    """

    targets: Any
    solved: dict[str, Solved]
    timing: Timing
    compile_seconds: dict[str, float]
    least: Any


def compare_to_target(
    problem: Problem,
    makers: Mapping[str, Maker],
    *,
    budget: int,
    level: float = 1e-6,
    one_target: bool = False,
    seconds: float = 10.0,
) -> Outcome:
    """Runs all to `f* + level (f(x0) - f*)`, f* the least that any found within the budget.

    Args:
      problem: one, or a batch.
      makers: solvers by name.
      budget: evaluations of f and its gradient, of each problem.
      level: of the reduction.
      one_target: whether a batch is many starts of one problem: the greatest f(x0) and the least f*
        make the target of all.
      seconds: about how long to go on timing.
    """
    solvers, compiling, longest = {}, {}, {}
    for name, maker in makers.items():
        began = time.perf_counter()
        solvers[name] = maker(problem, budget)
        compiling[name] = time.perf_counter() - began
        longest[name] = solvers[name](-np.inf)
    loss = problem.loss if problem.share is None else jax.vmap(problem.loss)
    first = np.asarray(jax.jit(loss)(problem.x0, problem.data))
    values = np.stack([np.asarray(run.value) for run in longest.values()])
    least = np.nanmin(np.where(np.isfinite(values), values, np.nan), axis=0)
    if one_target:
        least, first = np.min(least), np.max(first)
    targets = least + level * (first - least)
    solved = {name: solver(targets) for name, solver in solvers.items()}
    share = 1.0 if problem.share is None else problem.share
    there = [name for name, run in solved.items() if np.mean(run.reached) >= share]
    timing = compare(
        {name: Candidate(partial(solvers[name], targets), calls=1) for name in there},
        budget=seconds, least=2, warm_up=0,
    )  # fmt: skip
    return Outcome(targets, solved, timing, compiling, least)


def rows(outcome: Outcome) -> list[list[Any]]:
    """For a table: name, share there in %, evaluations (median of those), seconds, compiling."""
    out = []
    for name, run in outcome.solved.items():
        seconds = outcome.timing.seconds.get(name)
        arrived = np.asarray(run.num_evals)[np.asarray(run.reached)]
        evals = None if seconds is None else float(np.median(arrived))
        share = 100 * float(np.mean(run.reached))
        out.append([name, f"{share:.0f}", evals, seconds, outcome.compile_seconds[name]])
    return out
