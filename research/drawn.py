"""Problems that are drawn at random, outside the suite, and what is made of their curves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research.lanes import evals_to

NUM_TASKS = 24


class Family(NamedTuple):
    """Problems that are drawn at random.

    Attributes:
      name: for the table.
      draw: of a NumPy generator to `(x0, data)`.
      loss: `(x, data) -> f`.
    """

    name: str
    draw: Callable[[np.random.Generator], tuple[Any, Any]]
    loss: Callable[[Any, Any], jax.Array]


def problems_of(family: Family, num_tasks: int = NUM_TASKS) -> tuple[Any, Any]:
    """`(x0, data)` of its first problems, along a leading axis."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]),
        *(family.draw(rng) for _ in range(num_tasks)),
    )


def kept(path: Path, make: Callable[[], Any]) -> np.ndarray:
    """An array from a file, made where it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        np.save(path, np.asarray(make()))
        jax.clear_caches()
    return np.load(path)


def evaluations(curves: np.ndarray, tau: float) -> np.ndarray:
    """Evaluations until f - f* <= tau (f₀ - f*), f* the least of all lanes; twice all if never.

    Args:
      curves: best values, shape `(tasks, lanes, evaluations)`.
      tau: the share.
    """
    evals = np.stack([evals_to(c, c.min(), tau) for c in curves])
    return np.where(np.isfinite(evals), evals, 2.0 * curves.shape[-1])


def mean_ratio(evals: np.ndarray) -> np.ndarray:
    """log₂ of each lane's evaluations over the first's, in the mean over tasks."""
    return np.log2(evals / evals[:, :1]).mean(0)
