"""`lbfgs-pi reproduce`."""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress, TaskID

from jax_lbfgs_pi.cli.common import add_output_options, console, positive, provenance
from jax_lbfgs_pi.progress import make_bar

NAMES = (
    "grids", "table1", "fig3", "fig4", "fig5", "fig6", "fig6-small", "fig7", "fig8",
    "tau-limit", "convex", "cvx-layer", "claims",
)  # fmt: skip
SIZES = {"1,20": "mnist-1x20", "2,400": "mnist-2x400", "4,800": "mnist-4x800"}


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "reproduce",
        help="regenerate the paper's tables and figures",
        description="Runs what is missing of the races and trainings behind the paper's tables and "
        "figures, and makes these of the records. Killed and started again, it repeats nothing "
        "that was finished. In full it takes days on two cores; --tasks 5 gives the form of "
        "everything in some minutes.",
    )
    parser.add_argument(
        "what", nargs="*", metavar="WHAT", help=f"all (default), or any of {' '.join(NAMES)}"
    )
    parser.add_argument(
        "--tasks", type=positive, metavar="N",
        help="at most N tasks of each race; below ten, fewer iterations of large networks too",
    )  # fmt: skip
    parser.add_argument(
        "--sizes", nargs="+", metavar="N_L,N_U", default=list(SIZES),
        help="networks of table1, fig5 and fig8 (default: 1,20 2,400 4,800); fig3, fig4 and fig7 "
        "are of 1,20 alone",
    )  # fmt: skip
    parser.add_argument(
        "--shard",
        default="0/1",
        metavar="I/N",
        help="run every N-th task of the races from the I-th on; several processes can share "
        "--out: the grids, and each training, are run by one of them, for which the others wait",
    )
    parser.add_argument(
        "--render", action="store_true", help="run nothing: tables and figures of what is there"
    )
    parser.add_argument(
        "--again", action="store_true",
        help="race those policies anew that have changed since their records were made",
    )  # fmt: skip
    parser.add_argument(
        "--pack", action="store_true",
        help="put the records of each race into one file and drop checkpoints, as what is shipped",
    )  # fmt: skip
    parser.add_argument(
        "--data-dir", metavar="DIR",
        help="tensorflow-datasets' folder of mnist and cifar10 (default: $TFDS_DATA_DIR)",
    )  # fmt: skip
    add_output_options(parser, "runs/reproduce")
    parser.set_defaults(run=run)


