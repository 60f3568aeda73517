"""Classes of problems to fine-tune a policy on, one of which is none."""

import jax
import jax.numpy as jnp
import numpy as np

import jax_lbfgs_pi as lp


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


class Classifiers:
    """Ridge logistic regression of 100 points: 10 parameters."""

    def init(self, key):
        return 0.1 * jax.random.normal(key, (10,))

    def loss(self, params, data):
        margins = data["labels"] * (data["x"] @ params)
        return jnp.mean(jax.nn.softplus(-margins)) + 0.05 * jnp.sum(params**2)


def classifiers(num=300):
    rng = np.random.default_rng(7)
    x = rng.normal(size=(num, 100, 10))
    scores = np.einsum("nmd,nd->nm", x, rng.normal(size=(num, 10)))
    labels = np.sign(scores + rng.logistic(size=scores.shape))
    return lp.TaskSet(Classifiers(), {"x": x, "labels": labels}, name="ridge classifiers, n = 10")


class Counts:
    """Poisson regression of 60 counts with an exposure: 6 parameters."""

    def init(self, key):
        return 0.1 * jax.random.normal(key, (6,))

    def loss(self, params, data):
        rate = data["x"] @ params
        return jnp.mean(data["exposure"] * jnp.exp(rate) - data["counts"] * rate)


def counts(num=300):
    rng = np.random.default_rng(8)
    x = np.concatenate([np.ones((num, 60, 1)), rng.normal(size=(num, 60, 5))], 2)
    exposure = rng.uniform(0.5, 2, (num, 60))
    rate = exposure * np.exp(np.einsum("nmd,nd->nm", x, 0.3 * rng.normal(size=(num, 6))))
    data = {"x": x, "exposure": exposure, "counts": rng.poisson(rate).astype(float)}
    return lp.TaskSet(Counts(), data, name="Poisson regressions, n = 6")


class Valleys:
    """Rosenbrock's function, its valley bent and steep by chance: 2 parameters."""

    def init(self, key):
        return jax.random.uniform(key, (2,), minval=-2.0, maxval=2.0)

    def loss(self, params, data):
        x, y = params
        return data["steep"] * (y - data["bend"] * x**2) ** 2 + (data["at"] - x) ** 2


def valleys(num=300):
    rng = np.random.default_rng(9)
    data = {
        "steep": 10 ** rng.uniform(0, 2, num),
        "bend": rng.uniform(0.5, 1.5, num),
        "at": rng.uniform(0.5, 1.5, num),
    }
    return lp.TaskSet(Valleys(), data, name="valleys, n = 2")


class Medley:
    """What is no class: quadratics, valleys, robust fits and wells by turns; 10 parameters."""

    def init(self, key):
        return jax.random.uniform(key, (10,), minval=-2.0, maxval=2.0)

    def loss(self, params, data):
        x = params - data["at"]
        kinds = (
            0.5 * jnp.sum(data["h"] * x**2),
            jnp.sum(data["h"][1:] * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
            jnp.sum(jnp.sqrt(1 + (data["A"] @ x - data["h"]) ** 2)),
            jnp.sum(0.25 * x**4 - 0.5 * x**2) + 0.1 * jnp.sum((data["A"] @ x) ** 2),
        )
        return jnp.sum(data["kind"] * jnp.stack(kinds))


def medley(num=300):
    rng = np.random.default_rng(10)
    data = {
        "kind": np.eye(4)[rng.integers(4, size=num)],
        "h": 10 ** rng.uniform(0, 2, (num, 10)),
        "at": 0.3 * rng.normal(size=(num, 10)),
        "A": rng.normal(size=(num, 10, 10)),
    }
    return lp.TaskSet(Medley(), data, name="four kinds mixed, n = 10")


class Whitened:
    """Least squares on whitened inputs: 10 parameters of one curvature."""

    def init(self, key):
        return jax.random.normal(key, (10,))

    def loss(self, params, data):
        return 0.5 * jnp.mean((data["x"] @ params - data["y"]) ** 2)


def whitened(num=300):
    rng = np.random.default_rng(11)
    x = np.linalg.qr(rng.normal(size=(num, 50, 10)))[0] * np.sqrt(50)
    y = np.einsum("nmd,nd->nm", x, rng.normal(size=(num, 10))) + 0.3 * rng.normal(size=(num, 50))
    return lp.TaskSet(Whitened(), {"x": x, "y": y}, name="whitened regressions, n = 10")


class Ripples:
    """Rastrigin's function: which of its many minima a run ends in is chance; 4 parameters."""

    def init(self, key):
        return jax.random.uniform(key, (4,), minval=-3.0, maxval=3.0)

    def loss(self, params, data):
        x = params - data["at"]
        return jnp.sum(x**2 + 10 * (1 - jnp.cos(2 * jnp.pi * x)))


def ripples(num=300):
    at = np.random.default_rng(12).normal(size=(num, 4))
    return lp.TaskSet(Ripples(), {"at": at}, name="Rastrigin, n = 4")


MAKERS = (
    decays, spectra, quadratics, processes, paths, classifiers, counts, valleys, medley, whitened,
    ripples,
)  # fmt: skip
FAMILIES = {make.__name__: make for make in MAKERS}
