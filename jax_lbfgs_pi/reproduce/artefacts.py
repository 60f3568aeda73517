"""The paper's tables and figures by name: what each needs, and how it is made of records."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jax_lbfgs_pi.evaluation.figures import save_figure
from jax_lbfgs_pi.evaluation.statistics import Target
from jax_lbfgs_pi.evaluation.tables import Table, markdown
from jax_lbfgs_pi.files import write_atomically
from jax_lbfgs_pi.reproduce import plots, tables, training_plots
from jax_lbfgs_pi.reproduce.claims import claims_table
from jax_lbfgs_pi.reproduce.grids import GRIDS, best_settings, complete, score
from jax_lbfgs_pi.reproduce.races import CURVES, FAVOURITE, PAPERS, RACES
from jax_lbfgs_pi.reproduce.records import Records, RunFolder
from jax_lbfgs_pi.reproduce.tables import TABLE1_LEVELS
from jax_lbfgs_pi.reproduce.trainings import LAYERS, clip_derivatives
from jax_lbfgs_pi.training.log import read_log

MLPS = tuple(TABLE1_LEVELS)
VALUE_TARGETS = {
    "mnist-1x20": (Target("value", 1e-1), Target("value", 1e-2)),
    "mnist-2x400": (Target("value", 2.0), Target("value", 1.0)),
    "mnist-4x800": (Target("value", 2.0), Target("value", 1.0)),
    "cifar10": (Target("value", 2.0), Target("value", 1.0)),
    "cifar10-100": (Target("value", 1.0), Target("value", 1e-1)),
}
TITLES = {
    "grids": "The tuning grids of §6",
    "table1": "Table 1, and the cost of each target",
    "fig5": "Fig. 5: the least f",
    "fig6": "Fig. 6: π and π_C on CIFAR-10",
    "fig6-small": "Fig. 6 with 100 images a task: π and π_C on CIFAR-10",
    "fig8": "Fig. 8: the final f",
    "convex": "Convex tasks",
    "cvx-layer": "Training with each clip layer",
    "claims": "The paper's claims",
}
"""Of the files of tables."""
CONVEX_TARGETS = tuple(Target("grad_norm", level) for level in (1e-3, 1e-5, 1e-7))


def records_of(out: Path, race: str) -> Records:
    """The records of a race that are there.

    Raises:
      FileNotFoundError: if there are none.
    """
    rows = RunFolder(out / "records" / race).rows()
    if not rows:
        raise FileNotFoundError(
            f"There are no records of {race!r} in {str(out)!r}: run `lbfgs-pi reproduce` with this "
            f"--out, without --render."
        )
    order = [*RACES[race].policies, *RACES[race].against, *RACES[race].beside]
    return Records(sorted(rows, key=lambda row: order.index(row["optimizer"])))


def _write(out: Path, name: str, parts: Sequence[Table]) -> list[Path]:
    path = out / f"{name}.md"
    head = f"# {TITLES[name]}\n\nMade by `lbfgs-pi reproduce {name}` from records.\n"
    write_atomically(path, "\n".join([head, *map(markdown, parts)]))
    return [path]


def table1(out: Path, races: Sequence[str]) -> list[Path]:
    """W and T by seconds and by evaluations, costs, and endings."""
    parts = []
    for race in races:
        records = records_of(out, race)
        targets = [Target("grad_norm", level) for level in TABLE1_LEVELS[race]]
        for cost in ("seconds", "num_evals"):
            parts.append(tables.table1(records, race, FAVOURITE, cost))
        for cost in ("num_evals", "iterations", "seconds"):
            parts.append(tables.costs(records, race, targets, cost))
        parts.append(tables.costs(records, race, VALUE_TARGETS[race], "num_evals"))
        parts.append(tables.endings(records, race))
    return _write(out, "table1", parts)


def _curves(name: str, num: int) -> Callable[[Path, Sequence[str]], list[Path]]:
    def make(out: Path, races: Sequence[str]) -> list[Path]:
        folder = RunFolder(out / "records" / races[0])
        there = records_of(out, races[0]).tasks(FAVOURITE)
        # Lazily: each look opens the file of all curves, and few of many tasks have one.
        kept = (t for t in there if folder.curve(t, FAVOURITE) is not None)
        tasks = list(itertools.islice(kept, num))
        if not tasks:
            return []
        figure = plots.curves(folder, tasks, (FAVOURITE, *PAPERS))
        return [save_figure(figure, out / f"{name}.png")]

    return make


def fig4(out: Path, races: Sequence[str]) -> list[Path]:
    """t_f of π against each competitor, in seconds and in evaluations."""
    records = records_of(out, races[0])
    targets = [Target("grad_norm", level) for level in TABLE1_LEVELS[races[0]]]
    return [
        save_figure(
            plots.scatter(records, FAVOURITE, PAPERS, targets, cost), out / f"fig4-{cost}.png"
        )
        for cost in ("seconds", "num_evals")
    ]


def _panel(
    race: str, records: Records, policies: tuple[str, ...]
) -> tuple[str, Records, tuple[str, ...]]:
    """Of box plots, which look the same of three tasks and of a thousand: the title tells."""
    return f"{race}, {tables.number_of_tasks(len(records.tasks(FAVOURITE)))}", records, policies


def _boxes(name: str, value: str) -> Callable[[Path, Sequence[str]], list[Path]]:
    def make(out: Path, races: Sequence[str]) -> list[Path]:
        found = {race: records_of(out, race) for race in races}
        parts = [tables.advantage_table(found[race], race, (FAVOURITE,)) for race in races]
        panels = [_panel(race, found[race], (FAVOURITE,)) for race in races]
        figure = plots.boxes(panels, PAPERS, value)
        return [save_figure(figure, out / f"{name}.png"), *_write(out, name, parts)]

    return make


def _warm_start(name: str) -> Callable[[Path, Sequence[str]], list[Path]]:
    """I_a on the CIFAR-10 network, for π and for π_C."""

    def make(out: Path, races: Sequence[str]) -> list[Path]:
        race = races[0]
        records, policies = records_of(out, race), tuple(RACES[race].policies)
        figure = plots.boxes([_panel(race, records, policies)], PAPERS)
        parts = [
            tables.advantage_table(records, race, policies),
            tables.costs(records, race, VALUE_TARGETS[race], "num_evals"),
            tables.endings(records, race),
        ]
        return [save_figure(figure, out / f"{name}.png"), *_write(out, name, parts)]

    return make


def convex(out: Path, races: Sequence[str]) -> list[Path]:
    """The comparison on convex tasks that the paper left out."""
    parts, panels = [], []
    for race in races:
        records = records_of(out, race)
        panels.append(_panel(race, records, (FAVOURITE,)))
        parts.append(tables.costs(records, race, CONVEX_TARGETS, "num_evals"))
        parts.append(tables.advantage_table(records, race, (FAVOURITE,)))
    figure = plots.boxes(panels, PAPERS)
    return [save_figure(figure, out / "convex.png"), *_write(out, "convex", parts)]


def grids(out: Path, races: Sequence[str]) -> list[Path]:
    """Every setting's score, and which is the best of its optimizer."""
    del races
    records = Records(RunFolder(out / "records" / "grids").rows())
    best = set(best_settings(records).values())
    rows = [
        [f"{name} (best)" if name in best else name]
        + [tables.number(x, 4) for x in score(records, name)]
        for grid in GRIDS.values()
        for name in grid
    ]
    header = ["", "evals to ‖g‖<1e-5", "to 1e-4", "to 1e-3", "mean least f"]
    num = len(records.tasks(next(iter(best))))
    title = f"Tuning grids of §6, {num} training tasks: means, 800 for targets missed and plateaus"
    return _write(out, "grids", [Table(title, header, rows)])


