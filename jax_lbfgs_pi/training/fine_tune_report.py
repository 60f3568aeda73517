"""What a training on one class of problems says: a table, figures, and the policy's card."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jax_lbfgs_pi.bench.costs import Costs
from jax_lbfgs_pi.bench.figures import profile_data
from jax_lbfgs_pi.evaluation.figures import finish_axes
from jax_lbfgs_pi.evaluation.statistics import median
from jax_lbfgs_pi.evaluation.tables import Table, markdown
from jax_lbfgs_pi.tasks.base import TaskSet
from jax_lbfgs_pi.training.development import TRAINED
from jax_lbfgs_pi.training.fine_tune import FineTuned
from jax_lbfgs_pi.training.verdict import share_first


def verdict_table(tuned: FineTuned) -> Table:
    """By optimizer: median evaluations, tasks solved, how often the trained policy is first."""
    mine, rows = tuned.verdict.evals[TRAINED], []
    for name, evals in tuned.verdict.evals.items():
        typical = float(median(evals))
        first = "" if name == TRAINED else f"{share_first(mine, evals):.0%}"
        cost = f"{typical:.0f}" if np.isfinite(typical) else "∞"
        rows.append([name, cost, f"{np.mean(np.isfinite(evals)):.0%}", first])
    title = f"{len(mine)} held-out tasks, to {tuned.verdict.target:g} of the reduction of f"
    return Table(title, ["", "evaluations", "solved", "the trained one is first"], rows)


def profile(tuned: FineTuned) -> Figure:
    """The share of held-out tasks solved against evaluations, Moré and Wild's data profile."""
    evals = tuned.verdict.evals
    num = len(evals[TRAINED])
    costs = Costs(
        problems=tuple(f"task {i}" for i in range(num)),
        kinds=("held-out",) * num,
        num_variables=(1,) * num,
        names=tuple(evals),
        evals=np.stack(list(evals.values()), axis=1),
    )
    return profile_data(costs, TRAINED, budget=2 * tuned.num_evals)


def progress(tuned: FineTuned) -> Figure:
    """What the looks at the development tasks saw: evaluations saved, by generation."""
    checks = tuned.checks
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    generations = [check.generation for check in checks]
    axes.plot(generations, [check.saved for check in checks], color="black", marker="o", ms=3)
    best = [check for check in checks if check.best]
    if best:
        axes.plot(best[-1].generation, best[-1].saved, "D", color="#D55E00", label="kept")
        axes.legend(frameon=False)
    axes.axhline(0.0, color="0.6", linewidth=0.8)
    label = "% fewer evaluations, development tasks"
    finish_axes(axes, xlabel="generations", ylabel=label)
    return figure


def card(tasks: TaskSet, tuned: FineTuned, summary: dict[str, Any]) -> str:
    """The policy's card, in Markdown."""
    about = summary["provenance"]
    made = ", ".join(
        f"{name} {about[name]}" for name in ("jax", "optax", "python") if name in about
    )
    return "\n".join([
        f"# A policy for {tasks.name}",
        "",
        tuned.verdict.sentence,
        "",
        markdown(verdict_table(tuned)),
        f"{len(tasks)} tasks: three fifths to train on, a fifth to choose by, a fifth held out, of "
        f"which the table is. Solved: f within {tuned.verdict.target:g} of its reduction from the "
        f"least found. {summary['generations']} generations of evolution strategies from "
        f"`{summary['start']}`, runs of {tuned.num_evals} evaluations. `{about['command']}`, "
        f"{about['date']}; {made}, {about['device']}.",
        "",
    ])  # fmt: skip
