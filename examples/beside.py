"""What the examples have in common: who is beside us, the table, the figure's place."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from benchmarks import peers
from benchmarks.host_solvers import scipy_solver
from benchmarks.report import table
from benchmarks.solvers import Maker, Problem, jaxopt_lbfgs, ours, zoom
from benchmarks.to_target import Outcome, compare_to_target, rows
from jax_lbfgs_pi.evaluation.figures import save_figure

FIGURES = Path("docs/figures")
HEADER = ("", "there, %", "evaluations", "seconds", "compiling, s")


def everyone(memory_size: int, *, bfgs: bool = True, **others: Maker) -> dict[str, Maker]:
    """The default, ours with so many pairs, and who has as many; `others` at the end.

    With `bfgs` SciPy's BFGS too, whose H has n² numbers.
    """
    makers = {
        "L-BFGS-π": ours(),
        f"L-BFGS-π, m = {memory_size}": ours(memory_size=memory_size),
        "optax.lbfgs": zoom(memory_size),
        "SciPy L-BFGS-B": scipy_solver("L-BFGS-B", maxcor=memory_size),
    }
    if peers.load("jaxopt") is not None:
        makers["jaxopt.LBFGS"] = jaxopt_lbfgs(memory_size)
    if bfgs:
        makers["SciPy BFGS"] = scipy_solver("BFGS")
    return makers | others


def repeated(tree: Any, num: int) -> Any:
    """The tree for each problem of a batch."""
    return jax.tree.map(lambda a: np.broadcast_to(a, (num, *np.shape(a))), tree)


def race(
    title: str, problem: Problem, makers: dict[str, Maker], **options: Any
) -> dict[str, Outcome]:
    """Runs all to the same f, as `compare_to_target`, and prints the table; by its title."""
    outcome = compare_to_target(problem, makers, **options)
    show(title, HEADER, rows(outcome))
    return {title: outcome}


def show(title: str, header: Sequence[str], lines: list[list[Any]]) -> dict[str, list[list[Any]]]:
    """Prints a table; the header and its lines by the title."""
    Console(width=80).print(table(title, header, lines))
    return {title: [list(header), *lines]}


def keep(figure: Any, name: str) -> None:
    """Writes the figure and says where."""
    FIGURES.mkdir(parents=True, exist_ok=True)
    print("Figure:", save_figure(figure, FIGURES / f"{name}.png"))
