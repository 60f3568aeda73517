"""`lbfgs-pi bench`."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from jax_lbfgs_pi.cli.common import (
    add_output_options,
    console,
    positive,
    provenance,
    write_report,
)
from jax_lbfgs_pi.progress import make_bar

FIGURES = {
    "performance.png": (
        "Performance profile",
        "The share of problems that are solved within a multiple of the evaluations that the "
        "fastest competitor took on each.",
    ),
    "data.png": (
        "Data profile",
        "The share of problems that are solved within a number of evaluations.",
    ),
    "kinds.png": (
        "Data profiles by kind",
        "The same for each kind of problems, and the number of those, with the best rivals.",
    ),
}


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "bench",
        help="benchmark optimizers on the suite of problems",
        description="Runs L-BFGS-π and other optimizers on a suite of problems with a budget of "
        "evaluations; prints shares solved, first places and how runs ended, and writes "
        "report.html, report.md, report.json and figures. Every mean gives all kinds of problems "
        "equal weight.",
    )
    parser.add_argument(
        "--suite", choices=("development", "test", "all"), default="development",
        help="which kinds; leave test for the end (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--kinds", metavar="K,K", help="only these kinds of the suite")
    parser.add_argument(
        "--problems", type=positive, metavar="N", help="at most N problems of each kind"
    )
    parser.add_argument(
        "--limit-n", type=positive, metavar="N", help="skip problems of more than N variables"
    )
    parser.add_argument(
        "--against", nargs="+", metavar="NAME",
        help="competitors (default: all but SciPy BFGS)",
    )  # fmt: skip
    parser.add_argument(
        "--policy", action="append", default=[], metavar="POLICY",
        help="name or file of a policy that takes part as `π NAME`; may be repeated, the first "
        "is then the one that the tables are about (default: L-BFGS-π as shipped)",
    )  # fmt: skip
    parser.add_argument(
        "--budget",
        type=positive,
        default=300,
        metavar="N",
        help="evaluations (default: %(default)s)",
    )
    parser.add_argument(
        "--memory", type=positive, default=10, metavar="M",
        help="pairs of all that have no memory of their own; L-BFGS-π as shipped has one by n "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--tau", type=float, default=1e-6, metavar="TAU",
        help="solved: f - f_best <= TAU (f_0 - f_best) (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--again", nargs="+", default=[], metavar="NAME",
        help="competitors to run anew even where there are records, after a change to them",
    )  # fmt: skip
    add_output_options(parser, "runs/bench-suite")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the subcommand."""
    if not 0 < args.tau < 1:
        raise ValueError(f"--tau must be between 0 and 1, but got {args.tau}.")
    competitors, favourite = _competitors(args)
    unknown = sorted(set(args.again) - {competitor.name for competitor in competitors})
    if unknown:
        raise ValueError(f"--again names {unknown[0]!r}, which does not take part.")
    chosen = ("suite", "kinds", "problems", "limit_n", "budget", "memory", "tau", "policy")
    return bench_and_report(
        _problems(args),
        competitors,
        favourite,
        args.out,
        console(args),
        settings={name: getattr(args, name) for name in chosen},
        again=args.again,
    )


def bench_and_report(
    names: Sequence[str],
    competitors: Sequence[Any],
    favourite: str,
    folder: Path,
    out: Console,
    *,
    settings: dict[str, Any],
    again: Sequence[str] = (),
) -> dict[str, Any]:
    """Runs with a progress bar, prints the tables, and writes report and figures to `folder`.

    Of the settings, `budget`, `memory`, `tau` and `limit_n` are read.
    """
    from jax_lbfgs_pi import bench
    from jax_lbfgs_pi.bench import figures, report
    from jax_lbfgs_pi.evaluation import save_figure
    from jax_lbfgs_pi.evaluation.tables import for_terminal, markdown
    from jax_lbfgs_pi.files import write_atomically
    from jax_lbfgs_pi.locks import owned
    from jax_lbfgs_pi.suite import get_problem

    budget, tau = settings["budget"], settings["tau"]
    kept = bench.RecordFolder(folder, {"budget": budget, "memory_size": settings["memory"]})
    with owned(folder), make_bar() as bar:
        task = bar.add_task("benchmark", total=len(names) * len(competitors))

        def on_run(problem: str, name: str) -> None:
            bar.update(task, advance=1, description=f"{problem[:24]:<24} {name[:12]:<12}")

        def on_skip(problem: str, why: str) -> None:
            bar.update(task, advance=len(competitors))
            bar.console.print(f"skipped {problem}: {why}", markup=False, soft_wrap=True)

        results = bench.run_suite(
            names,
            get_problem,
            competitors,
            budget=budget,
            folder=kept,
            max_variables=settings["limit_n"],
            again=again,
            on_run=on_run,
            on_skip=on_skip,
        )
    costs = bench.costs_to(results, tau)
    results_told = report.tables(results, costs, favourite, budget=budget)
    tables = [for_terminal(table) for table in results_told]
    for table in tables:
        out.print(table)
    drawn = {
        "performance.png": figures.profile_performance(costs, favourite),
        "data.png": figures.profile_data(costs, favourite, budget=budget),
        "kinds.png": figures.profiles_by_kind(costs, favourite, budget=budget),
    }
    for name, figure in drawn.items():
        save_figure(figure, folder / name)
    content = {
        **report.as_json(results, costs, favourite, budget=budget),
        "settings": settings,
        "provenance": provenance(),
    }
    write_atomically(folder / "report.md", "\n".join(map(markdown, results_told)))
    write_atomically(folder / "report.json", json.dumps(content, indent=2))
    size = f"{len(results)} problems of {len(set(costs.kinds))} kinds, tau = {tau:g}."
    write_report(
        folder,
        f"{favourite} on the suite of problems",
        {"Results": [size, *tables]},
        FIGURES,
        settings=settings,
        made_with=content["provenance"],
    )
    out.print(f"{size} Figures, report.md and report.html: {folder}", soft_wrap=True)
    return content


def _competitors(args: argparse.Namespace) -> tuple[list[Any], str]:
    """Who takes part, and whom the tables are about."""
    from jax_lbfgs_pi.bench import FAVOURITE, SCIPY_BFGS, bench_competitors, policy_entrant

    known = bench_competitors(args.memory)
    names = args.against or [name for name in known if name != SCIPY_BFGS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"Unknown competitor {unknown[0]!r}: choose among {', '.join(known)}.")
    entrants = [policy_entrant(policy, memory_size=args.memory) for policy in args.policy]
    if not entrants and FAVOURITE not in names:
        names = [*names, FAVOURITE]
    names = list(dict.fromkeys(names))
    favourite = entrants[0].name if entrants else FAVOURITE
    return [*(known[name] for name in names), *entrants], favourite


def _problems(args: argparse.Namespace) -> Sequence[str]:
    """The names of the problems, the first few of each kind."""
    from jax_lbfgs_pi.suite import list_problems

    split = None if args.suite == "all" else args.suite
    kinds = args.kinds.split(",") if args.kinds else None
    return list_problems(split, kinds, per_kind=args.problems)