def tau_limit(out: Path, races: Sequence[str]) -> list[Path]:
    """The learned limits over training."""
    del races
    log = read_log(out / "trainings" / "limits")
    return [save_figure(training_plots.limits(log), out / "tau-limit.png")]


def cvx_layer(out: Path, races: Sequence[str]) -> list[Path]:
    """Derivatives of the clip near its bound, and what they make of training."""
    del races
    distances = np.concatenate([-np.logspace(-1, -9, 17), [0.0], np.logspace(-9, -1, 17)])
    logs = {layer: read_log(out / "trainings" / name) for layer, name in LAYERS.items()}
    figures = {
        "cvx-layer.png": training_plots.derivatives(distances, clip_derivatives(distances)),
        "cvx-layer-training.png": training_plots.losses(logs),
    }
    parts = [training_plots.layer_table(logs)]
    paths = [save_figure(figure, out / name) for name, figure in figures.items()]
    return [*paths, *_write(out, "cvx-layer", parts)]


def claims(out: Path, races: Sequence[str]) -> list[Path]:
    """The paper's claims, with what the records that are there say of each."""
    del races
    return _write(out, "claims", [claims_table(out)])


@dataclasses.dataclass(frozen=True)
class Artefact:
    """A table or figure: what it needs, and how it is made of that.

    Attributes:
      make: writes its files into the folder of the reproduction, from the races given.
      races: that it shows, as far as they have records.
      trainings: that it shows, or whose policies race.
      grids: whether it shows the tuning grids.
    """

    make: Callable[[Path, Sequence[str]], list[Path]]
    races: tuple[str, ...] = ()
    trainings: tuple[str, ...] = ()
    grids: bool = False

    def there(self, out: Path, races: Sequence[str]) -> list[str] | None:
        """Those of the races that have records; None if something is missing that it must have."""
        found = [race for race in races if RunFolder(out / "records" / race).rows()]
        ready = not self.grids or complete(Records(RunFolder(out / "records" / "grids").rows()))
        logs = all(read_log(out / "trainings" / name).records for name in self.trainings)
        return found if ready and logs and bool(found) == bool(self.races) else None


ARTEFACTS = {
    "grids": Artefact(grids, grids=True),
    "table1": Artefact(table1, MLPS),
    "fig3": Artefact(_curves("fig3", 3), MLPS[:1]),
    "fig4": Artefact(fig4, MLPS[:1]),
    "fig5": Artefact(_boxes("fig5", "min_value"), MLPS),
    "fig6": Artefact(_warm_start("fig6"), ("cifar10",), trainings=("cifar",)),
    "fig6-small": Artefact(_warm_start("fig6-small"), ("cifar10-100",), trainings=("cifar-100",)),
    "fig7": Artefact(_curves("fig7", CURVES), MLPS[:1]),
    "fig8": Artefact(_boxes("fig8", "final_value"), MLPS),
    "tau-limit": Artefact(tau_limit, trainings=("limits",)),
    "convex": Artefact(convex, ("quadratic", "logistic")),
    "cvx-layer": Artefact(cvx_layer, trainings=tuple(LAYERS.values())),
    "claims": Artefact(claims),
}
"""By name, in the order in which they are made."""
