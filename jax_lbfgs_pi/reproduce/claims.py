"""What the paper claims, claim by claim, held against the records; pure functions.

Each claim is turned into a number that should be positive, or negative. It holds if the whole 95 %
interval of the number lies on the claimed side, fails if it lies on the other, and is open else, or
where there are too few tasks for such an interval to mean anything.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jax_lbfgs_pi.evaluation.statistics import Target, first, median
from jax_lbfgs_pi.evaluation.tables import Table
from jax_lbfgs_pi.reproduce import statistics
from jax_lbfgs_pi.reproduce.grids import PAPERS_SETTINGS, best_settings, complete
from jax_lbfgs_pi.reproduce.races import FAVOURITE
from jax_lbfgs_pi.reproduce.records import Records, RunFolder, hit
from jax_lbfgs_pi.reproduce.statistics import Estimate
from jax_lbfgs_pi.reproduce.tables import (
    PAPER_TABLE1,
    TABLE1_LEVELS,
    number,
    number_of_tasks,
)
from jax_lbfgs_pi.training.log import read_log

FEWEST_TASKS = 6  # if all agree: a two-sided sign test refutes chance at 95 % from six on


class Finding(NamedTuple):
    """What the records say of a claim: a cell of text, and `yes`, `no` or `open`."""

    ours: str
    holds: str


class Claim(NamedTuple):
    """A claim of the paper.

    Attributes:
      text: what it says.
      papers: its number.
      artefact: which `lbfgs-pi reproduce` makes the records it rests on.
      find: from the folder of the reproduction to what these say; None if they are not there.
      about: what it says of any optimizer, if it is one of several that differ in it alone.
      against: that optimizer.
    """

    text: str
    papers: str
    artefact: str
    find: Callable[[Path], Finding | None]
    about: str = ""
    against: str = ""


def verdict(estimate: Estimate, sign: int) -> str:
    """Whether `sign` times the number is positive: `yes`, `no`, or `open`."""
    if estimate.num_tasks < FEWEST_TASKS:
        return "open"
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    return "yes" if low > 0 else "no" if high < 0 else "open"


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + number(value)


def _found(estimate: Estimate, sign: int) -> Finding | None:
    if estimate.num_tasks == 0:
        return None
    cell = f"{_signed(estimate.value)} [{_signed(estimate.low)}, {_signed(estimate.high)}]"
    return Finding(f"{cell}, {number_of_tasks(estimate.num_tasks)}", verdict(estimate, sign))


def _records(out: Path, race: str) -> Records:
    return Records(RunFolder(out / "records" / race).rows())


def lead(records: Records, against: str, target: Target, cost: str) -> Estimate:
    """Wins of L-BFGS-π less its losses, in percent of the tasks."""
    tasks = records.tasks(FAVOURITE, against)
    mine, theirs = (records.column(x, hit(target, cost), tasks) for x in (FAVOURITE, against))
    return statistics.bootstrap(first(mine, theirs) - first(theirs, mine), np.mean)


def _race(race: str, against: str, which: int, sign: int) -> list[Claim]:
    """That L-BFGS-π is first more often, or less often, by the paper's cost and by evaluations."""
    level = TABLE1_LEVELS[race][which]
    target = Target("grad_norm", level)
    w, t = PAPER_TABLE1[race][against][which]
    more = "more" if sign > 0 else "less"
    size = race.removeprefix("mnist-").replace("x", ",")

    def find(cost: str) -> Callable[[Path], Finding | None]:
        return lambda out: _found(lead(_records(out, race), against, target, cost), sign)

    return [
        Claim(
            f"({size}): first at {target} {more} often than {against}, {unit}: W - L in %",
            _signed(2 * w + t - 100) if cost == "seconds" else "–",
            "table1",
            find(cost),
            f"({size}): first at {target} {more} often, {unit}",
            against,
        )
        for cost, unit in (("seconds", "in seconds"), ("num_evals", "in evaluations"))
    ]


def _lower(
    race: str, against: str, figure: str, value: str, policy: str = FAVOURITE, sign: int = 1
) -> Claim:
    """That the median of I_a has a sign."""

    def find(out: Path) -> Finding | None:
        index = statistics.advantages(_records(out, race), policy, against, value)
        return _found(statistics.bootstrap(index, median), sign)

    what = {"min_value": "least f", "final_value": "final f"}[value]
    side = "lower" if sign > 0 else "higher"
    text = f"{race}: {what} of {policy} {side} than of {against}: median I_a"
    papers = "above 0" if sign > 0 else "below 0"
    return Claim(text, papers, figure, find, f"{race}: {what} {side}, I_a", against)


def _warm_start(race: str, tasks: str, figure: str) -> Claim:
    def find(out: Path) -> Finding | None:
        # I_a of π against π_C, as if π were a competitor.
        index = statistics.advantages(_records(out, race), "L-BFGS-π_C", FAVOURITE)
        return _found(statistics.bootstrap(index, median), 1)

    text = f"{tasks}: π trained on for 10 epochs (π_C) reaches lower f than π: median I_a"
    return Claim(text, "above 0", figure, find)


