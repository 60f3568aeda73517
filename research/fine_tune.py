"""Does a policy of one's own help? Five families: `python -m research.fine_tune`.

Families are drawn once; three fifths of the tasks are trained on, a fifth chosen by, a fifth held
out (`lp.fine_tune`). Finished families are kept in `--out`, and what was interrupted goes on.
"""

import argparse
import json
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.reproduce.tables import Table, markdown
from jax_lbfgs_pi.training.fine_tune_report import verdict_rows


class Decays:
    """Two exponentials and a constant, fitted to noisy points: 5 parameters."""

    def init(self, key):
        return jnp.array([1.0, 0.5, 1.0, 2.0, 0.0]) * (1 + 0.2 * jax.random.normal(key, (5,)))

    def loss(self, params, data):
        a, k, b, m, c = params
        model = a * jnp.exp(-jnp.exp(k) * data["t"]) + b * jnp.exp(-jnp.exp(m) * data["t"]) + c
        return jnp.mean((model - data["y"]) ** 2)


def decays(num=400):
    rng = np.random.default_rng(0)
    t = np.broadcast_to(np.linspace(0, 5, 60), (num, 60)).copy()
    ranges = ((0.5, 3), (0.5, 3), (0.2, 1), (1.5, 6), (-0.5, 0.5))
    a, b, k, m, c = (rng.uniform(*r, (num, 1)) for r in ranges)
    y = a * np.exp(-k * t) + b * np.exp(-m * t) + c + 0.02 * rng.normal(size=t.shape)
    return lp.TaskSet(Decays(), {"t": t, "y": y}, name="two decays, n = 5")


class Spectra:
    """Three Gaussian peaks on a line: 11 parameters in a dict."""

    def init(self, key):
        height, place = jax.random.split(key)
        return {
            "height": jnp.ones(3) + 0.1 * jax.random.normal(height, (3,)),
            "place": jnp.array([2.0, 5.0, 8.0]) + 0.3 * jax.random.normal(place, (3,)),
            "width": jnp.zeros(3),
            "line": jnp.zeros(2),
        }

    def loss(self, params, data):
        apart = (data["t"][:, None] - params["place"]) / jnp.exp(params["width"])
        peaks = jnp.sum(params["height"] * jnp.exp(-0.5 * apart**2), axis=1)
        model = peaks + params["line"][0] + params["line"][1] * data["t"]
        return jnp.mean((model - data["y"]) ** 2)


def spectra(num=400):
    rng = np.random.default_rng(1)
    t = np.broadcast_to(np.linspace(0, 10, 100), (num, 100)).copy()
    place = np.array([2.0, 5.0, 8.0]) + rng.uniform(-0.7, 0.7, (num, 3))
    width, height = rng.uniform(0.3, 1, (num, 3)), rng.uniform(0.5, 4, (num, 3))
    apart = (t[:, :, None] - place[:, None]) / width[:, None]
    y = (height[:, None] * np.exp(-0.5 * apart**2)).sum(2)
    y += rng.uniform(-0.5, 0.5, (num, 1)) + rng.uniform(-0.1, 0.1, (num, 1)) * t
    data = {"t": t, "y": y + 0.05 * rng.normal(size=y.shape)}
    return lp.TaskSet(Spectra(), data, name="spectra of three peaks, n = 11")


class Quadratics:
    """Separable, of condition numbers up to 1,000: 20 parameters."""

    def init(self, key):
        return jax.random.normal(key, (20,))

    def loss(self, params, data):
        return 0.5 * jnp.sum(data["h"] * (params - data["c"]) ** 2)


def quadratics(num=200):
    rng = np.random.default_rng(5)
    data = {"h": 10 ** rng.uniform(0, 3, (num, 20)), "c": rng.normal(size=(num, 20))}
    return lp.TaskSet(Quadratics(), data, name="quadratics, n = 20")


