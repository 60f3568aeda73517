"""What an accelerator makes of it, in few compilations: updates by dtype, and batches.

Updates run in a loop within one program, as `lp.minimize` runs them: ours, optax's, and the memory
floor of `step`. Beside the times stands how far a float32 update is from the float64 one of the
same points: matrix units that round their inputs (TF32, bfloat16) would be some 1e-3 away.
"""

from typing import Any

import jax
import numpy as np
import optax
from matplotlib.figure import Figure
from rich.table import Table

import jax_lbfgs_pi as lp
from benchmarks import batch, step
from benchmarks.batch_problems import exponentials, rosenbrocks
from benchmarks.problems import quadratic_points
from benchmarks.report import Options, line_figure, table
from benchmarks.timing import compare

MEMORY_SIZE = 5
SIZES = (1000, 100_000, 10_000_000)
DTYPES = ("float32", "float64")
OURS, DENSE, OPTAX, FLOOR = "L-BFGS-π", "dense", "optax", "floor"
LARGEST_DENSE = 3000


def transforms(n: int) -> dict[str, Any]:
    """The optimizers that are timed at n variables."""
    windows = {
        OURS: lp.scale_by_lbfgs_pi(memory_size=MEMORY_SIZE),
        OPTAX: optax.scale_by_lbfgs(memory_size=MEMORY_SIZE),
    }
    dense = {DENSE: lp.scale_by_lbfgs_pi(memory_size="dense")} if n <= LARGEST_DENSE else {}
    return windows | dense


def cast(points: Any, dtype: str) -> Any:
    """The points and gradients in a dtype."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype), points)


def updates(n: int, budget: float) -> list[dict[str, Any]]:
    """Seconds of an update in either dtype."""
    points, ours = quadratic_points([(n,)]), transforms(n)[OURS]
    exact = last_update(ours, points)
    rows = []
    for dtype in DTYPES:
        typed = cast(points, dtype)
        loops = {name: step.looper(tx, typed) for name, tx in transforms(n).items()}
        floor = step.floor(n, MEMORY_SIZE, dtype)
        timing = compare({**loops, FLOOR: floor}, budget=budget)
        length = step.loop_length(n)
        seconds = {name: t / (1 if name == FLOOR else length) for name, t in timing.seconds.items()}
        error = distance(last_update(ours, typed), exact)
        rows.append({"n": n, "dtype": dtype, "seconds": seconds, "error": error})
    return rows


def last_update(tx: Any, points: Any) -> np.ndarray:
    """The last of as many updates as fill the window, on the points in turn."""
    stepper = step.stepper(tx, points)
    for _ in range(MEMORY_SIZE + 2):
        _, out = stepper()
    return np.asarray(out, np.float64)


def distance(vector: np.ndarray, exact: np.ndarray) -> float:
    """`‖v - exact‖ / ‖exact‖`."""
    return float(np.linalg.norm(vector - exact) / np.linalg.norm(exact))


def measure(options: Options) -> dict[str, Any]:
    """Updates of all sizes, then two batches to one median f."""
    quick = options.quick
    sizes, budget = (SIZES[:1], 0.2) if quick else (SIZES, 1.0)
    nums = (16, 16) if quick else (512, 4096)
    makes = list(zip((rosenbrocks, exponentials), nums, strict=True))
    timed = [row for n in options.track(sizes, "updates") for row in updates(n, budget)]
    races = [batch.race(make(num), budget) for make, num in options.track(makes, "batches")]
    return {"updates": timed, "races": races}


def tables(results: dict[str, Any]) -> list[Table]:
    """Microseconds of an update, its error, and the batches."""
    rows = []
    for row in results["updates"]:
        us = {name: 1e6 * seconds for name, seconds in row["seconds"].items()}
        ratio = us[OURS] / us[OPTAX]
        cells = [us[OURS], us.get(DENSE), us[OPTAX], us[FLOOR], ratio, f"{row['error']:.0e}"]
        rows.append([f"{row['n']:,}", row["dtype"], *cells])
    header = ["n", "dtype", OURS, DENSE, OPTAX, FLOOR, "/optax", "error"]
    title = f"device: µs of an update in a loop, m = {MEMORY_SIZE}; error against float64"
    return [table(title, header, rows), *batch.tables(results)]


def figures(results: dict[str, Any]) -> dict[str, Figure]:
    """Time against n, by dtype."""
    panels = []
    for dtype in DTYPES:
        rows = [row for row in results["updates"] if row["dtype"] == dtype]
        lines = {
            name: ([r["n"] for r in rows], [1e6 * r["seconds"][name] for r in rows])
            for name in (OURS, OPTAX, FLOOR)
        }
        panels.append({"title": f"one update, {dtype}", "xlabel": "n", "lines": lines})
    return {"device": line_figure(panels, "µs")}