def _convex(race: str, against: str) -> Claim:
    target = Target("grad_norm", 1e-5)

    def find(out: Path) -> Finding | None:
        estimate = lead(_records(out, race), against, target, "num_evals")
        found = _found(estimate, 1)
        if found is None or estimate.num_tasks < FEWEST_TASKS:
            return found
        # Here the claim is that there is no difference: an interval around 0.
        return found._replace(holds="yes" if found.holds == "open" else "no")

    text = f"{race} tasks: no difference from {against} at {target}, in evaluations: W - L in %"
    about = f"{race} tasks: no difference at {target}, in evaluations"
    return Claim(text, "none", "convex", find, about, against)


def _limit(out: Path) -> Finding | None:
    records = read_log(out / "trainings" / "limits").records
    if not records:
        return None
    last = records[-1].tau_max
    near = "yes" if abs(last) < 0.1 else "no"
    return Finding(f"{_signed(last)} after {len(records)} steps", near)


def _setting(optimizer: str) -> Claim:
    def find(out: Path) -> Finding | None:
        records = _records(out, "grids")
        if not complete(records):
            return None
        best = best_settings(records)[optimizer]
        return Finding(best, "yes" if best == PAPERS_SETTINGS[optimizer] else "no")

    text = f"the best {optimizer} of its grid, on training tasks"
    return Claim(text, PAPERS_SETTINGS[optimizer], "grids", find)


_FIRST_ORDER, _QUASI_NEWTON = ("ADAM", "RMSProp"), ("L-BFGS-B", "L-BFGS-BTLS")
_ALL = (*_FIRST_ORDER, *_QUASI_NEWTON)

CLAIMS: tuple[Claim, ...] = (
    *(c for name in _FIRST_ORDER for c in _race("mnist-1x20", name, 2, 1)),
    *(c for name in _QUASI_NEWTON for c in _race("mnist-1x20", name, 2, 1)),
    *(c for name in _ALL for c in _race("mnist-1x20", name, 0, -1)),
    *(_lower("mnist-1x20", name, "fig5", "min_value") for name in _ALL),
    *(_lower("mnist-1x20", name, "fig8", "final_value") for name in _ALL),
    *(c for name in _QUASI_NEWTON for c in _race("mnist-2x400", name, 2, -1)),
    *(c for name in _QUASI_NEWTON for c in _race("mnist-4x800", name, 2, -1)),
    *(_lower("mnist-2x400", name, "fig5", "min_value") for name in _FIRST_ORDER),
    *(_lower("mnist-4x800", name, "fig5", "min_value") for name in _FIRST_ORDER),
    _warm_start("cifar10", "cifar10", "fig6"),
    _warm_start("cifar10-100", "cifar10 with 100 images instead of 1,000", "fig6-small"),
    Claim("a learned τ_M goes to about 0", "about 0", "tau-limit", _limit),
    *(_convex(race, name) for race in ("quadratic", "logistic") for name in _QUASI_NEWTON),
    *(_setting(optimizer) for optimizer in PAPERS_SETTINGS),
)


def by_optimizer(out: Path) -> Table:
    """The claims that differ in the optimizer alone, a row for each."""
    groups: dict[str, dict[str, Claim]] = {}
    for claim in CLAIMS:
        if claim.about:
            groups.setdefault(claim.about, {})[claim.against] = claim
    rows = []
    for about, group in groups.items():
        cells = [_cell(group[name], out) if name in group else "" for name in _ALL]
        (command,) = {f"`{claim.artefact}`" for claim in group.values()}
        rows.append([about, *cells, command])
    return Table("Against each optimizer", ["L-BFGS-π", *_ALL, "reproduce"], rows)


def _cell(claim: Claim, out: Path) -> str:
    found = claim.find(out)
    if found is None:
        return "not run"
    number, _, _ = found.ours.rpartition(", ")  # but for the number of tasks
    papers = f" ({claim.papers})" if claim.papers[0] in "+-0" else ""
    return f"**{found.holds}** {number}{papers}"


def others(out: Path) -> Table:
    """The claims that stand alone, as `claims_table` has them."""
    return _table("The rest", [claim for claim in CLAIMS if not claim.about], out)


def claims_table(out: Path) -> Table:
    """All claims, with what the records of a reproduction say of them."""
    return _table("The paper's claims", CLAIMS, out)


def _table(title: str, claims: Iterable[Claim], out: Path) -> Table:
    rows = []
    for claim in claims:
        found = claim.find(out) or Finding("–", "not run")
        command = f"`lbfgs-pi reproduce {claim.artefact}`"
        rows.append([claim.text, claim.papers, found.ours, found.holds, command])
    header = ["claim", "paper", "ours [95 %]", "holds", "command"]
    return Table(title, header, rows)
