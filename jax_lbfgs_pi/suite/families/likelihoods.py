"""Negative log-likelihoods with positive parameters in logarithms."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, PRNGKeyArray

from jax_lbfgs_pi.suite.families.base import Draw, Family, log_uniform, offset

_PRIOR = 1e-3  # of ½‖x‖²: every likelihood here then has a minimum


def _mixture(components: int, num: int) -> Family:
    """Normal distributions on a line: logits, means and log-variances."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 6)
        means = log_uniform(keys[0], 0.5, 5.0) * jax.random.normal(keys[1], (components,))
        deviations = log_uniform(keys[2], 0.2, 1.5, (components,))
        which = jax.random.randint(keys[3], (num,), 0, components)
        y = means[which] + deviations[which] * jax.random.normal(keys[4], (num,))
        return offset(keys[5], 3 * components, 0.1, 2.0), y

    def loss(x: Float[Array, " n"], y: Float[Array, " num"]) -> Float[Array, ""]:
        logits, means, logs = x.reshape(3, components)
        variances = jnp.exp(logs) + 0.01  # or one point alone makes the likelihood infinite
        squares = (y[:, None] - means[None, :]) ** 2 / variances[None, :]
        each = jax.nn.log_softmax(logits)[None] - 0.5 * (squares + jnp.log(variances)[None])
        return -jnp.mean(jax.nn.logsumexp(each, axis=1)) + 0.5 * _PRIOR * x @ x

    return Family(f"mixture-{components}", sample, loss)


def _weibull(num: int) -> Family:
    """Times to failure: log-shape, and a log-scale that depends on two covariates."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 5)
        X = jax.random.normal(keys[0], (num, 3)).at[:, 0].set(1.0)
        truth = jax.random.normal(keys[1], (4,))
        shape = jnp.exp(0.5 * truth[0])
        uniform = jax.random.uniform(keys[2], (num,), minval=1e-3, maxval=1.0)
        logs = X @ truth[1:] + jnp.log(-jnp.log(0.999 * uniform)) / shape
        observed = jax.random.bernoulli(keys[3], 0.8, (num,)).astype(logs.dtype)
        return offset(keys[4], 4, 0.1, 1.0), {"X": X, "logs": logs, "observed": observed}

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        z = jnp.exp(x[0]) * (data["logs"] - data["X"] @ x[1:])
        return jnp.mean(jnp.exp(z) - data["observed"] * (z + x[0])) + 0.5 * _PRIOR * x @ x

    return Family("weibull", sample, loss)


def _gamma(num: int) -> Family:
    """Gamma-distributed sizes: log-shape, and a log-mean that depends on two covariates."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 4)
        X = jax.random.normal(keys[0], (num, 3)).at[:, 0].set(1.0)
        truth = jax.random.normal(keys[1], (3,))
        spread = log_uniform(keys[2], 0.1, 1.5)  # log-normal sizes, of which gamma is a model
        logs = X @ truth + spread * jax.random.normal(keys[3], (num,))
        start = jax.random.fold_in(key, 4)
        return offset(start, 4, 0.1, 1.0), {"X": X, "logs": logs}

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        shape = jnp.exp(x[0])
        z = data["logs"] - data["X"] @ x[1:]
        each = shape * (jnp.exp(z) - z)
        return jnp.mean(each) + gammaln(shape) - shape * x[0] + 0.5 * _PRIOR * x @ x

    return Family("gamma", sample, loss)


