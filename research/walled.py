"""Families whose f is NaN or infinite beyond a wall: likelihoods and barriers in natural units."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import gammaln

from research.drawn import Family


def inside(good: Any, f: Any) -> jax.Array:
    """F where all is well, else NaN."""
    return jnp.where(jnp.all(good), f, jnp.nan)


def positive_start(rng: np.random.Generator, truth: Any) -> np.ndarray:
    """Around the truth within some factors, on a scale of logarithms."""
    return np.asarray(truth) * np.exp(rng.normal(size=np.shape(truth)))


def _gamma(rng: np.random.Generator) -> Any:
    truth = rng.uniform(0.5, 6.0, 2)
    return positive_start(rng, truth), rng.gamma(*truth, size=100)


def gamma(p: Any, d: Any) -> jax.Array:
    k, scale = p
    terms = (k - 1) * jnp.log(d) - d / scale - gammaln(k) - k * jnp.log(scale)
    return inside(p > 0, -jnp.mean(terms))


def _weibull(rng: np.random.Generator) -> Any:
    truth = rng.uniform(0.5, 6.0, 2)
    return positive_start(rng, truth), truth[1] * rng.weibull(truth[0], size=100)


def weibull(p: Any, d: Any) -> jax.Array:
    k, scale = p
    terms = jnp.log(k / scale) + (k - 1) * jnp.log(d / scale) - (d / scale) ** k
    return inside(p > 0, -jnp.mean(terms))


def _normal(rng: np.random.Generator) -> Any:
    mean, sd = rng.normal() * 5.0, rng.uniform(0.2, 5.0)
    start = np.array([mean + sd * rng.normal(), positive_start(rng, sd)])
    return start, mean + sd * rng.normal(size=100)


def normal(p: Any, d: Any) -> jax.Array:
    return jnp.mean(jnp.log(p[1]) + 0.5 * ((d - p[0]) / p[1]) ** 2)


def _beta(rng: np.random.Generator) -> Any:
    truth = rng.uniform(0.5, 6.0, 2)
    return positive_start(rng, truth), rng.beta(*truth, size=100)


def beta(p: Any, d: Any) -> jax.Array:
    norm = gammaln(p[0] + p[1]) - gammaln(p[0]) - gammaln(p[1])
    return inside(p > 0, -jnp.mean((p[0] - 1) * jnp.log(d) + (p[1] - 1) * jnp.log1p(-d)) - norm)


def _poisson(rng: np.random.Generator) -> Any:
    inputs, truth = rng.uniform(size=(80, 10)), rng.uniform(0.5, 3.0, 10)
    return positive_start(rng, truth), (inputs, rng.poisson(inputs @ truth).astype(float))


def poisson(p: Any, d: Any) -> jax.Array:
    """With the identity for a link."""
    inputs, counts = d
    rates = inputs @ p
    return jnp.mean(rates - counts * jnp.log(rates))


def _covariance(rng: np.random.Generator, n: int) -> Any:
    samples = rng.normal(size=(5 * n, n)) @ rng.normal(size=(n, n))
    scale = rng.uniform(0.1, 10.0) / np.sqrt(np.mean(samples**2))
    return np.eye(n), scale**2 * samples.T @ samples / len(samples)


def cholesky(p: Any, d: Any) -> jax.Array:
    """A precision by its factor, of which the lower triangle counts."""
    factor = jnp.tril(p)
    return jnp.sum(d * (factor @ factor.T)) - 2.0 * jnp.sum(jnp.log(jnp.diag(factor)))


def precision(p: Any, d: Any) -> jax.Array:
    """A precision itself."""
    matrix = 0.5 * (p + p.T)
    root = jnp.linalg.cholesky(matrix)
    return jnp.sum(d * matrix) - 2.0 * jnp.sum(jnp.log(jnp.diag(root)))


def _process(rng: np.random.Generator) -> Any:
    x = np.sort(rng.uniform(size=30))
    y = rng.uniform(0.3, 3.0) * np.sin(rng.uniform(3.0, 12.0) * x) + 0.1 * rng.normal(size=30)
    return positive_start(rng, [1.0, 0.3, 0.3]), (x, y)


def process(p: Any, d: Any) -> jax.Array:
    """A Gaussian process by its variances and its length."""
    x, y = d
    kernel = p[0] * jnp.exp(-0.5 * ((x[:, None] - x) / p[1]) ** 2) + p[2] * jnp.eye(x.size)
    root = jnp.linalg.cholesky(kernel)
    white = solve_triangular(root, y, lower=True)
    return inside(p > 0, jnp.sum(jnp.log(jnp.diag(root))) + 0.5 * white @ white)


def _centre(rng: np.random.Generator) -> Any:
    return 0.02 * rng.normal(size=10), (rng.normal(size=(40, 10)), rng.uniform(0.3, 3.0, 40))


def centre(x: Any, d: Any) -> jax.Array:
    """The analytic centre of a polytope."""
    matrix, bounds = d
    return -jnp.sum(jnp.log(bounds - matrix @ x)) - jnp.sum(jnp.log(10.0 - x * x))


def _barrier(rng: np.random.Generator) -> Any:
    x0, (matrix, bounds) = _centre(rng)
    return x0, (matrix, bounds, 10.0 ** rng.uniform(0, 3) * rng.normal(size=10))


def barrier(x: Any, d: Any) -> jax.Array:
    """A linear programme with a barrier."""
    matrix, bounds, cost = d
    return cost @ x + centre(x, (matrix, bounds))


def _entropy(rng: np.random.Generator) -> Any:
    return rng.uniform(0.01, 0.5, 20), (10.0 ** rng.uniform(0, 2), rng.normal(size=20))


def entropy(x: Any, d: Any) -> jax.Array:
    weight, cost = d
    return jnp.sum(x * jnp.log(x)) + cost @ x + weight * (jnp.sum(x) - 1.0) ** 2


def _dirichlet(rng: np.random.Generator) -> Any:
    truth = rng.uniform(0.5, 6.0, 6)
    return positive_start(rng, truth), np.log(rng.dirichlet(truth, size=100) + 1e-12).mean(0)


def dirichlet(p: Any, d: Any) -> jax.Array:
    return inside(p > 0, jnp.sum(gammaln(p)) - gammaln(jnp.sum(p)) - (p - 1) @ d)


FAMILIES = (
    Family("gamma", _gamma, gamma),
    Family("Weibull", _weibull, weibull),
    Family("normal", _normal, normal),
    Family("beta", _beta, beta),
    Family("Dirichlet", _dirichlet, dirichlet),
    Family("Poisson, identity", _poisson, poisson),
    Family("precision's factor", lambda rng: _covariance(rng, 8), cholesky),
    Family("precision", lambda rng: _covariance(rng, 5), precision),
    Family("Gaussian process", _process, process),
    Family("analytic centre", _centre, centre),
    Family("barrier", _barrier, barrier),
    Family("entropy", _entropy, entropy),
)
