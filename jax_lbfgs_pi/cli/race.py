"""`lbfgs-pi race`."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from jax_lbfgs_pi.cli.common import (
    above_zero,
    add_output_options,
    add_task_options,
    console,
    load_tasks,
    positive,
    provenance,
    refuse_unread,
    seed,
    write_report,
)
from jax_lbfgs_pi.progress import make_bar

FAVOURITE = "L-BFGS-π"
FIGURES = {
    "curves.png": (
        "Course of the first tasks",
        "f against iterations and against seconds, and the step sizes.",
    ),
    "advantage.png": (
        "Least value found",
        f"I_a, the logarithm of a competitor's least f over {FAVOURITE}'s, over all tasks: boxes "
        "span the quartiles, whiskers 5 % to 95 %.",
    ),
}


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "race",
        help="race a policy against other optimizers",
        description="Runs a policy and its competitors on held-out tasks; prints evaluations and "
        "seconds to each target, wins and ties, and writes report.html, report.md, report.json "
        "and figures. `--task my_module:make_tasks` races on problems of your own.",
    )
    parser.add_argument(
        "--task", metavar="MODULE:NAME",
        help="an lp.TaskSet of your own, or a function without arguments that returns one, in "
        "place of a data set",
    )  # fmt: skip
    add_task_options(parser)
    parser.add_argument(
        "--policy", metavar="POLICY", help="name or file (default: the default policy)"
    )
    parser.add_argument(
        "--against", nargs="+", metavar="NAME",
        help="competitors, by default all: ADAM RMSProp L-BFGS-B L-BFGS-BTLS optax.lbfgs Prodigy "
        "SciPy",
    )  # fmt: skip
    parser.add_argument(
        "--split", choices=("test", "dev"),
        help="which tasks (default: test; of --task all, where test are those that `train --task` "
        "holds out, and dev those that it chooses by)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=seed, metavar="N",
        help="of the training whose --split of --task it is (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--max-iters", type=positive, default=800, metavar="K", help="(default: 800)"
    )
    parser.add_argument(
        "--grad-targets", type=above_zero, nargs="+", default=[1e-3, 1e-4, 1e-5], metavar="EPS",
        help="the paper's criteria, ‖g‖ < EPS (default: 1e-3 1e-4 1e-5)",
    )  # fmt: skip
    parser.add_argument(
        "--value-targets", type=float, nargs="*", metavar="F",
        help="criteria on f, f < F (default: 1e-2; none with --task)",
    )  # fmt: skip
    parser.add_argument(
        "--guard", action="store_true",
        help="guard the steps of a policy of the paper's form too, which in the paper has no guard",
    )  # fmt: skip
    parser.add_argument(
        "--memory", type=positive, metavar="M",
        help="pairs of all that have any (default: 5 with a policy of the paper's form, else 10)",
    )  # fmt: skip
    add_output_options(parser, "runs/race")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the subcommand."""
    from jax_lbfgs_pi.acceptance import Guard
    from jax_lbfgs_pi.baselines import baselines, policy_competitor
    from jax_lbfgs_pi.evaluation import Target
    from jax_lbfgs_pi.policy import Policy
    from jax_lbfgs_pi.pretrained import DEFAULT, load_policy, policy_digest

    policy = load_policy(args.policy or DEFAULT)
    memory = args.memory or (5 if isinstance(policy, Policy) else 10)
    known = baselines(memory)
    names = args.against or list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"Unknown competitor {unknown[0]!r}: choose among {', '.join(known)}.")
    guarded = args.guard or not isinstance(policy, Policy)
    tasks, which = race_tasks(args)
    levels = args.value_targets
    if levels is None:
        levels = [1e-2] if args.task is None else []
    targets = [Target("grad_norm", eps) for eps in args.grad_targets]
    targets += [Target("value", f) for f in levels]
    competitors = [
        policy_competitor(
            FAVOURITE, policy, memory_size=memory, guard=Guard() if guarded else None
        ),
        *(known[name] for name in names),
    ]
    settings = {
        "policy": str(args.policy or DEFAULT), "policy_digest": policy_digest(policy), **which,
        "max_iters": args.max_iters, "guard": guarded, "memory": memory,
    }  # fmt: skip
    return race_and_report(
        tasks, competitors, targets, args.out, console(args), settings, max_iters=args.max_iters
    )


