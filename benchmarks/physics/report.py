"""Table and figure of the races on the seven equations."""

import sys

import numpy as np
from matplotlib.figure import Figure

from benchmarks.physics.optimizers import OURS, SEARCHED
from jax_lbfgs_pi.bench.figures import style
from jax_lbfgs_pi.cli.common import provenance
from jax_lbfgs_pi.evaluation import save_figure
from jax_lbfgs_pi.evaluation.figures import finish_axes
from jax_lbfgs_pi.evaluation.tables import Table, markdown
from jax_lbfgs_pi.files import write_atomically


def middle(values):
    """The geometric median."""
    return float(np.exp(np.median(np.log(values))))


def first_at(level, run, axis):
    """Evaluations or seconds until f is at most `level`; infinity if never."""
    hits = np.flatnonzero(run.best <= level)
    return float(getattr(run, axis)[hits[0]]) if len(hits) else np.inf


def ends(results, names, titles, seeds, evals):
    """F and the error of the solution, for each optimizer and equation."""

    def cell(name, title):
        columns = zip(*((run.best[-1], error) for run, error in
                        (results[title, name, seed] for seed in seeds)), strict=True)  # fmt: skip
        return "{:.0e}, {:.0e}".format(*map(middle, columns))

    caption = f"After {evals:,} evaluations, medians over {len(seeds)} starts: f, error of u"
    rows = [[name, *(cell(name, title) for title in titles)] for name in names]
    return Table(caption, ["", *titles], rows)


def ratios(results, names, titles, seeds, evals):
    """F of each optimizer over ours, start by start."""

    def cell(name, title):
        found = sorted(
            results[title, name, seed][0].best[-1] / results[title, OURS, seed][0].best[-1]
            for seed in seeds
        )
        return f"{middle(found):.2g} [{found[0]:.2g}, {found[-1]:.2g}]"

    caption = f"f over that of {OURS} after {evals:,} evaluations: median [least, greatest]"
    rows = [[name, *(cell(name, title) for title in titles)] for name in names if name != OURS]
    return Table(caption, ["", *titles], rows)


def shares(results, titles, seeds):
    """What share of the searched optimizer's evaluations and seconds ours takes to its last f."""

    def cell(axis, title):
        found = []
        for seed in seeds:
            theirs, ours = (results[title, name, seed][0] for name in (SEARCHED, OURS))
            level = theirs.best[-1]
            found.append(first_at(level, ours, axis) / first_at(level, theirs, axis))
        share = np.median(found)
        return f"{share:.2f}" if np.isfinite(share) else "not reached"

    caption = f"Until f is what {SEARCHED} ends with: shares of its evaluations, seconds"
    rows = [[axis, *(cell(axis, title) for title in titles)] for axis in ("evals", "seconds")]
    return Table(caption, ["", *titles], rows)


def write_report(results, out, evals):
    """`report.md` and `losses.png`."""
    titles = list(dict.fromkeys(title for title, _, _ in results))
    names = list(dict.fromkeys(name for _, name, _ in results))
    seeds = sorted({seed for *_, seed in results})
    tables = [ends(results, names, titles, seeds, evals)]
    if OURS in names:
        tables.append(ratios(results, names, titles, seeds, evals))
    if {OURS, SEARCHED} <= set(names):
        tables.append(shares(results, titles, seeds))
    told = provenance() | {"command": "python -m benchmarks.physics " + " ".join(sys.argv[1:])}
    text = "\n".join([*map(markdown, tables), f"{told}\n"])
    write_atomically(out / "report.md", text)
    draw(results, names, titles, seeds, out / "losses.png")


def draw(results, names, titles, seeds, path):
    """F against evaluations, an equation each."""
    rows = -(-len(titles) // 4)
    figure = Figure(figsize=(14, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, 4, squeeze=False)
    for ax, title in zip(axes.flat, titles, strict=False):
        for i, name in enumerate(names):
            for seed in seeds:
                run, _ = results[title, name, seed]
                look = style(i) | {"linewidth": 1.6 if i == 0 else 1.0}
                look["markevery"] = (len(run.evals) // 9 * i // len(names), len(run.evals) // 9 + 1)
                first = 0
                if len(run.evals) <= 2:  # of some only the end is known
                    look, first = look | {"linestyle": "", "markevery": None}, 1
                label = name if seed == seeds[0] else None
                ax.plot(run.evals[first:], run.best[first:], label=label, **look)
        ax.set_yscale("log")
        finish_axes(ax, title=title, xlabel="evaluations", ylabel="f")
    lines = axes.flat[0].get_legend_handles_labels()
    for ax in axes.flat[len(titles) :]:
        ax.axis("off")
    if len(titles) % 4:  # there is room
        axes.flat[-1].legend(*lines, loc="center", frameon=False)
    else:
        figure.legend(*lines, loc="outside right upper", frameon=False)
    save_figure(figure, path)