def _shard(text: str) -> tuple[int, int]:
    try:
        index, count = (int(part) for part in text.split("/"))
    except ValueError:
        index, count = -1, 0
    if not 0 <= index < count:
        raise ValueError(f"--shard must be I/N with 0 <= I < N, as in 0/2, but got {text!r}.")
    return index, count


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the subcommand."""
    from jax_lbfgs_pi.files import write_atomically
    from jax_lbfgs_pi.locks import alone
    from jax_lbfgs_pi.reproduce.artefacts import ARTEFACTS
    from jax_lbfgs_pi.reproduce.records import RunFolder
    from jax_lbfgs_pi.reproduce.trainings import pack_trainings

    unknown = [name for name in args.what if name not in ("all", *ARTEFACTS)]
    if unknown:
        raise ValueError(
            f"Unknown artefact {unknown[0]!r}: choose among all, {', '.join(ARTEFACTS)}."
        )
    names = list(ARTEFACTS) if "all" in args.what or not args.what else args.what
    if args.tasks is not None and args.tasks < 1:
        raise ValueError(f"--tasks must be at least 1, but got {args.tasks}.")
    wrong = [size for size in args.sizes if size not in SIZES]
    if wrong:
        raise ValueError(f"--sizes has {wrong[0]!r}: choose among {' '.join(SIZES)}.")
    left_out = {race for size, race in SIZES.items() if size not in args.sizes}
    shard = _shard(args.shard)
    needed = {
        name: tuple(race for race in ARTEFACTS[name].races if race not in left_out)
        for name in names
    }
    if not args.render:
        _run_missing(args, names, needed, shard)
    made, out = {}, console(args)
    for name in names:
        if ARTEFACTS[name].races and not needed[name]:
            its = " ".join(size for size in SIZES if SIZES[size] in ARTEFACTS[name].races)
            out.print(f"{name:<10} not made: it is of {its} alone, which --sizes leaves out")
            continue
        there = ARTEFACTS[name].there(args.out, needed[name])
        if there is None:
            out.print(f"{name:<10} not made: no records in {args.out}", soft_wrap=True)
            continue
        made[name] = [path.name for path in ARTEFACTS[name].make(args.out, there)]
        if not made[name]:
            out.print(f"{name:<10} not made: no curves of its tasks in {args.out}", soft_wrap=True)
            continue
        out.print(f"{name:<10} {' '.join(made[name])}", soft_wrap=True)
    if args.pack:
        with alone(args.out, "pack"):
            for folder in sorted((args.out / "records").glob("*/")):
                RunFolder(folder).pack()
            pack_trainings(args.out)
    summary = {"artefacts": made, "tasks": args.tasks, "provenance": provenance()}
    write_atomically(args.out / "summary.json", json.dumps(summary, indent=2))
    out.print(f"Tables and figures: {args.out}", soft_wrap=True)
    return summary


class _Busy(Exception):
    """Another process is at it."""


class _Job(NamedTuple):
    """What one process does for all that share a folder: the grids, or a training.

    Attributes:
      name: what the progress bar calls it.
      total: its length there.
      run: of its line there, and of what to call where another process is at it.
    """

    name: str
    total: int
    run: Callable[[TaskID, Callable[[], None]], Any]


def _run_missing(
    args: argparse.Namespace,
    names: list[str],
    needed: dict[str, tuple[str, ...]],
    shard: tuple[int, int],
) -> None:
    from jax_lbfgs_pi.reproduce import race_runs
    from jax_lbfgs_pi.reproduce.artefacts import ARTEFACTS
    from jax_lbfgs_pi.reproduce.races import RACES

    todo = [RACES[name] for name in dict.fromkeys(sum(needed.values(), ()))]
    trainings = dict.fromkeys(t for name in names for t in ARTEFACTS[name].trainings)
    options: dict[str, Any] = {"num_tasks": args.tasks, "data_dir": args.data_dir}
    with make_bar() as bar:
        jobs = [_training(bar, name, args.out, options) for name in trainings]
        if any(ARTEFACTS[name].grids for name in names) or any(race.has_tuned for race in todo):
            jobs = [_grids(bar, args.out, options), *jobs]
        _run_jobs(bar, jobs)
        for race in todo:
            total = race_runs.count_runs(race, args.out, args.tasks, shard)
            line = bar.add_task(race.name, total=total)
            race_runs.run_race(
                race,
                args.out,
                **options,
                shard=shard,
                again=args.again,
                on_run=lambda name, t=line: bar.advance(t),
            )


def _grids(bar: Progress, out: Path, options: dict[str, Any]) -> _Job:
    from jax_lbfgs_pi.reproduce import grids

    def run(line: TaskID, on_wait: Callable[[], None]) -> None:
        def on_run(setting: str) -> None:
            bar.update(line, advance=1, description=grids.NAME)

        grids.run_grids(out, **options, on_run=on_run, on_wait=on_wait)

    return _Job(grids.NAME, grids.count_runs(options["num_tasks"]), run)


def _training(bar: Progress, name: str, out: Path, options: dict[str, Any]) -> _Job:
    from jax_lbfgs_pi.reproduce.trainings import TRAININGS, run_training

    config, count = TRAININGS[name].settings(options["num_tasks"])

    def run(line: TaskID, on_wait: Callable[[], None]) -> None:
        def on_step(record: Any) -> None:
            bar.update(line, completed=record.epoch * count + record.group, description=name)

        run_training(TRAININGS[name], out, **options, on_step=on_step, on_wait=on_wait)

    return _Job(name, config.num_epochs * count, run)


def _run_jobs(bar: Progress, jobs: Iterable[_Job]) -> None:
    """Runs jobs one by one; those that other processes are at come last, and are waited for."""

    def leave() -> None:
        raise _Busy

    waiting = []
    for job in jobs:
        line = bar.add_task(job.name, total=job.total)
        try:
            job.run(line, leave)
        except _Busy:
            bar.update(line, description=f"{job.name} (another process)")
            waiting.append((job, line))
        else:
            bar.update(line, completed=job.total)
    for job, line in waiting:
        job.run(line, lambda: None)
        bar.update(line, completed=job.total, description=job.name)
