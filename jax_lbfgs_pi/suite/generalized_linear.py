"""Generalized linear models on scikit-learn's bundled tables."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_lbfgs_pi.suite.instances import Parts, add_instances


def logistic_loss(params: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
    """Mean of ln(1 + exp(-z xᵀX)) plus ½ l2 ‖x‖², with labels z in {-1, 1}."""
    margins = data["z"] * (data["X"] @ params)
    return jnp.mean(jax.nn.softplus(-margins)) + 0.5 * data["l2"] * params @ params


def softmax_loss(params: Float[Array, "n classes"], data: dict[str, Any]) -> Float[Array, ""]:
    """Mean cross-entropy plus ½ l2 ‖x‖²."""
    logits = data["X"] @ params
    cross = jax.nn.logsumexp(logits, axis=1) - jnp.sum(data["hits"] * logits, axis=1)
    return jnp.mean(cross) + 0.5 * data["l2"] * jnp.sum(params * params)


def poisson_loss(params: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
    """Mean of exp(xᵀX) - counts xᵀX plus ½ l2 ‖x‖²: a Poisson likelihood up to a constant."""
    eta = data["X"] @ params
    return jnp.mean(jnp.exp(eta) - data["counts"] * eta) + 0.5 * data["l2"] * params @ params


def standardized(X: np.ndarray) -> np.ndarray:
    """Columns of mean zero and variance one, and a column of ones before them."""
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    return np.concatenate([np.ones((len(X), 1)), scaled], axis=1)


def _rows(table: Any, num: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    X, y = table
    mine = rng.permutation(len(y))[:num]
    return np.asarray(X[mine], float), y[mine]


def _cancer(index: int) -> Parts:
    from sklearn.datasets import load_breast_cancer

    rng = np.random.default_rng((21, index))
    X, y = _rows(load_breast_cancer(return_X_y=True), 400, rng)
    data = {"X": standardized(X), "z": 2.0 * y - 1.0, "l2": np.array(1e-3)}
    return logistic_loss, rng.normal(size=31), data


def _cancer_raw(index: int) -> Parts:
    from sklearn.datasets import load_breast_cancer

    rng = np.random.default_rng((22, index))
    X, y = _rows(load_breast_cancer(return_X_y=True), 400, rng)
    X = np.concatenate([np.ones((len(X), 1)), X], axis=1)
    data = {"X": X, "z": 2.0 * y - 1.0, "l2": np.array(1e-6)}
    return logistic_loss, 1e-3 * rng.normal(size=31), data


def _wine(index: int) -> Parts:
    from sklearn.datasets import load_wine

    rng = np.random.default_rng((23, index))
    X, y = _rows(load_wine(return_X_y=True), 140, rng)
    data = {"X": standardized(X), "hits": np.eye(3)[y], "l2": np.array(1e-4)}
    return softmax_loss, 0.5 * rng.normal(size=(14, 3)), data


def _diabetes(index: int) -> Parts:
    from sklearn.datasets import load_diabetes

    rng = np.random.default_rng((24, index))
    X, y = _rows(load_diabetes(return_X_y=True, scaled=False), 300, rng)
    data = {"X": standardized(X), "counts": np.round(y / 10.0), "l2": np.array(1e-5)}
    return poisson_loss, 0.3 * rng.normal(size=11), data


add_instances("logistic-cancer", 4, _cancer, "scikit-learn's breast cancer")
add_instances("logistic-cancer-raw", 4, _cancer_raw, "scikit-learn's breast cancer, not scaled")
add_instances("softmax-wine", 4, _wine, "scikit-learn's wine")
add_instances("poisson-diabetes", 4, _diabetes, "scikit-learn's diabetes, in tens")
