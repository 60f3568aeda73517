"""Who takes part in the benchmark of the suite: with equal memory, all that have one."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optax

import jax_lbfgs_pi as lp
from jax_lbfgs_pi import baselines
from jax_lbfgs_pi.baselines import Competitor
from jax_lbfgs_pi.bench.kanzow_steck import kanzow_steck
from jax_lbfgs_pi.pretrained import DEFAULT, policy_digest

FAVOURITE = "L-BFGS-π"
NAMED_POLICIES = ("paper-mnist",)
SCIPY_MEMORIES = (5, 10, 20)
SCIPY_BFGS = "SciPy BFGS"
"""Takes part where it is named: most problems of the suite are too large for it."""


@dataclasses.dataclass(frozen=True)
class SuiteCompetitor(Competitor):
    """A competitor in the benchmark.

    Attributes:
      digest: a checksum of what it read from files: a record of another digest is of another
        competitor.
    """

    digest: str = ""


@dataclasses.dataclass(frozen=True)
class ScipyByEvaluation(SuiteCompetitor):
    """SciPy's L-BFGS-B or BFGS, every evaluation of which is recorded; `make` is not used.

    Attributes:
      memory_size: `maxcor` of L-BFGS-B; None for BFGS, whose H has n² numbers.
    """

    make: Callable[[], optax.GradientTransformation] = optax.identity
    memory_size: int | None = 5


def policy_entrant(
    policy: str | os.PathLike[str], *, name: str | None = None, **options: Any
) -> SuiteCompetitor:
    """L-BFGS-π with a policy, as an entrant `π NAME`; one for a dense H has it.

    Args:
      policy: a shipped policy's name, or a policy file's path.
      name: the entrant's name; by default π and the policy's name, or its file's.
      **options: `lbfgs_pi`'s.

    Raises:
      ValueError: as `load_policy`.
    """
    loaded = lp.load_policy(policy)
    if "memory_size" in options:
        options["memory_size"] = baselines.pairs_for(loaded, options["memory_size"])
    return SuiteCompetitor(
        name=name or f"π {Path(policy).stem}",
        make=lambda: lp.lbfgs_pi(loaded, **options),
        retreats=options.get("guard", lp.Guard()) is not None,
        digest=policy_digest(loaded),
    )


def bench_competitors(memory_size: int = 10) -> dict[str, Competitor]:
    """All competitors by name, the default L-BFGS-π last.

    L-BFGS with t = 1, with backtracking, `optax.lbfgs` and Kanzow and Steck's have `memory_size`
    pairs; SciPy has 5, 10 and 20, its BFGS all; the paper's policies have the 5 they were trained
    with, and no guard, as in the paper; L-BFGS-π is what users get, whose memory depends on n.

    Raises:
      ValueError: for `memory_size < 1`.
    """
    m = memory_size
    if m < 1:
        raise ValueError(f"memory_size must be at least 1, but got {m}.")
    entrants = (
        SuiteCompetitor("t = 1", lambda: baselines.lbfgs_constant(memory_size=m)),
        SuiteCompetitor("BTLS", lambda: baselines.lbfgs_backtracking(memory_size=m)),
        SuiteCompetitor("optax.lbfgs", lambda: optax.lbfgs(memory_size=m)),
        *(ScipyByEvaluation(f"SciPy m={k}", memory_size=k) for k in SCIPY_MEMORIES),
        ScipyByEvaluation(SCIPY_BFGS, memory_size=None),
        SuiteCompetitor("Prodigy", optax.contrib.prodigy),
        SuiteCompetitor("ADAM", baselines.adam),
        SuiteCompetitor("RMSProp", baselines.rmsprop),
        SuiteCompetitor("Kanzow-Steck", lambda: kanzow_steck(m), retreats=True),
        *(policy_entrant(name, name=name, memory_size=5, guard=None) for name in NAMED_POLICIES),
        policy_entrant(DEFAULT, name=FAVOURITE),
    )
    return {entrant.name: entrant for entrant in entrants}
