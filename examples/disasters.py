"""A maximum a posteriori to start a sampler from: python -m examples.disasters.

Disasters in British coal mines, 1851 to 1961 (Jarrett, 1979; two years are missing), as a Poisson
process whose log-rate is a Gaussian process. Twenty starts climb at once, to see whether there is
one maximum; there the inverse Hessian is the posterior's covariance to second order (Laplace's
approximation): a sampler's start and its mass matrix. Importance weights say how much a sampler is
still needed.
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

YEARS = np.arange(1851, 1962)
COUNTS = np.array([
    4, 5, 4, 0, 1, 4, 3, 4, 0, 6, 3, 3, 4, 0, 2, 6, 3, 3, 5, 4, 5, 3, 1, 4, 4, 1, 5, 5, 3, 4, 2, 5,
    2, 2, 3, 4, 2, 1, 3, -1, 2, 1, 1, 1, 1, 3, 0, 0, 1, 0, 1, 1, 0, 0, 3, 1, 0, 3, 2, 2, 0, 1, 1, 1,
    0, 1, 0, 1, 0, 0, 0, 2, 1, 0, 0, 0, 1, 1, 0, 2, 3, 3, 1, -1, 2, 1, 1, 1, 1, 2, 4, 2, 0, 0, 1, 4,
    0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1,
])  # fmt: skip


def observations():
    """Counts, and which years have one."""
    return {"counts": jnp.maximum(COUNTS, 0).astype(float), "seen": jnp.asarray(COUNTS >= 0)}


def log_rate(params):
    """The Gaussian process, from independent standard normals."""
    apart = (YEARS[:, None] - YEARS[None]) / jnp.exp(params["log_length"])
    covariance = jnp.exp(-0.5 * apart**2) + 1e-6 * jnp.eye(len(YEARS))
    smooth = jnp.linalg.cholesky(covariance) @ params["z"]
    return params["mean"] + jnp.exp(params["log_size"]) * smooth


def loss(params, data):
    """The negative log posterior, less a constant."""
    rate = log_rate(params)
    likelihood = jnp.sum(jnp.where(data["seen"], data["counts"] * rate - jnp.exp(rate), 0.0))
    prior = 0.5 * jnp.sum(params["z"] ** 2) + 0.5 * params["mean"] ** 2
    prior += 0.5 * (params["log_size"] / 0.3) ** 2 + 0.5 * ((params["log_length"] - 3.0) / 0.2) ** 2
    return prior - likelihood


def starts(num, seed=0):
    """Draws from the prior."""
    keys = jax.random.split(jax.random.key(seed), 4)
    return {
        "z": jax.random.normal(keys[0], (num, len(YEARS))),
        "mean": jax.random.normal(keys[1], (num,)),
        "log_size": 0.3 * jax.random.normal(keys[2], (num,)),
        "log_length": 3.0 + 0.2 * jax.random.normal(keys[3], (num,)),
    }


@jax.jit
def climb(x0, data):
    """All starts at once: this is what you would write."""
    return jax.vmap(lambda one: lp.minimize(loss, one, (data,)))(x0)


def laplace(params, data, num, seed=1):
    """Draws of Laplace's approximation, and the logarithms of their importance weights.

    Of the process and its mean, given its size and length, where the posterior is log-concave.
    """
    fixed = {name: params[name] for name in ("log_size", "log_length") if name in params}
    free = {name: value for name, value in params.items() if name not in fixed}
    flat, unravel_free = jax.flatten_util.ravel_pytree(free)

    def unravel(x):
        return unravel_free(x) | fixed

    energy = jax.jit(jax.vmap(lambda x: loss(unravel(x), data)))
    hessian = jax.hessian(lambda x: loss(unravel(x), data))(flat)
    factor = jnp.linalg.cholesky(hessian)
    normal = jax.random.normal(jax.random.key(seed), (num, flat.size))
    draws = flat + jax.scipy.linalg.solve_triangular(factor.T, normal.T).T
    return jax.vmap(unravel)(draws), 0.5 * jnp.sum(normal**2, 1) - energy(draws)


def draw(params, draws):
    """The rate, and the counts."""
    rates = np.exp(jax.vmap(log_rate)(draws))
    low, high = np.quantile(rates, [0.05, 0.95], axis=0)
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    seen = COUNTS >= 0
    axes.plot(YEARS[seen], COUNTS[seen], ".", color="#D55E00", label="disasters in a year")
    axes.fill_between(YEARS, low, high, color="#56B4E9", alpha=0.4, label="90 % of the posterior")
    axes.plot(YEARS, np.exp(log_rate(params)), color="black", label="maximum a posteriori")
    axes.legend(frameon=False)
    finish_axes(axes, xlabel="year", ylabel="rate")
    return figure


def main(num_starts=20, num_draws=1000, seconds=20.0):
    """The maximum, the draws, and the race."""
    jax.config.update("jax_enable_x64", True)
    data, x0 = observations(), starts(num_starts)
    result = climb(x0, data)
    best = int(np.nanargmin(result.value))
    params = jax.tree.map(lambda a: a[best], result.params)
    draws, log_weights = laplace(params, data, num_draws)
    weights = np.exp(log_weights - np.max(log_weights))
    effective = weights.sum() ** 2 / np.sum(weights**2)
    same = np.mean(np.asarray(result.value) < float(result.value[best]) + 1e-5)
    evals = np.median(result.num_evals)
    print(f"{num_starts} starts, {same:.0%} end at the best, in {evals:.0f} evaluations", end="; ")
    print(f"{num_draws} draws are worth {effective:.0f} of the posterior")
    keep(draw(params, draws), "disasters")
    problem = Problem(loss, x0, repeated(data, num_starts), share=0.95)
    makers = everyone(10)
    title = f"{num_starts} starts, n = 114, to 1e-6 of the reduction, 95 % of them"
    return race(title, problem, makers, budget=200, seconds=seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=20)
    main(parser.parse_args().starts)
