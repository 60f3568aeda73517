"""Hyper-parameters of a Gaussian process from 32 starts: python -m examples.gaussian_process.

Ten length scales, a signal and a noise by marginal likelihood, on scikit-learn's diabetes data.
Likelihoods have several maxima, so one starts from many points; here all start at once, in one
`vmap`, and the best is kept.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jax_lbfgs_pi as lp
from benchmarks.solvers import Problem
from examples.beside import everyone, keep, race, repeated
from jax_lbfgs_pi.evaluation.figures import finish_axes

JITTER = 1e-6


def kernel(params, a, b):
    """Squared-exponential, a length scale for each input."""
    a, b = (x / jnp.exp(params["log_length"]) for x in (a, b))
    squares = jnp.sum(a**2, 1)[:, None] + jnp.sum(b**2, 1) - 2 * a @ b.T
    return jnp.exp(2 * params["log_signal"] - 0.5 * squares)


def factor_of(params, x):
    """The Cholesky factor of the covariance of noisy values at x."""
    noise = jnp.exp(2 * params["log_noise"]) + JITTER
    return jnp.linalg.cholesky(kernel(params, x, x) + noise * jnp.eye(len(x)))


def loss(params, data):
    """The negative log marginal likelihood of a point, less its constant."""
    factor = factor_of(params, data["x"])
    alpha = jax.scipy.linalg.solve_triangular(factor, data["y"], lower=True)
    return (0.5 * jnp.sum(alpha**2) + jnp.sum(jnp.log(jnp.diag(factor)))) / len(data["y"])


def predict(params, data, x):
    """Mean and standard deviation of new values at x."""
    factor = factor_of(params, data["x"])
    cross = kernel(params, data["x"], x)
    mean = cross.T @ jax.scipy.linalg.cho_solve((factor, True), data["y"])
    half = jax.scipy.linalg.solve_triangular(factor, cross, lower=True)
    variance = jnp.exp(2 * params["log_signal"]) + jnp.exp(2 * params["log_noise"])
    return mean, jnp.sqrt(variance - jnp.sum(half**2, 0))


def starts(num, seed=0):
    """Starting points, each leaf with a leading axis."""
    keys = jax.random.split(jax.random.key(seed), 3)
    return {
        "log_length": 0.5 + jax.random.normal(keys[0], (num, 10)),
        "log_signal": 0.5 * jax.random.normal(keys[1], (num,)),
        "log_noise": -0.5 + 0.5 * jax.random.normal(keys[2], (num,)),
    }


def diabetes(num_train, seed=0):
    """Standardised data for training and for testing."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    x, y = (x / x.std(0))[order], ((y - y.mean()) / y.std())[order]
    cut = slice(num_train), slice(num_train, None)
    return tuple({"x": x[part], "y": y[part]} for part in cut)


@jax.jit
def fit(x0, data):
    """All starts at once: this is what you would write."""
    return jax.vmap(lambda one: lp.minimize(loss, one, (data,)))(x0)


def draw(result, mean, sd, test):
    """How the restarts end, and predictions beside what was measured."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    gap = result.trajectory.value - result.value.min() + 1e-10
    left.semilogy(np.asarray(gap).T, color="#0072B2", alpha=0.35, linewidth=1)
    left.set_xlim(0, 1.5 * np.median(result.num_evals))
    finish_axes(left, xlabel="evaluations", ylabel="above the best likelihood", title="restarts")
    order = np.argsort(mean)
    at = np.arange(len(mean))
    right.fill_between(
        at, (mean - 2 * sd)[order], (mean + 2 * sd)[order], color="#56B4E9", alpha=0.4
    )
    right.plot(at, mean[order], color="black", label="mean and two deviations")
    right.plot(at, test["y"][order], ".", color="#D55E00", markersize=3, label="measured")
    right.legend(frameon=False)
    finish_axes(right, xlabel="test patients, by prediction", title="progression of diabetes")
    return figure


def main(num_starts=32, num_train=100, seconds=20.0):
    """The fit, what it predicts, and the race."""
    jax.config.update("jax_enable_x64", True)
    train, test = diabetes(num_train)
    x0 = starts(num_starts)
    result = fit(x0, train)
    best = int(np.nanargmin(result.value))
    params = jax.tree.map(lambda a: a[best], result.params)
    mean, sd = map(np.asarray, predict(params, train, test["x"]))
    inside = np.mean(np.abs(test["y"] - mean) < 2 * sd)
    ends = np.sort(np.asarray(result.value))
    print(f"{num_starts} starts: likelihoods from {ends[0]:.4f} to {ends[-1]:.4f};", end=" ")
    print(f"{np.mean(ends < ends[0] + 1e-6):.0%} are at the best")
    print(f"test: R² {1 - np.mean((test['y'] - mean) ** 2) / np.var(test['y']):.2f};", end=" ")
    print(f"{inside:.0%} within two deviations")
    keep(draw(result, mean, sd, test), "gaussian_process")
    problem = Problem(loss, x0, repeated(train, num_starts), share=1 / 8)
    makers = everyone(10)
    title = f"{num_starts} starts, n = 12, an eighth of them to 1e-5 of the best"
    options = {"budget": 100, "level": 1e-5, "one_target": True, "seconds": seconds}
    return race(title, problem, makers, **options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=32)
    parser.add_argument("--train", type=int, default=100)
    args = parser.parse_args()
    main(args.starts, args.train)
