"""The benchmark of the suite: any optimizer by evaluations, statistics, profiles, tables."""

from jax_lbfgs_pi.bench.competitors import (
    FAVOURITE,
    SCIPY_BFGS,
    ScipyByEvaluation,
    SuiteCompetitor,
    bench_competitors,
    policy_entrant,
)
from jax_lbfgs_pi.bench.costs import Costs, better_of, costs_to
from jax_lbfgs_pi.bench.records import ProblemRuns, RecordFolder, run_suite
from jax_lbfgs_pi.bench.run_problem import Record, Runner
from jax_lbfgs_pi.bench.statistics import (
    Duel,
    Estimate,
    bad_ends,
    data_profile,
    duel,
    kind_mean,
    performance_profile,
    solved_area,
    solved_at_budgets,
)

__all__ = [
    "FAVOURITE",
    "SCIPY_BFGS",
    "Costs",
    "Duel",
    "Estimate",
    "ProblemRuns",
    "Record",
    "RecordFolder",
    "Runner",
    "ScipyByEvaluation",
    "SuiteCompetitor",
    "bad_ends",
    "bench_competitors",
    "better_of",
    "costs_to",
    "data_profile",
    "duel",
    "kind_mean",
    "performance_profile",
    "policy_entrant",
    "run_suite",
    "solved_area",
    "solved_at_budgets",
]
