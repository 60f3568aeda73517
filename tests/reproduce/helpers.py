"""What several tests of the reproduction need."""

import dataclasses
import math

from jax_lbfgs_pi.reproduce.grids import GRIDS
from jax_lbfgs_pi.reproduce.races import RACES, Race
from jax_lbfgs_pi.reproduce.records import RunFolder, row_of
from jax_lbfgs_pi.tasks import quadratic_tasks
from tests.hand_made import (
    PI,
    make_row,
    make_run,
    random_run,
)

INF = math.inf


PNG = b"\x89PNG\r\n\x1a\n"


# Six tasks at most: π and two competitors on all of them, another policy and SciPy on two.
TINY = Race(
    "tiny",
    "quadratic",
    {PI: "cosine", "unit": "unit"},
    ("ADAM", "L-BFGS-B"),
    beside=("SciPy",),
    num_tasks=4,
    num_beside=2,
    max_iters=30,
    sketch=(2, 20),
)


def small_tasks(dataset, split, *, size=(1, 20), num_tasks=None, batch_size=1000, data_dir=None):
    """Quadratics of five variables, whatever is asked for, which their name tells."""
    del size, data_dir
    tasks = quadratic_tasks(num_tasks, dim=5, condition=50.0)
    images = "" if batch_size == 1000 else f"-{batch_size}"
    return dataclasses.replace(tasks, name=f"{dataset}-{split}{images}")


class Runner:
    """In place of `make_runner`: runs that depend on the task alone, but for their seconds."""

    def __init__(self):
        self.calls = []  # (data set and split, iterations, task, competitor)

    def __call__(self, tasks, *, max_iters, tol):
        assert tol == 1e-8

        def run_one(index, competitor):
            assert 0 <= index < len(tasks)
            self.calls.append((tasks.name, max_iters, index, competitor.name))
            run = random_run(tasks.name, index, competitor.name)
            return dataclasses.replace(run, seconds=run.seconds * (1 + 0.01 * len(self.calls)))

        return run_one

    def pairs(self):
        return [call[2:] for call in self.calls]


def keys(rows):
    return [(row["task"], row["optimizer"]) for row in rows]


SETTINGS = [name for grid in GRIDS.values() for name in grid]


def grid_records(best, *, levels=3):
    """All settings alike, but the best of each grid, which leads at the `levels`-th level only."""
    order = ["‖g‖<1e-5", "‖g‖<1e-4", "‖g‖<1e-3"]
    rows = []
    for name in SETTINGS:
        evals = dict.fromkeys(order, 100.0)
        entries = {"min_value": 1.0}
        if name in best and levels < 3:
            evals[order[levels]] = 99.0
        elif name in best:
            entries["min_value"] = 0.5
        rows += [make_row(task, name, evals=evals, **entries) for task in range(2)]
    return rows


def fill(out, race, rows):
    folder = RunFolder(out / "records" / race)
    for row in rows:
        folder.save(make_run([1.0]), row, curve=False)


def facts(log):
    return [dataclasses.asdict(record) | {"seconds": 0.0} for record in log.records]


def fill_race(out, race, tasks, names=None):
    """Random runs of all that take part in a race."""
    folder = RunFolder(out / "records" / race)
    everyone = [*RACES[race].policies, *RACES[race].against, *RACES[race].beside]
    for name in everyone[::-1] if names is None else names:
        for task in tasks:
            run = random_run(race, task, name)
            folder.save(run, row_of(run, task, name, plateau_value=2.2), curve=True)


def made(out):
    """The files beside records and trainings."""
    return sorted(path.name for path in out.iterdir() if path.is_file())


def convex_runs(num_tasks):
    """How many runs the two convex races have: all take part in every task."""
    both = (RACES[name] for name in ("quadratic", "logistic"))
    return num_tasks * sum(len([*r.policies, *r.against, *r.beside]) for r in both)
