"""To the same f: evaluations and seconds of several solvers, as users feel them."""

import time
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.solvers import Maker, Problem, Solved, Solver
from benchmarks.timing import Candidate, Timing, calls_for, compare


class Field(NamedTuple):
    """Solvers that are compiled, and what they found within the whole budget, by name.

    Attributes:
      problem: what they solve.
      solvers: to be given a target.
      compile_seconds: building and compiling.
      first: f(x0); of a batch one for each problem.
      values: the least f that each found, likewise.
    """

    problem: Problem
    solvers: dict[str, Solver]
    compile_seconds: dict[str, float]
    first: Any
    values: dict[str, Any]


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


def make_field(problem: Problem, makers: Mapping[str, Maker], *, budget: int) -> Field:
    """Compiles all, and lets each spend its budget: evaluations of f and its gradient."""
    solvers, compiling, values = {}, {}, {}
    for name, maker in makers.items():
        began = time.perf_counter()
        solvers[name] = maker(problem, budget)
        compiling[name] = time.perf_counter() - began
        values[name] = np.asarray(solvers[name](-np.inf).value)
    loss = problem.loss if problem.share is None else jax.vmap(problem.loss)
    first = np.asarray(jax.jit(loss)(problem.x0, problem.data))
    return Field(problem, solvers, compiling, first, values)


def race_to(
    field: Field,
    level: float,
    *,
    one_target: bool = False,
    seconds: float = 10.0,
    repetitions: int = 2,
) -> Outcome:
    """Runs all to `f* + level (f(x0) - f*)`, f* the least that any found within the budget.

    Args:
      field: of `make_field`.
      level: of the reduction.
      one_target: whether a batch is many starts of one problem: the greatest f(x0) and the least f*
        make the target of all.
      seconds: about how long to go on timing.
      repetitions: the fewest.
    """
    values, first = np.stack(list(field.values.values())), field.first
    least = np.nanmin(np.where(np.isfinite(values), values, np.nan), axis=0)
    if one_target:
        least, first = np.min(least), np.max(first)
    targets = least + level * (first - least)
    solved, calls = {}, {}
    for name, solver in field.solvers.items():
        began = time.perf_counter()
        solved[name] = solver(targets)
        # Short runs are repeated: what a cold cache costs is not the solver's.
        calls[name] = calls_for(time.perf_counter() - began)
    share = 1.0 if field.problem.share is None else field.problem.share
    there = [name for name, run in solved.items() if np.mean(run.reached) >= share]
    timing = compare(
        {
            name: Candidate(partial(field.solvers[name], targets), calls=calls[name])
            for name in there
        },
        budget=seconds,
        least=repetitions,
        warm_up=0,
    )
    return Outcome(targets, solved, timing, field.compile_seconds, least)


def compare_to_target(
    problem: Problem,
    makers: Mapping[str, Maker],
    *,
    budget: int,
    level: float = 1e-6,
    one_target: bool = False,
    seconds: float = 10.0,
) -> Outcome:
    """`make_field` and `race_to` for one level."""
    field = make_field(problem, makers, budget=budget)
    return race_to(field, level, one_target=one_target, seconds=seconds)


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
