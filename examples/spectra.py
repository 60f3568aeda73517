"""Five hundred spectra fitted at once: python -m examples.spectra.

Three Gaussian peaks on a sloping line, 11 parameters each, from one guess for all. Under `vmap`
every fit takes a step at a time; a line search would make all wait for the slowest. What matters
is how long it takes until nearly all of the fits are done.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jax_lbfgs_pi as lp
from benchmarks.solvers import Problem, ours
from examples.beside import everyone, keep, race, repeated
from jax_lbfgs_pi.evaluation.figures import finish_axes

GUESS = {
    "height": np.ones(3),
    "place": np.array([2.0, 5.0, 8.0]),
    "log_width": np.zeros(3),
    "line": np.zeros(2),
}


def model(params, t):
    """The spectrum at the frequencies t."""
    apart = (t[:, None] - params["place"]) / jnp.exp(params["log_width"])
    peaks = jnp.exp(-0.5 * apart**2) @ params["height"]
    return peaks + params["line"][0] + params["line"][1] * t


def loss(params, data):
    """The mean squared residual."""
    return jnp.mean((model(params, data["t"]) - data["y"]) ** 2)


def measured(num, seed=0):
    """Spectra with 5 % of noise, shape `(num, 100)`, and their frequencies."""
    rng = np.random.default_rng(seed)
    t = np.broadcast_to(np.linspace(0, 10, 100), (num, 100)).copy()
    place = GUESS["place"] + rng.uniform(-0.7, 0.7, (num, 3))
    width, height = rng.uniform(0.3, 1, (num, 3)), rng.uniform(0.5, 4, (num, 3))
    apart = (t[:, :, None] - place[:, None]) / width[:, None]
    y = (height[:, None] * np.exp(-0.5 * apart**2)).sum(2)
    y += rng.uniform(-0.5, 0.5, (num, 1)) + rng.uniform(-0.1, 0.1, (num, 1)) * t
    return {"t": t, "y": y + 0.05 * rng.normal(size=y.shape)}


@jax.jit
def fit(data):
    """All fits at once: this is what you would write."""
    return jax.vmap(lambda one: lp.minimize(loss, GUESS, (one,)))(data)


def draw(data, result):
    """Six of the fits, and how good all are."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    grid = figure.subplots(2, 4)
    for i, axes in enumerate(grid[:, :3].ravel()):
        params = jax.tree.map(lambda a, i=i: a[i], result.params)
        axes.plot(data["t"][i], data["y"][i], ".", color="#56B4E9", markersize=3)
        axes.plot(data["t"][i], model(params, data["t"][i]), color="black")
        finish_axes(axes, title=f"spectrum {i}")
    figure.delaxes(grid[1, 3])
    axes = grid[0, 3]
    axes.hist(np.sqrt(result.value), bins=np.linspace(0.03, 0.15, 25), color="#56B4E9")
    finish_axes(axes, title=f"{len(result.value)} fits", xlabel="root mean square residual")
    return figure


def main(num=500, seconds=20.0):
    """The fits, and the race."""
    jax.config.update("jax_enable_x64", True)
    data = measured(num)
    result = fit(data)
    names, counts = np.unique(np.asarray(result.status), return_counts=True)
    ends = {lp.Status(int(n)).name: int(c) for n, c in zip(names, counts, strict=True)}
    print(f"{num} fits end as {ends}; noise 0.05, median residual", end=" ")
    print(f"{np.median(np.sqrt(result.value)):.3f}; evaluations {np.median(result.num_evals):.0f}")
    keep(draw(data, result), "spectra")
    problem = Problem(loss, repeated(GUESS, num), data, share=0.95)
    makers = everyone(10, dense=ours(memory_size="dense"))
    title = f"{num} spectra, n = 11, to 1e-6 of the reduction, 95 % of them"
    return race(title, problem, makers, budget=150, seconds=seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=500)
    main(parser.parse_args().num)
