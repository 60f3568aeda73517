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
    natural,
    positive,
    progress_bar,
    provenance,
)

FAVOURITE = "L-BFGS-π"


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "race",
        help="race a policy against other optimizers",
        description="Runs a policy and its competitors on held-out tasks; prints evaluations and "
        "seconds to each target, wins and ties, and writes report.md, report.json and figures.",
    )
    add_task_options(parser)
    parser.add_argument(
        "--policy", metavar="POLICY", help="name or file (default: the default policy)"
    )
    parser.add_argument(
        "--against", nargs="+", metavar="NAME",
        help="competitors, by default all: ADAM RMSProp L-BFGS-B L-BFGS-BTLS optax.lbfgs Prodigy "
        "SciPy",
    )  # fmt: skip
    parser.add_argument("--split", choices=("test", "dev"), default="test", help="(default: test)")
    parser.add_argument(
        "--max-iters", type=natural, default=800, metavar="K", help="(default: 800)"
    )
    parser.add_argument(
        "--grad-targets", type=above_zero, nargs="+", default=[1e-3, 1e-4, 1e-5], metavar="EPS",
        help="the paper's criteria, ‖g‖ < EPS (default: 1e-3 1e-4 1e-5)",
    )  # fmt: skip
    parser.add_argument(
        "--value-targets", type=float, nargs="*", default=[1e-2], metavar="F",
        help="criteria on f, f < F (default: 1e-2)",
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
    from jax_lbfgs_pi.tasks.suites import get_tasks

    policy = load_policy(args.policy or DEFAULT)
    memory = args.memory or (5 if isinstance(policy, Policy) else 10)
    known = baselines(memory)
    names = args.against or list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"Unknown competitor {unknown[0]!r}: choose among {', '.join(known)}.")
    guarded = args.guard or not isinstance(policy, Policy)
    tasks = get_tasks(
        args.dataset,
        args.split,
        size=args.size,
        num_tasks=50 if args.tasks is None else args.tasks,
        data_dir=args.data_dir,
    )
    targets = [Target("grad_norm", eps) for eps in args.grad_targets]
    targets += [Target("value", f) for f in args.value_targets]
    competitors = [
        policy_competitor(
            FAVOURITE, policy, memory_size=memory, guard=Guard() if guarded else None
        ),
        *(known[name] for name in names),
    ]
    settings = {
        "policy": str(args.policy or DEFAULT),
        "policy_digest": policy_digest(policy), "dataset": tasks.name, "split": args.split,
        "max_iters": args.max_iters, "guard": guarded, "memory": memory,
    }  # fmt: skip
    return race_and_report(
        tasks, competitors, targets, args.out, console(args), settings, max_iters=args.max_iters
    )


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
    with owned(folder), progress_bar() as bar:
        claim(folder, "settings.json", settings, "the results of another race")
        task = bar.add_task("racing", total=len(tasks) * len(competitors))
        results = evaluation.race(
            tasks,
            competitors,
            max_iters=max_iters,
            out=folder / "runs",
            on_run=lambda index, name: bar.update(task, advance=1, description=f"{name:<11}"),
        )
    for table in evaluation.rich_tables(results, FAVOURITE, targets):
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
    memory = settings["memory"]
    out.print(
        f"{len(results)} tasks of {tasks.name}; all that keep pairs keep {memory}, and SciPy has "
        f"one BLAS thread. Report and figures: {folder}",
        soft_wrap=True,
    )
    return report
