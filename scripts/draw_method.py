"""Draws the figures of docs/method.md: `python -m scripts.draw_method`.

Each is of a run on Rosenbrock's function, in float64; `runs` has the numbers that the page quotes.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from matplotlib.figure import Figure

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.evaluation.figures import finish_axes

FOLDER = Path(__file__).parent.parent / "docs" / "figures"
START = (-1.2, 1.0)
TARGET = 1e-10
OURS, PEER, REJECTED = "#000000", "#E69F00", "#D55E00"


class Run(NamedTuple):
    """A run of an optimizer, an entry for each evaluation.

    Attributes:
      x: the points, shape `(k, n)`.
      value: f there, shape `(k,)`.
      rejected: whether the optimizer went back from there, shape `(k,)`.
      step_size: t of the step that led there, shape `(k,)`; NaN at the start and if unknown.
      ends: where a step ended, the last evaluation of a line search, shape `(k,)`.
    """

    x: np.ndarray
    value: np.ndarray
    rejected: np.ndarray
    step_size: np.ndarray
    ends: np.ndarray

    def evals_to(self, target: float) -> int:
        """Evaluations until f is at most `target`, which it must be at some point."""
        return int(np.flatnonzero(self.value <= target)[0]) + 1


def rosenbrock(x: jax.Array) -> jax.Array:
    """Rosenbrock's function of any number of variables."""
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def ours(start: np.ndarray, *, target: float = TARGET, most: int = 300, **options: Any) -> Run:
    """Every trial of L-BFGS-π, to the target."""
    tx = lp.lbfgs_pi(**options)
    x = jnp.asarray(start)
    state = tx.init(x)

    @jax.jit
    def step(x: jax.Array, state: Any) -> tuple[jax.Array, Any, jax.Array]:
        value, grads = jax.value_and_grad(rosenbrock)(x)
        updates, state = tx.update(grads, state, x, value=value)
        return optax.apply_updates(x, updates), state, value

    points, values, rejected, sizes, retreats = [], [], [], [np.nan], 0
    while len(values) < most and not (values and values[-1] <= target):
        points.append(np.asarray(x))
        x, state, value = step(x, state)
        values.append(float(value))
        rejected.append(int(state[0].num_retreats) > retreats)
        retreats = int(state[0].num_retreats)
        sizes.append(float(state[0].step_size))
    verdicts = np.array(rejected)
    return Run(np.array(points), np.array(values), verdicts, np.array(sizes[:-1]), ~verdicts)


