"""One update with a dense H: against its memory floor, and against a window's.

The floor is the traffic of the step and nothing else: H read for a product, then read and written
for a change of rank 1, donated. State is donated and fed back; gradients and points are those of
`quadratic_points`, so every pair is stored and no trial rejected.
"""

from typing import Any

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure
from rich.table import Table

import jax_lbfgs_pi as lp
from benchmarks.problems import quadratic_points
from benchmarks.report import Options, line_figure, table
from benchmarks.step import check_steady, stepper
from benchmarks.timing import Stateful, compare

FULL, QUICK = (100, 300, 1000, 3000, 5000), (100, 1000)


def floor(n: int) -> Stateful:
    """A product with H, and then a change of H by an outer product."""

    def step(matrix: Any, v: Any, w: Any) -> tuple[Any, Any]:
        product = matrix @ v
        w = w + 0.0 * product  # else H is copied, so that both may read it
        return 0.5 * matrix + w[:, None] * w[None, :], product

    vectors = jnp.ones(n), jnp.full(n, n**-0.5)
    return Stateful(jax.jit(step, donate_argnums=0), jnp.eye(n), [vectors])


def _time(n: int, budget: float) -> dict[str, Any]:
    points = quadratic_points([(n,)])
    steppers = {
        "dense": stepper(lp.scale_by_lbfgs_pi(memory_size="dense"), points),
        "window": stepper(lp.scale_by_lbfgs_pi("general", memory_size=20), points),
        "floor": floor(n),
    }
    timing = compare(steppers, budget=budget, warm_up=4)
    check_steady(steppers)
    return {"n": n, **timing._asdict()}


def measure(options: Options) -> dict[str, Any]:
    """Times all sizes."""
    sizes, budget = (QUICK, 0.5) if options.quick else (FULL, 6.0)
    return {"rows": [_time(n, budget) for n in options.track(sizes, "dense")]}


def tables(results: dict[str, Any]) -> list[Table]:
    """Milliseconds, and ratios to the floor."""
    rows = []
    for row in results["rows"]:
        dense, window, least = (row["seconds"][name] for name in ("dense", "window", "floor"))
        rows.append([f"{row['n']:,}", 1e3 * dense, dense / least, dense / window])
    title = "dense: an update over the memory floor's, and over one of a window of 20 pairs"
    return [table(title, ["n", "ms", "/floor", "/window"], rows)]


def figures(results: dict[str, Any]) -> dict[str, Figure]:
    """Time against n."""
    rows = results["rows"]
    sizes = [row["n"] for row in rows]
    lines = {
        name: (sizes, [1e3 * row["seconds"][name] for row in rows]) for name in rows[0]["seconds"]
    }
    panel = {"title": "one update", "xlabel": "n", "lines": lines}
    return {"dense": line_figure([panel], "ms")}
