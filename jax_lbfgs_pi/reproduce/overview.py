"""What docs/mnist.md and REPRODUCTION.md show of the records at a glance; pure functions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jax_lbfgs_pi.evaluation.statistics import Target, first, median
from jax_lbfgs_pi.evaluation.tables import Table
from jax_lbfgs_pi.reproduce import grids, policies, statistics, tables
from jax_lbfgs_pi.reproduce.races import FAVOURITE, RACES
from jax_lbfgs_pi.reproduce.records import Records, RunFolder, hit
from jax_lbfgs_pi.reproduce.statistics import mean_of
from jax_lbfgs_pi.reproduce.tables import interval, number, number_of_tasks
from jax_lbfgs_pi.reproduce.trainings import LAYERS, TRAININGS
from jax_lbfgs_pi.training.log import read_log

TARGETS = (*(Target("grad_norm", level) for level in (1e-3, 1e-4, 1e-5)), Target("value", 1e-2))
RACE_NAMES = {
    "mnist-1x20": "Table 1, Fig. 3, 4, 5, 7, 8: MNIST (1,20)",
    "mnist-2x400": "Table 1, Fig. 5, 8: MNIST (2,400)",
    "mnist-4x800": "Table 1, Fig. 5, 8: MNIST (4,800)",
    "cifar10": "Fig. 6: CIFAR-10",
    "cifar10-100": "Fig. 6 with 100 images a task instead of 1,000",
    "quadratic": "convex: quadratics",
    "logistic": "convex: logistic regression",
}
NUM_SEEDS = 3  # at least, of the paper's training
NUM_LIMITED_SEEDS = 5


def wins(records: Records, favourite: str = FAVOURITE) -> Table:
    """Who met each target first, by evaluations, and the median of I_a."""
    rows = []
    for name in records.optimizers:
        if name == favourite:
            continue
        cells = []
        for target in TARGETS:
            won, tied = statistics.wins(records, favourite, name, target, "num_evals")
            cells.append(f"{won.value:.0f} / {tied.value:.0f}")
        index = statistics.bootstrap(statistics.advantages(records, favourite, name), median)
        sign = "+" if index.value > 0 else ""
        count = str(len(records.tasks(favourite, name)))
        rows.append([name, count, *cells, sign + interval(index)])
    title = f"{favourite} first / tied in % of tasks, by evaluations; median I_a"
    return Table(title, ["against", "tasks", *map(str, TARGETS), "I_a [95 %]"], rows)


def beside_the_papers(records: Records, race: str, policies: Sequence[str]) -> Table:
    """W and T of some policies by evaluations, beside those of the paper's by seconds."""
    rows = []
    for name, papers in tables.PAPER_TABLE1[race].items():
        for level, (w, t) in zip(tables.TABLE1_LEVELS[race], papers, strict=True):
            target = Target("grad_norm", level)
            cells = []
            for policy in policies:
                won, tied = statistics.wins(records, policy, name, target, "num_evals")
                cells.append(f"{interval(won)} / {number(tied.value)}")
            rows.append([f"{name}, {target}", f"{w:g} / {t:g}", *cells])
    title = f"Table 1, {race}: first in % of tasks (W) and ties (T), by evaluations"
    return Table(title, ["against, at", "the paper's π, by seconds", *policies], rows)


def over_trainings(records: Records, race: str, policies: Sequence[str]) -> Table:
    """W of several trainings on the tasks that all have run, and its mean with an interval."""
    known = [name for name in policies if name in records.optimizers]
    rows, shared = [], set[int]()
    for name, papers in tables.PAPER_TABLE1[race].items():
        tasks = records.tasks(name, *known)
        shared |= {len(tasks)}
        for level, (w, _) in zip(tables.TABLE1_LEVELS[race], papers, strict=True):
            target = Target("grad_norm", level)
            theirs, *ours = (
                records.column(one, hit(target, "num_evals"), tasks) for one in (name, *known)
            )
            shares = [float(np.mean(first(costs, theirs))) for costs in ours]
            mean = mean_of(shares)
            mean = mean._replace(low=max(mean.low, 0.0), high=min(mean.high, 100.0))
            rows.append([f"{name}, {target}", f"{w:g}", *map(number, shares), interval(mean)])
    count = " and ".join(map(number_of_tasks, sorted(shared)))
    labels = [name.removeprefix(f"{policies[0]}, ") for name in known[1:]]
    title = f"first in % of {count} (W), by evaluations; the mean over trainings [95 %]"
    return Table(title, ["against, at", "paper", "seed 0", *labels, "mean"], rows)


def coverage(out: Path) -> Table:
    """How much of each race and training has been run, of how much there is."""
    rows = []
    for race in RACES.values():
        done = Records(RunFolder(out / "records" / race.name).rows()).tasks(FAVOURITE)
        rows.append([f"{RACE_NAMES[race.name]}, tasks", race.num_tasks, len(done)])
    settings = Records(RunFolder(out / "records" / grids.NAME).rows())
    names = [name for grid in grids.GRIDS.values() for name in grid]
    done = sum(len(settings.tasks(name)) for name in names)
    rows.append(["tuning grids, runs on training tasks", grids.count_runs(None), done])
    seeds = len(policies.LETTER_SEEDS)
    rows.append(["seeds of the paper's training, in full", NUM_SEEDS, seeds])
    seeds = len(policies.LIMITED_SEEDS)
    rows.append(["seeds of the training with a limited gradient", NUM_LIMITED_SEEDS, seeds])
    for label, name in (
        ("training with learned limits", "limits"),
        ("π_C on ten CIFAR-10 tasks", "cifar"),
        ("π_C with 100 images a task", "cifar-100"),
        *((f"training with the clip layer `{layer}`", name) for layer, name in LAYERS.items()),
    ):
        config, num_tasks = TRAININGS[name].config, TRAININGS[name].num_tasks
        visits = {(r.epoch, r.group) for r in read_log(out / "trainings" / name).records}
        epochs = float(np.floor(10 * len(visits) / num_tasks) / 10)
        rows.append([f"{label}, epochs", config.num_epochs, number(epochs)])
    cells = [[f"{x:,}" if isinstance(x, int) else x for x in row] for row in rows]
    return Table("What has been run", ["", "planned", "run"], cells)
