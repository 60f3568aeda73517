"""Time to solution, which is what users feel: seconds to the same f, compilation apart.

Each solver runs until f is within a share of the reduction of the least f that any of them found,
and what is timed is the whole run, in the form that its users run: one compiled program, or a
compiled objective that Python asks. L-BFGS-π is called as it comes, and all others have as many
pairs, 20 up to 10⁴ variables and 10 above; but up to 400 it keeps them all, which they cannot.
SciPy and PyTorch run with one thread and with one for each core, and the faster counts.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

import jax_lbfgs_pi as lp
from benchmarks import peers
from benchmarks.batch_problems import rosenbrock
from benchmarks.host_solvers import scipy_solver, torch_lbfgs
from benchmarks.report import Options, table
from benchmarks.solvers import Maker, Problem, jaxopt_lbfgs, optimistix_solver, ours, zoom
from benchmarks.to_target import make_field, race_to
from jax_lbfgs_pi import trees
from jax_lbfgs_pi.evaluation.figures import finish_axes
from jax_lbfgs_pi.suite import get_problem
from jax_lbfgs_pi.transform import default_memory

OURS = "L-BFGS-π"
PEERS = ("optax", "jaxopt", "optimistix", "torch", "SciPy")
LEVELS = (1e-3, 1e-6)


def from_suite(name: str) -> Problem:
    """The problem of this name."""
    problem = get_problem(name)
    return Problem(problem.loss, problem.x0, problem.data)


def network(depth: int, width: int, num_images: int) -> Problem:
    """The paper's network on the first test task of MNIST with so many images."""
    tasks = lp.get_tasks("mnist", "test", num_tasks=1, size=(depth, width), batch_size=num_images)
    data, x0 = tasks[0]
    return Problem(tasks.task.loss, x0, data)


def chained_rosenbrock(n: int) -> Problem:
    """From the point that is usual: -1.2, 1, -1.2, ..."""
    return Problem(rosenbrock, np.resize([-1.2, 1.0], n), None)


Entry = tuple[str, Callable[[], Problem], int]
"""Title, how to make it, and the budget in evaluations."""
SMALL: tuple[Entry, ...] = (
    ("logistic", lambda: from_suite("logistic-cancer-0"), 500),
    ("Gaussian process", lambda: from_suite("gp-sine-0"), 500),
    ("physics-informed", lambda: from_suite("pinn-burgers-0"), 1000),
    ("matrix factors", lambda: from_suite("matrix-factorisation-0"), 500),
    ("Rosenbrock 10", lambda: chained_rosenbrock(10), 500),
)
LARGE: tuple[Entry, ...] = (("Rosenbrock 10⁵", lambda: chained_rosenbrock(100_000), 500),)
MNIST: tuple[Entry, ...] = (
    ("MNIST (1, 20)", lambda: network(1, 20, 1000), 300),
    ("MNIST (2, 400)", lambda: network(2, 400, 100), 80),
)


def makers(memory_size: int) -> dict[str, Maker]:
    """Everyone who is installed; those with a choice of threads once for each."""
    threads = sorted({1, peers.num_cores()})
    out = {OURS: ours(), "optax": zoom(memory_size)}
    if peers.load("jaxopt") is not None:
        out["jaxopt"] = jaxopt_lbfgs(memory_size)
    if peers.load("optimistix") is not None:
        out["optimistix"] = optimistix_solver("LBFGS", history_length=memory_size)
    for num in threads:
        if peers.load("torch") is not None:
            out[f"torch/{num}"] = torch_lbfgs(memory_size, threads=num)
        out[f"SciPy/{num}"] = scipy_solver("L-BFGS-B", threads=num, maxcor=memory_size)
    return out


def race(title: str, problem: Problem, budget: int, levels: Any, seconds: float) -> dict[str, Any]:
    """Everyone to each level: evaluations, seconds and their spread by name, None where missed."""
    pairs = default_memory(problem.x0, guarded=False)
    field = make_field(problem, makers(pairs), budget=budget)
    out: dict[str, Any] = {
        "name": title,
        "budget": budget,
        "variables": trees.size(problem.x0),
        "compile_seconds": field.compile_seconds,
        "values": {name: float(value) for name, value in field.values.items()},
        "levels": {},
    }
    for level in levels:
        outcome = race_to(field, level, seconds=seconds, repetitions=3)
        out["levels"][f"{level:.0e}".replace("e-0", "e-")] = {
            "target": float(outcome.targets),
            "evals": {
                k: int(v.num_evals) if v.reached else None for k, v in outcome.solved.items()
            },
            **outcome.timing._asdict(),
        }
    return out


