"""Evaluations to the target, of every competitor on every problem of the suite."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from jax_lbfgs_pi.bench.records import ProblemRuns
from jax_lbfgs_pi.bench.run_problem import Record


@dataclasses.dataclass(frozen=True)
class Costs:
    """Evaluations to the target, of every competitor on every problem.

    Attributes:
      problems: their names, P of them.
      kinds: theirs.
      num_variables: theirs, n.
      names: of the competitors, C of them.
      evals: shape `(P, C)`; infinity where the target was not met.
    """

    problems: tuple[str, ...]
    kinds: tuple[str, ...]
    num_variables: tuple[int, ...]
    names: tuple[str, ...]
    evals: np.ndarray

    def of(self, name: str) -> np.ndarray:
        """The costs of one competitor, shape `(P,)`.

        Raises:
          ValueError: if it did not take part.
        """
        if name not in self.names:
            raise ValueError(f"{name!r} did not run: choose among {', '.join(self.names)}.")
        return self.evals[:, self.names.index(name)]

    @property
    def weights(self) -> np.ndarray:
        """Of the problems, shape `(P,)`: all kinds weigh the same, and all together 1."""
        _, inverse, counts = np.unique(self.kinds, return_inverse=True, return_counts=True)
        return 1.0 / (counts[inverse] * len(counts))

    def only(self, kind: str) -> "Costs":
        """The costs on the problems of one kind."""
        keep = [i for i, k in enumerate(self.kinds) if k == kind]

        def chosen(column: tuple) -> tuple:
            return tuple(column[i] for i in keep)

        return Costs(
            chosen(self.problems),
            chosen(self.kinds),
            chosen(self.num_variables),
            self.names,
            self.evals[keep],
        )


def least_known(runs: ProblemRuns, reference: Mapping[str, float] | None = None) -> float:
    """The least value of f that any competitor found, that was published, or that is in a table.

    Args:
      runs: of all competitors on the problem.
      reference: values by problem, from longer runs for example.
    """
    found = [float(record.best[-1]) for record in runs.records.values()]
    found += [runs.minimum if runs.minimum is not None else math.inf]
    found += [(reference or {}).get(runs.problem, math.inf)]
    return min(value for value in found if not math.isnan(value))


def evals_to(record: Record, level: float) -> float:
    """The evaluations after which f was first at most `level`; infinity if it never was."""
    hits = np.flatnonzero(record.best <= level)
    return float(record.num_evals[hits[0]]) if hits.size else math.inf


def costs_to(
    results: Sequence[ProblemRuns],
    tau: float = 1e-6,
    *,
    reference: Mapping[str, float] | None = None,
) -> Costs:
    """The evaluations until f - f_best ≤ τ (f₀ - f_best), Moré and Wild's test.

    Args:
      results: of the suite, with the same competitors on all problems.
      tau: τ.
      reference: see `least_known`.

    Raises:
      ValueError: without results, or if the competitors differ between problems.
    """
    if not results:
        raise ValueError("No problem was run: choose a suite or kinds with problems.")
    names = tuple(results[0].records)
    if any(tuple(runs.records) != names for runs in results):
        raise ValueError("The problems have different competitors: run all of them on all.")
    rows = []
    for runs in results:
        best = least_known(runs, reference)
        level = best + tau * (float(runs.records[names[0]].value[0]) - best)
        rows.append([evals_to(runs.records[name], level) for name in names])
    return Costs(
        problems=tuple(runs.problem for runs in results),
        kinds=tuple(runs.kind for runs in results),
        num_variables=tuple(runs.num_variables for runs in results),
        names=names,
        evals=np.array(rows),
    )


def better_of(costs: Costs, names: Sequence[str], name: str | None = None) -> Costs:
    """`costs` with one more competitor, that on each problem is the best of `names`.

    Of all competitors it is the virtual best.

    Args:
      costs: of the suite.
      names: the competitors it is made of.
      name: what it is called; by default `best of A, B`.
    """
    least = np.min([costs.of(one) for one in names], axis=0)
    return dataclasses.replace(
        costs,
        names=(*costs.names, name or f"best of {', '.join(names)}"),
        evals=np.column_stack([costs.evals, least]),
    )
