"""Where a run begins: whether f(x0) counts in acceptance, and how long the first step may be.

python -m research.starts families
python -m research.starts suite
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

from jax_lbfgs_pi import acceptance
from research import middling, walled
from research.drawn import evaluations, kept, mean_ratio
from research.first_step import Objective, limited, of_family, of_suite
from research.lanes import development, print_table, table

SHARES = (np.inf, 10.0, 1.0)
"""The first step is no longer than these times the norm of x0."""
TAKE_AN_HOUR = ("network", "topics")
FAMILIES = [(family, 150, 24) for family in walled.FAMILIES] + [
    (family, 300, 8) for family in middling.FAMILIES if family.name not in TAKE_AN_HOUR
]
"""With evaluations, and problems of each."""
MOST_FULL = 200
"""Variables, up to which all pairs were kept by default until then."""


def all_known(values: acceptance.Values) -> jax.Array:
    """f(x0) counts as the other values do, as it did until this was measured."""
    return jnp.arange(values.last.size, dtype=jnp.int32) < values.known


WINDOWS = {"f(x0) counts": all_known, "f(x0) does not": acceptance.counting}
LABELS = [f"{name}, {share:g}" for name in WINDOWS for share in SHARES]


def both(make: Callable[[], jax.Array]) -> np.ndarray:
    """Lanes with one window and then the other, each compiled anew."""
    parts = []
    for counting in WINDOWS.values():
        jax.clear_caches()
        with mock.patch.object(acceptance, "counting", counting):
            parts.append(np.asarray(make()))
    return np.concatenate(parts, axis=1)


def lengths(fun: Objective, x0: Any) -> jax.Array:
    """Of the first step."""
    return limited(fun, x0, SHARES)


def families(folder: Path) -> None:
    """Evaluations over those of the first lane, geometric means."""
    ratios: dict[float, list[np.ndarray]] = {1e-3: [], 1e-6: []}
    print(f"{'':24s}", *LABELS, sep="; ")
    for family, *sizes in FAMILIES:
        path = folder / f"{family.name}.npy"
        curves = kept(path, lambda f=family, s=sizes: both(lambda: of_family(lengths, f, *s)))
        for tau, rows in ratios.items():
            rows.append(mean_ratio(evaluations(curves, tau)))
            print(f"{family.name:20s} {tau:g}", *(f"{2**x:6.3f}" for x in rows[-1]), flush=True)
    for tau, rows in ratios.items():
        print(f"{'all':20s} {tau:g}", *(f"{2**x:6.3f}" for x in np.mean(rows, 0)))


def suite(folder: Path) -> None:
    """Areas, shares and first places on development problems of up to 1,000 variables."""
    results = {}
    for name in development(1, 1000):
        curves = kept(
            folder / f"{name}.npy", lambda n=name: both(lambda: of_suite(lengths, n, MOST_FULL))
        )
        results |= {f"{name}/{i}" if i else name: one for i, one in enumerate(curves)}
        print(name, flush=True)
    for tau in (1e-3, 1e-6):
        print_table(table(results, LABELS, tau))


if __name__ == "__main__":
    {"families": families, "suite": suite}[sys.argv[1]](Path("runs/research/starts") / sys.argv[1])