def measure(options: Options) -> dict[str, Any]:
    """Races on eight problems, on the first when it must be quick."""
    entries = list(SMALL[:1] if options.quick else SMALL + LARGE)
    notes = peers.missing("jaxopt", "optimistix", "torch")
    if not options.quick and os.environ.get("TFDS_DATA_DIR"):
        entries += MNIST
    elif not options.quick:
        notes.append("The networks on MNIST are left out: set TFDS_DATA_DIR to where it is.")
    levels, seconds = (LEVELS[1:], 0.5) if options.quick else (LEVELS, 6.0)
    rows = [
        race(title, make(), budget, levels, seconds)
        for title, make, budget in options.track(entries, "solution")
    ]
    return {"races": rows, "notes": notes}


def best(times: dict[str, float], peer: str) -> float | None:
    """The seconds of a peer with the number of threads that suits it."""
    mine = [seconds for name, seconds in times.items() if name.partition("/")[0] == peer]
    return min(mine, default=None)


def table_rows(results: dict[str, Any]) -> list[tuple[str, list[str], list[list[Any]]]]:
    """Milliseconds of ours and how many times as long the others take; evaluations; compiling.

    Of each table the title, the header and the rows.
    """
    timed, evals, compiling = [], [], []
    for row in results["races"]:
        for level, outcome in row["levels"].items():
            times, mine = outcome["seconds"], outcome["seconds"].get(OURS)
            theirs = [best(times, peer) for peer in PEERS]
            ratios = [None if t is None or mine is None else t / mine for t in theirs]
            timed.append([row["name"], level, None if mine is None else 1e3 * mine, *ratios])
            counts = {name: n for name, n in outcome["evals"].items() if n is not None}
            evals.append([row["name"], level, *(best(counts, name) for name in (OURS, *PEERS))])
        compiling.append(
            [row["name"], *(best(row["compile_seconds"], name) for name in (OURS, *PEERS))]
        )
    title = "solution: ms of L-BFGS-π to one f, times as long of others"
    return [
        (title, ["problem", "to", "ms", *PEERS], timed),
        ("solution: evaluations of f and its gradient", ["problem", "to", "ours", *PEERS], evals),
        ("solution: seconds of compilation", ["problem", "ours", *PEERS], compiling),
    ]


def tables(results: dict[str, Any]) -> list[Table]:
    """Those of `table_rows`."""
    return [table(*parts) for parts in table_rows(results)]


# Okabe & Ito's colours, and a marker that tells without them.
_LOOKS = {
    OURS: ("#D55E00", "o"), "optax": ("#000000", "s"), "jaxopt": ("#0072B2", "^"),
    "optimistix": ("#009E73", "D"), "torch": ("#CC79A7", "v"), "SciPy": ("#E69F00", "X"),
}  # fmt: skip


def figures(results: dict[str, Any]) -> dict[str, Figure]:
    """How many times as long as L-BFGS-π each takes, a row for each problem."""
    rows = results["races"]
    levels = list(rows[0]["levels"])
    figure = Figure(figsize=(4.6 * len(levels) + 1.4, 0.45 * len(rows) + 1.6), layout="constrained")
    grid = figure.subplots(1, len(levels), sharey=True, squeeze=False)[0]
    for axes, level in zip(grid, levels, strict=True):
        for name, (colour, marker) in _LOOKS.items():
            points = [
                (seconds / row["levels"][level]["seconds"][OURS], i)
                for i, row in enumerate(rows)
                if OURS in row["levels"][level]["seconds"]
                and (seconds := best(row["levels"][level]["seconds"], name)) is not None
            ]
            if points:
                axes.plot(*zip(*points, strict=True), marker, color=colour, label=name)
        axes.set_xscale("log")
        axes.axvline(1.0, color="#999999", linewidth=0.8, zorder=0)
        finish_axes(axes, title=f"to {level} of the reduction",
                    xlabel="seconds, as multiples of L-BFGS-π's")  # fmt: skip
    grid[0].set_yticks(range(len(rows)), [row["name"] for row in rows])
    grid[0].invert_yaxis()
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return {"solution": figure}