def zoom(start: np.ndarray, *, target: float = TARGET, most: int = 300) -> Run:
    """Every evaluation of `optax.lbfgs`, those of its line search among them."""
    points: list[np.ndarray] = []

    @jax.custom_jvp
    def f(x: jax.Array) -> jax.Array:
        return rosenbrock(x)

    @f.defjvp
    def with_slope(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
        jax.debug.callback(lambda x: points.append(np.asarray(x)), primals[0], ordered=True)
        return jax.jvp(rosenbrock, primals, tangents)

    tx = optax.lbfgs()
    x = jnp.asarray(start)
    state = tx.init(x)
    value_and_grad = optax.value_and_grad_from_state(f)

    @jax.jit
    def step(x: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        value, grads = value_and_grad(x, state=state)
        updates, state = tx.update(grads, state, x, value=value, grad=grads, value_fn=f)
        return optax.apply_updates(x, updates), state

    ends: list[bool] = []
    while len(points) < most and not (points and rosenbrock(points[-1]) <= target):
        x, state = step(x, state)
        jax.effects_barrier()
        ends += [False] * (len(points) - len(ends) - 1) + [True]
        ends[0] = True  # the start
    values = np.array([float(rosenbrock(p)) for p in points])
    nothing = np.full(len(values), np.nan)
    return Run(np.array(points), values, np.zeros(len(values), bool), nothing, np.array(ends))


@functools.cache
def runs() -> dict[str, Run]:
    """The runs of the figures, by name."""
    with jax.enable_x64(True):
        return {
            "plane": ours(np.array(START)),
            "zoom": zoom(np.array(START)),
            "many": ours(np.zeros(50)),
            "rule": ours(np.zeros(50), policy="rule"),
        }


def draw_iterates() -> Figure:
    """Iterates in the plane, and f against evaluations."""
    found = runs()
    figure = Figure(figsize=(5.6, 5.2), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[1.2, 1.0])
    axes = [figure.add_subplot(place) for place in (grid[0, 0], grid[0, 1], grid[1, :])]
    u, v = np.meshgrid(np.linspace(-1.6, 1.6, 161), np.linspace(-0.7, 1.8, 126))
    height = np.log10(100.0 * (v - u**2) ** 2 + (1.0 - u) ** 2 + 1e-2)
    named = (("plane", "L-BFGS-π", OURS), ("zoom", "optax.lbfgs", PEER))
    for ax, (name, title, colour) in zip(axes, named, strict=False):
        run = found[name]
        ax.contour(u, v, height, levels=12, colors="0.8", linewidths=0.7)
        ax.plot(*run.x[run.ends].T, color=colour, linewidth=1.2, marker="o", markersize=3)
        aside = run.x[~run.ends]
        if aside.size:
            ax.plot(*aside.T, "x", color=REJECTED, markersize=5, label="evaluated on the way")
            ax.legend(loc="lower center", frameon=False, fontsize=8)
        ax.plot(1.0, 1.0, "*", color="0.3", markersize=9)
        ax.set(xlim=(-1.6, 1.6), ylim=(-0.7, 1.8))
        evals = run.evals_to(TARGET)
        finish_axes(ax, title=f"{title}: {evals} evaluations", xlabel="x₁", ylabel="x₂")
        axes[2].semilogy(np.arange(1, evals + 1), run.value[:evals], color=colour, label=title)
        axes[2].semilogy(
            1 + np.flatnonzero(~run.ends[:evals]), run.value[:evals][~run.ends[:evals]], "x",
            color=REJECTED, markersize=5,
        )  # fmt: skip
    axes[2].legend(frameon=False)
    finish_axes(axes[2], xlabel="evaluations of f and its gradient", ylabel="f")
    return figure


def draw_line() -> Figure:
    """A rejected trial: f along its line, the cubic, and where the next trial lies."""
    run = runs()["many"]
    at = int(np.flatnonzero(run.rejected)[-1])
    start, trial, following = run.x[at - 1], run.x[at], run.x[at + 1]
    with jax.enable_x64(True):
        slopes = [float(jax.grad(rosenbrock)(x) @ (trial - start)) for x in (start, trial)]
        share = float((following - start) @ (trial - start) / ((trial - start) @ (trial - start)))
        along = np.linspace(-0.05, 1.05, 200)
        values = [float(rosenbrock(start + a * (trial - start))) for a in along]
    rise = run.value[at] - run.value[at - 1]
    c2, c3 = 3 * rise - 2 * slopes[0] - slopes[1], slopes[0] + slopes[1] - 2 * rise
    cubic = run.value[at - 1] + slopes[0] * along + c2 * along**2 + c3 * along**3
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    ax = figure.subplots()
    ax.plot(along, values, color="0.8", linewidth=5, label="f along the step")
    ax.plot(along, cubic, "--", color=PEER, label="cubic through both values and slopes")
    ax.plot(0.0, run.value[at - 1], "o", color=OURS, label="last accepted point")
    ax.plot(1.0, run.value[at], "x", color=REJECTED, markersize=8, label="trial, rejected")
    ax.plot(share, run.value[at + 1], "D", color="#0072B2", label="next trial")
    ax.legend(frameon=False, fontsize=8)
    finish_axes(ax, xlabel="share of the step", ylabel="f")
    return figure


def draw_sizes() -> Figure:
    """Of 50 variables, f and step sizes along two runs: the rule's and the learned policy's."""
    figure = Figure(figsize=(5.6, 5.0), layout="constrained")
    grid = figure.subplots(2, 2, sharex="col", sharey="row")
    titles = {"rule": "the rule", "many": "general"}
    for column, (name, title) in zip(grid.T, titles.items(), strict=True):
        run = runs()[name]
        number, accepted = np.arange(1, len(run.value) + 1), ~run.rejected
        for ax, y in zip(column, (run.value, run.step_size), strict=True):
            ax.semilogy(number[accepted], y[accepted], color="0.7", linewidth=0.8)
            ax.semilogy(number[accepted], y[accepted], "o", color=OURS, markersize=2.5)
            ax.semilogy(number[run.rejected], y[run.rejected], "x", color=REJECTED, markersize=4)
        column[1].axhline(1.0, color="0.7", linewidth=0.8, linestyle=":")
        rejections = int(run.rejected.sum())
        finish_axes(
            column[0],
            title=f"{title}\n{len(number)} evaluations, {rejections} rejected",
            ylabel="f",
        )
        finish_axes(column[1], xlabel="evaluations", ylabel="t")
    for ax in grid[:, 1]:
        ax.set_ylabel("")
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "iterates": draw_iterates,
    "line": draw_line,
    "sizes": draw_sizes,
}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "method", "font.size": 9}):
        for figure_name, draw in FIGURES.items():
            draw().savefig(FOLDER / f"{figure_name}.svg", metadata={"Date": None})