def race_tasks(args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The tasks to race on, and, for the folder's settings, what tells them from others."""
    from jax_lbfgs_pi.tasks.suites import get_tasks
    from jax_lbfgs_pi.training.fine_tune import split

    if args.task is None:
        refuse_unread(args, "A race on a data set", ["seed"])
        which = args.split or "test"
        tasks = get_tasks(
            args.dataset,
            which,
            size=args.size,
            num_tasks=50 if args.tasks is None else args.tasks,
            data_dir=args.data_dir,
        )
        return tasks, {"dataset": tasks.name, "split": which}
    refuse_unread(args, "--task", ("dataset", "size", "data_dir"))
    tasks = load_tasks(args.task)
    about = {"task": args.task, "dataset": tasks.name, "split": args.split or "all"}
    about["digest"] = tasks.digest()
    if args.split is not None:
        about["seed"] = args.seed or 0
        _, development, held_out = split(tasks, about["seed"])
        tasks = held_out if args.split == "test" else development
    return tasks if args.tasks is None else tasks.take(args.tasks), about


def race_and_report(
    tasks: Any,
    competitors: Sequence[Any],
    targets: Sequence[Any],
    folder: Path,
    out: Console,
    settings: dict[str, Any],
    *,
    max_iters: int,
) -> dict[str, Any]:
    """Races with a progress bar, prints the tables, and writes report and figures to `folder`."""
    from jax_lbfgs_pi import evaluation
    from jax_lbfgs_pi.files import claim, write_atomically
    from jax_lbfgs_pi.locks import owned

    settings = settings | {
        "competitors": [competitor.name for competitor in competitors],
        "targets": [str(target) for target in targets],
    }
    with owned(folder), make_bar() as bar:
        claim(folder, "settings.json", settings, "the results of another race")
        task = bar.add_task("racing", total=len(tasks) * len(competitors))
        results = evaluation.race(
            tasks,
            competitors,
            max_iters=max_iters,
            out=folder / "runs",
            on_run=lambda index, name: bar.update(task, advance=1, description=f"{name:<11}"),
        )
    tables = evaluation.rich_tables(results, FAVOURITE, targets)
    for table in tables:
        out.print(table)
    figures = {
        "curves.png": evaluation.curves(results, FAVOURITE),
        "advantage.png": evaluation.advantage_boxes(results, FAVOURITE),
    }
    for name, figure in figures.items():
        evaluation.save_figure(figure, folder / name)
    report = {
        **evaluation.as_json(results, FAVOURITE, targets),
        "settings": settings,
        "provenance": provenance(),
    }
    write_atomically(folder / "report.md", evaluation.markdown(results, FAVOURITE, targets))
    write_atomically(folder / "report.json", json.dumps(report, indent=2))
    about = [
        f"{len(results)} tasks of {tasks.name}; all that keep pairs keep {settings['memory']}, and "
        f"SciPy has one BLAS thread."
    ]
    if any(evaluation.least_value(run) < 0 for runs in results for run in runs.values()):
        about.append("f is below 0 on some tasks, where I_a, a logarithm of f, says nothing.")
    write_report(
        folder,
        f"{FAVOURITE} on {tasks.name}",
        {"Results": [*about, *tables]},
        FIGURES,
        settings=settings,
        made_with=report["provenance"],
    )
    out.print(f"{' '.join(about)} Figures, report.md and report.html: {folder}", soft_wrap=True)
    return report
