"""How small the curvature of a pair may be beside the greatest of the run, from walls to valleys.

python -m research.valley
"""

from collections.abc import Callable
from typing import Any
from unittest import mock

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

import jax_lbfgs_pi as lp
from jax_lbfgs_pi import trial

SHARES = (1e-14, 1e-20, 1e-30, 0.0)
MEMORIES = (None, 20, 5, "dense")
NUM_EVALS = 400


def repulsion(x: Any) -> jax.Array:
    return x[0] ** -12.0 + x[0] + jnp.sum((x[1:] - 1.0) ** 2)


def exponential(x: Any) -> jax.Array:
    return jnp.exp(-60.0 * x[0]) + x[0] + jnp.sum((x[1:] - 1.0) ** 2)


def atoms(x: Any) -> jax.Array:
    """Lennard-Jones, five in the plane."""
    p, apart = x.reshape(5, 2), 1.0 - jnp.eye(5)
    inverse = 1.0 / (jnp.sum((p[:, None] - p) ** 2, -1) + jnp.eye(5)) ** 3
    return 2.0 * jnp.sum((inverse**2 - inverse) * apart)


def starts() -> dict[Callable[[Any], jax.Array], np.ndarray]:
    """Each higher up than the one before."""
    rng = np.random.default_rng(0)
    return {
        repulsion: np.array([[x, 0.0, 0.0] for x in (0.3, 0.1, 0.03, 0.01)]),
        exponential: np.array([[x, 0.0, 0.0] for x in (0.0, -0.2, -0.5, -1.0)]),
        atoms: np.stack([0.4 * rng.normal(size=10) * scale for scale in (1.0, 0.3, 0.1, 0.03)]),
    }


def main() -> None:
    """Runs, and prints the end of each."""
    for share in SHARES:
        for fun, x0 in starts().items():
            for memory_size in MEMORIES:

                def solve(x: Any, fun: Any = fun, memory_size: Any = memory_size) -> Any:
                    return lp.minimize(fun, x, memory_size=memory_size, max_evals=NUM_EVALS)

                with mock.patch.object(trial, "LEAST_CURVATURE", share):
                    ends = jax.jit(jax.vmap(solve))(jnp.asarray(x0))
                told = [
                    f"{lp.Status(int(s)).name} {int(k)} {float(f):.7g}"
                    for s, k, f in zip(ends.status, ends.num_evals, ends.value, strict=True)
                ]
                print(f"{share:.0e} {fun.__name__:12s} {memory_size or 'default'!s:8s}", *told)


if __name__ == "__main__":
    main()