class Processes:
    """Marginal likelihood of four length scales, signal and noise: 6 parameters."""

    def init(self, key):
        return 0.3 * jax.random.normal(key, (6,))

    def loss(self, params, data):
        z = data["x"] / jnp.exp(params[:4])
        squares = jnp.sum((z[:, None] - z[None]) ** 2, -1)
        kernel = jnp.exp(2 * params[4] - 0.5 * squares)
        kernel += (jnp.exp(2 * params[5]) + 1e-6) * jnp.eye(len(z))
        factor = jnp.linalg.cholesky(kernel)
        alpha = jax.scipy.linalg.solve_triangular(factor, data["y"], lower=True)
        return (0.5 * jnp.sum(alpha**2) + jnp.sum(jnp.log(jnp.diag(factor)))) / len(z)


def processes(num=200):
    rng = np.random.default_rng(3)
    x = rng.uniform(-2, 2, (num, 40, 4))
    ways = rng.normal(size=(num, 4)) * 10 ** rng.uniform(-1, 0.5, (num, 4))
    y = np.sin(np.einsum("nmd,nd->nm", x, ways)) + 0.1 * rng.normal(size=(num, 40))
    y = (y - y.mean(1, keepdims=True)) / y.std(1, keepdims=True)
    return lp.TaskSet(Processes(), {"x": x, "y": y}, name="Gaussian processes, n = 6")


class Paths:
    """A path among obstacles by Fourier coefficients, short and smooth: 40 parameters."""

    def init(self, key):
        return 0.1 * jax.random.normal(key, (2, 20))

    def loss(self, params, data):
        s = jnp.linspace(0, 1, 100)
        waves = jnp.sin(jnp.pi * jnp.arange(1, 21)[:, None] * s) / 10.5
        path = jnp.stack([s * 10, 0 * s]) + params @ waves
        speed = jnp.diff(path, axis=1) * 99
        bend = jnp.diff(speed, axis=1) * 99
        apart = jnp.sum((path[:, :, None] - data["at"].T[:, None, :]) ** 2, 0)
        hit = jnp.mean(jnp.sum(5 * jnp.exp(-apart / data["size"] ** 2), 1))
        short, smooth = jnp.mean(jnp.sum(speed**2, 0)), jnp.mean(jnp.sum(bend**2, 0))
        return short / 100 + 1e-4 * smooth + hit


def paths(num=200):
    rng = np.random.default_rng(6)
    at = np.stack([rng.uniform(1, 9, (num, 6)), rng.uniform(-1.5, 1.5, (num, 6))], 2)
    data = {"at": at, "size": rng.uniform(0.5, 1.2, (num, 6))}
    return lp.TaskSet(Paths(), data, name="paths among obstacles, n = 40")


FAMILIES = {make.__name__: make for make in (decays, spectra, quadratics, processes, paths)}


def main():
    parser = argparse.ArgumentParser(prog="python -m research.fine_tune", description=__doc__)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--generations", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path("runs/research/fine_tune"))
    args = parser.parse_args()
    rows = []
    for name in args.families:
        path = args.out / name / "row.json"
        if not path.exists():
            tasks = FAMILIES[name]()
            config = lp.FineTuneConfig(generations=args.generations)
            tuned = lp.fine_tune(tasks, config=config, out=args.out / name)
            verdict = tuned.verdict
            saved = verdict.saved
            cells = [
                f"{saved.value:.0f} [{saved.low:.0f}, {saved.high:.0f}]",
                f"{verdict.room:.0f}",
            ]
            evals = " / ".join(row[1] for row in verdict_rows(tuned))
            row = [tasks.name, *cells, evals, "use it" if verdict.helps else "keep general"]
            path.write_text(json.dumps(row))
            print(name, verdict.sentence, flush=True)
        rows.append(json.loads(path.read_text()))
    header = ["tasks", "saved, %", "in hindsight, %", "evaluations, medians", "verdict"]
    text = markdown(Table("Trained / general / rule / optax.lbfgs", header, rows))
    (args.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