def _negative_binomial(num: int) -> Family:
    """Counts that vary more than Poisson's: log-dispersion and a log-mean with covariates."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 6)
        X = jax.random.normal(keys[0], (num, 4)).at[:, 0].set(1.0)
        truth = 0.7 * jax.random.normal(keys[1], (4,))
        spread = log_uniform(keys[2], 0.2, 1.5)
        logs = X @ truth + 1.0 + spread * jax.random.normal(keys[3], (num,))
        rate = jnp.exp(jnp.clip(logs, -4.0, 5.0))
        counts = jnp.round(rate + jnp.sqrt(rate) * jax.random.normal(keys[4], (num,)))
        return offset(keys[5], 5, 0.1, 1.0), {"X": X, "counts": jnp.maximum(counts, 0.0)}

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        size, eta, counts = jnp.exp(x[0]), data["X"] @ x[1:], data["counts"]
        each = (counts + size) * jnp.logaddexp(x[0], eta) - counts * eta
        each = each - size * x[0] - gammaln(counts + size)
        return jnp.mean(each) + gammaln(size) + 0.5 * _PRIOR * x @ x

    return Family("negative-binomial", sample, loss)


def _student(num: int) -> Family:
    """Linear regression with outliers: log-scale, log-degrees of freedom, three slopes."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 6)
        X = jax.random.normal(keys[0], (num, 3)) * log_uniform(keys[1], 0.3, 3.0, (1, 3))
        noise = jax.random.t(keys[2], 2.0, (num,))
        y = X @ jax.random.normal(keys[3], (3,)) + log_uniform(keys[4], 0.01, 1.0) * noise
        return offset(keys[5], 5, 0.1, 2.0), {"X": X, "y": y}

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        degrees = jnp.exp(x[1])
        r = (data["y"] - data["X"] @ x[2:]) * jnp.exp(-x[0])
        each = 0.5 * (degrees + 1.0) * jnp.log1p(r * r / degrees)
        constant = gammaln(0.5 * degrees) - gammaln(0.5 * (degrees + 1.0)) + 0.5 * x[1]
        return jnp.mean(each) + constant + x[0] + 0.5 * _PRIOR * x @ x

    return Family("student-t", sample, loss)


@jax.custom_jvp
def normal_energy(K: Float[Array, "num num"], y: Float[Array, " num"]) -> Float[Array, ""]:
    """½ yᵀK⁻¹y + ½ ln|K|.

    Its derivative takes one inverse: a quarter of the time of differentiating the factorization.
    """
    return _energy(K, y)[0]


def _energy(K: Array, y: Array) -> tuple[Array, Array, Array]:
    L = jnp.linalg.cholesky(K, symmetrize_input=False)
    inverse = solve_triangular(L, jnp.eye(K.shape[0], dtype=K.dtype), lower=True)
    whitened = inverse @ y
    value = 0.5 * whitened @ whitened + jnp.sum(jnp.log(jnp.diag(L)))
    return value, inverse, inverse.T @ whitened


@normal_energy.defjvp
def _normal_energy_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    value, inverse, alpha = _energy(*primals)
    dK, dy = tangents
    slope = inverse.T @ inverse - alpha[:, None] * alpha[None, :]
    return value, 0.5 * jnp.sum(slope * dK) + alpha @ dy


def _gaussian_process(num: int) -> Family:
    """Log-amplitude, two log-lengths and log-noise of a squared-exponential kernel."""

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 6)
        points = jax.random.uniform(keys[0], (num, 2), minval=-1.0, maxval=1.0)
        waves = log_uniform(keys[1], 0.5, 4.0) * jax.random.normal(keys[2], (2, 4))
        y = jnp.sum(jnp.sin(points @ waves + jnp.arange(4.0)[None, :]), axis=1)
        y = y + log_uniform(keys[3], 1e-2, 1.0) * jax.random.normal(keys[4], (num,))
        squares = (points[:, None, :] - points[None, :, :]) ** 2
        return offset(keys[5], 4, 0.1, 1.5), {"squares": squares, "y": y}

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        distances = data["squares"] @ jnp.exp(-2.0 * x[1:3])
        noise = jnp.exp(2.0 * x[3]) + 1e-4 * jnp.exp(2.0 * x[0])  # float32 factorizes it too
        diagonal = noise * jnp.eye(num, dtype=x.dtype)
        K = jnp.exp(2.0 * x[0] - 0.5 * distances) + diagonal
        return normal_energy(K, data["y"]) / num + 0.5 * _PRIOR * x @ x

    return Family("gaussian-process", sample, loss)


LIKELIHOODS = [
    _mixture(2, 40),
    _mixture(3, 40),
    _weibull(30),
    _gamma(30),
    _negative_binomial(30),
    _student(30),
    _gaussian_process(15),
]
