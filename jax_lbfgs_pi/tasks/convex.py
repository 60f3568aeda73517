"""Convex tasks: random quadratics and logistic regression."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jax_lbfgs_pi.tasks.base import TaskSet


@dataclasses.dataclass(frozen=True)
class Quadratic:
    """f(x) = ½ (x - c)ᵀ A (x - c), with data `A` `[n, n]` and `c` `[n]`; x0 ~ N(0, 1).

    Attributes:
      dim: n.
    """

    dim: int

    def init(self, key: PRNGKeyArray) -> Float[Array, " n"]:
        """x0 ~ N(0, 1), i.i.d."""
        return jax.random.normal(key, (self.dim,))

    def loss(self, params: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        """f(x)."""
        r = params - data["c"]
        return 0.5 * r @ (data["A"] @ r)


@dataclasses.dataclass(frozen=True)
class LogisticRegression:
    """L2-regularized binary logistic regression, with data `X` `[N, n]` and `z` in {-1, 1} `[N]`.

    Attributes:
      dim: n.
      l2: the weight of ½‖x‖².
    """

    dim: int
    l2: float = 1e-3

    def init(self, key: PRNGKeyArray) -> Float[Array, " n"]:
        """x0 ~ N(0, 1), i.i.d."""
        return jax.random.normal(key, (self.dim,))

    def loss(self, params: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        """Mean of ln(1 + exp(-z xᵀX)) plus the regularizer."""
        margins = data["z"] * (data["X"] @ params)
        return jnp.mean(jax.nn.softplus(-margins)) + 0.5 * self.l2 * params @ params


def quadratic_tasks(
    num_tasks: int, *, dim: int = 50, condition: float = 1e3, seed: int = 0
) -> TaskSet:
    """Quadratics with eigenvalues log-uniform in [1/condition, 1] and random eigenvectors."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(num_tasks, dim, dim)))
    eigenvalues = condition ** -rng.uniform(size=(num_tasks, 1, dim))
    data = {
        "A": (basis * eigenvalues) @ basis.transpose(0, 2, 1),
        "c": rng.normal(size=(num_tasks, dim)),
    }
    return TaskSet(Quadratic(dim), _default_float(data), seed=seed, name=f"quadratic-{dim}")


def logistic_tasks(
    num_tasks: int, *, dim: int = 50, num_samples: int = 200, l2: float = 1e-3, seed: int = 0
) -> TaskSet:
    """Logistic regressions on Gaussian features of uneven scale, with labels of a noisy rule."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** rng.uniform(-1, 0.5, size=(num_tasks, 1, dim))
    X = scale * rng.normal(size=(num_tasks, num_samples, dim))
    rule = rng.normal(size=(num_tasks, dim, 1))
    noise = rng.logistic(size=(num_tasks, num_samples))
    z = np.where((X @ rule)[..., 0] + noise > 0, 1.0, -1.0)
    return TaskSet(
        LogisticRegression(dim, l2),
        _default_float({"X": X, "z": z}),
        seed=seed,
        name=f"logistic-{dim}",
    )


def _default_float(data: dict[str, Any]) -> dict[str, np.ndarray]:
    dtype = jnp.zeros(()).dtype
    return {name: np.asarray(value, dtype) for name, value in data.items()}
