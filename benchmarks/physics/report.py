"""Table and figure of the races on the seven equations."""

import sys

import numpy as np
from matplotlib.figure import Figure

from benchmarks.physics.optimizers import OURS, SEARCHED
from jax_lbfgs_pi.cli.common import provenance
from jax_lbfgs_pi.evaluation import save_figure
from jax_lbfgs_pi.files import write_atomically


def middle(values):
    """The geometric median."""
    return float(np.exp(np.median(np.log(values))))


def first_at(level, run, axis):
    """Evaluations or seconds until f is at most `level`; infinity if never."""
    hits = np.flatnonzero(run.best <= level)
    return float(getattr(run, axis)[hits[0]]) if len(hits) else np.inf


def write_report(results, out, evals):
    """`report.md` and `losses.png`."""
    titles = list(dict.fromkeys(title for title, _, _ in results))
    names = list(dict.fromkeys(name for _, name, _ in results))
    seeds = sorted({seed for *_, seed in results})
    lines = [
        f"After {evals:,} evaluations, medians over {len(seeds)} starts: f, and the error of u",
        "",
        "| | " + " | ".join(titles) + " |",
        "|---" * (len(titles) + 1) + "|",
    ]
    for name in names:
        cells = []
        for title in titles:
            runs = [results[title, name, seed] for seed in seeds if (title, name, seed) in results]
            f, error = (
                middle(column)
                for column in zip(*((run.best[-1], error) for run, error in runs), strict=True)
            )
            cells.append(f"{f:.0e}, {error:.0e}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if {OURS, SEARCHED} <= set(names):
        lines += [
            "",
            f"Until f is what {SEARCHED} ends with: shares of its evaluations, seconds",
            "",
        ]
        lines += ["| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
        for axis in ("evals", "seconds"):
            cells = []
            for title in titles:
                shares = []
                for seed in seeds:
                    theirs, ours = (results[title, name, seed][0] for name in (SEARCHED, OURS))
                    level = theirs.best[-1]
                    own = first_at(level, theirs, axis)
                    shares.append(first_at(level, ours, axis) / own)
                share = np.median(shares)
                cells.append(f"{share:.2f}" if np.isfinite(share) else "not reached")
            lines.append(f"| {axis} | " + " | ".join(cells) + " |")
    told = provenance() | {"command": "python -m benchmarks.physics " + " ".join(sys.argv[1:])}
    lines += ["", str(told)]
    write_atomically(out / "report.md", "\n".join(lines) + "\n")
    rows = -(-len(titles) // 4)
    figure = Figure(figsize=(14, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, 4, squeeze=False)
    for ax, title in zip(axes.flat, titles, strict=False):
        for i, name in enumerate(names):
            for seed in seeds:
                run, _ = results[title, name, seed]
                label = name if seed == seeds[0] else None
                ax.plot(run.evals, run.best, color=f"C{i}", label=label, lw=1.2)
        ax.set(title=title, yscale="log", xlabel="evaluations", ylabel="f")
    for ax in axes.flat[len(titles) :]:
        ax.axis("off")
    axes.flat[0].legend(fontsize=7)
    save_figure(figure, out / "losses.png")
