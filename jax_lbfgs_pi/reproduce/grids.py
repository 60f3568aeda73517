"""The tuning grids of paper §6, re-run on training tasks: each competitor at its best."""

import functools
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jax_lbfgs_pi.baselines import Competitor, adam, lbfgs_backtracking, rmsprop
from jax_lbfgs_pi.evaluation.race import make_runner
from jax_lbfgs_pi.evaluation.statistics import Target
from jax_lbfgs_pi.locks import alone
from jax_lbfgs_pi.reproduce.records import Records, RunFolder, hit, row_of
from jax_lbfgs_pi.tasks.suites import get_tasks

NAME = "grids"
RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
SHARES = (0.25, 0.5, 0.75)
NUM_TASKS = 10
CRITERIA = (Target("grad_norm", 1e-5), Target("grad_norm", 1e-4), Target("grad_norm", 1e-3))

GRIDS: dict[str, dict[str, Competitor]] = {
    "ADAM": {
        f"ADAM lr={rate:g}": Competitor(f"ADAM lr={rate:g}", functools.partial(adam, rate))
        for rate in RATES
    },
    "RMSProp": {
        f"RMSProp lr={rate:g}": Competitor(f"RMSProp lr={rate:g}", functools.partial(rmsprop, rate))
        for rate in RATES
    },
    "L-BFGS-BTLS": {
        f"BTLS c1={c1:g} c2={c2:g}": Competitor(
            f"BTLS c1={c1:g} c2={c2:g}", functools.partial(lbfgs_backtracking, c1=c1, c2=c2)
        )
        for c1, c2 in itertools.product(SHARES, SHARES)
    },
}
"""The settings that the paper chose from, by optimizer."""

PAPERS_SETTINGS = {
    "ADAM": "ADAM lr=0.03",
    "RMSProp": "RMSProp lr=0.01",
    "L-BFGS-BTLS": "BTLS c1=0.25 c2=0.5",
}
"""What it chose; `baselines` has them."""

TUNED = {optimizer: f"{optimizer}, tuned" for optimizer in GRIDS}
"""What the best of each grid races as."""


def count_runs(num_tasks: int | None) -> int:
    """How many runs the grids have."""
    return _num_tasks(num_tasks) * sum(len(grid) for grid in GRIDS.values())


def _num_tasks(num_tasks: int | None) -> int:
    if num_tasks is None or num_tasks >= 10:
        return NUM_TASKS
    return 1


def run_grids(
    out: Path,
    *,
    num_tasks: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    on_run: Callable[[str], None] = lambda name: None,
    on_wait: Callable[[], None] = lambda: None,
) -> RunFolder:
    """Runs what is missing of the grids: MNIST training tasks of the size (1,20), K = 800.

    One process runs them; others wait for it, and then find them all there.

    Args:
      out: the folder of the reproduction.
      num_tasks: below ten, the grids run on one task.
      data_dir: tensorflow-datasets' folder.
      on_run: called with the setting's name after each run, also one that was there.
      on_wait: called before waiting for another process; may raise instead.

    Returns:
      The folder of records.
    """
    with alone(out, NAME, on_wait):
        records = RunFolder(out / "records" / NAME)
        tasks = get_tasks("mnist", "train", num_tasks=_num_tasks(num_tasks), data_dir=data_dir)
        run_one = make_runner(tasks, max_iters=800, tol=1e-8)
        for task in range(len(tasks)):
            for name, competitor in itertools.chain(*(grid.items() for grid in GRIDS.values())):
                if not records.has(task, name):
                    run = run_one(task, competitor)
                    records.save(run, row_of(run, task, name, plateau_value=2.2), curve=False)
                on_run(name)
        return records


def score(records: Records, name: str) -> tuple[float, ...]:
    """What a setting is judged by, less is better.

    The mean over tasks of the evaluations to ‖g‖ < 1e-5, 800 where it is not reached, or is on a
    plateau where nothing was learned; then the same for 1e-4 and 1e-3; then the mean least f.
    """
    tasks = records.tasks(name)
    plateau, least = (records.column(name, column, tasks) for column in ("plateau", "min_value"))
    costs = (records.column(name, hit(target, "num_evals"), tasks) for target in CRITERIA)
    counted = (np.where(plateau == 1, 800.0, np.minimum(cost, 800.0)) for cost in costs)
    return (*(float(np.mean(cost)) for cost in counted), float(np.mean(least)))


def complete(records: Records) -> bool:
    """Whether all settings have run, on the same tasks."""
    ran = [records.tasks(name) for grid in GRIDS.values() for name in grid]
    return bool(ran[0]) and all(tasks == ran[0] for tasks in ran)


def best_settings(records: Records) -> dict[str, str]:
    """The best setting of each optimizer."""
    return {
        optimizer: min(grid, key=functools.partial(score, records))
        for optimizer, grid in GRIDS.items()
    }


def tuned_competitors(records_folder: Path) -> dict[str, Competitor]:
    """The competitors at their best, as `ADAM, tuned`, where that is not the paper's setting.

    Raises:
      FileNotFoundError: if the grids have not been run.
    """
    records = Records(RunFolder(records_folder / NAME).rows())
    if not complete(records):
        raise FileNotFoundError(
            "The tuned competitors need the tuning grids: run `lbfgs-pi reproduce grids` with the "
            "same --out first."
        )
    best = best_settings(records)
    return {
        TUNED[optimizer]: Competitor(TUNED[optimizer], GRIDS[optimizer][setting].make)
        for optimizer, setting in best.items()
        if setting != PAPERS_SETTINGS[optimizer]
    }
