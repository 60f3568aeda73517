"""Convex tasks: random quadratics and logistic regression."""

import dataclasses
from collections.abc import Callable
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

    def one(rng: np.random.Generator) -> dict[str, np.ndarray]:
        basis, _ = np.linalg.qr(rng.normal(size=(dim, dim)))
        eigenvalues = condition ** -rng.uniform(size=dim)
        return {"A": (basis * eigenvalues) @ basis.T, "c": rng.normal(size=dim)}

    return TaskSet(Quadratic(dim), _draw(one, num_tasks, seed), seed=seed, name=f"quadratic-{dim}")


def logistic_tasks(
    num_tasks: int, *, dim: int = 50, num_samples: int = 200, l2: float = 1e-3, seed: int = 0
) -> TaskSet:
    """Logistic regressions on Gaussian features of uneven scale, with labels of a noisy rule."""

    def one(rng: np.random.Generator) -> dict[str, np.ndarray]:
        X = 10.0 ** rng.uniform(-1, 0.5, size=dim) * rng.normal(size=(num_samples, dim))
        score = X @ rng.normal(size=dim) + rng.logistic(size=num_samples)
        return {"X": X, "z": np.where(score > 0, 1.0, -1.0)}

    return TaskSet(
        LogisticRegression(dim, l2),
        _draw(one, num_tasks, seed),
        seed=seed,
        name=f"logistic-{dim}",
    )


def _draw(
    one: Callable[[np.random.Generator], dict[str, np.ndarray]], num_tasks: int, seed: int
) -> dict[str, np.ndarray]:
    # A generator for each task, so that a task is the same however many others there are.
    draws = [one(np.random.default_rng((seed, i))) for i in range(num_tasks)]
    dtype = jnp.zeros(()).dtype
    return {name: np.stack([draw[name] for draw in draws]).astype(dtype) for name in draws[0]}
