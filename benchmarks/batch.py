"""Many small problems at once, under `vmap`: the place of a method without control flow.

Under `vmap` a line search goes on until its slowest problem is content, and every problem pays for
it; L-BFGS-π evaluates once per iteration whatever the batch. All solvers are given the fewest
iterations that bring the median objective of the batch to one target, and are then timed at that,
with no other stop. Those with pairs have equally many; beside them stand what users get by default
on so few variables, all pairs in two matrices, and a dense H. Last come two bounds on the speed-up
at the fewest iterations of ours: that many steps of BFGS with nothing to decide, which bound what a
method with a matrix can reach, and that many evaluations and nothing else, which bound any.
"""

from collections.abc import Collection
from functools import partial
from typing import Any

import jax
from matplotlib.figure import Figure
from rich.table import Table

from benchmarks.batch_bounds import BOUNDS
from benchmarks.batch_problems import (
    FEWEST_ITERATIONS,
    MATRICES,
    MEMORY_SIZE,
    OPTAX,
    OURS,
    SOLVERS,
    Batch,
    executed_evaluations,
    exponentials,
    logistics,
    mapped,
    ours_one,
    rosenbrock,
    rosenbrocks,
)
from benchmarks.report import Options, line_figure, table
from benchmarks.timing import compare

MOST_ITERATIONS = 1024
SCALING_ITERATIONS = 50


def race(batch: Batch, budget: float, names: Collection[str] = tuple(SOLVERS)) -> dict[str, Any]:
    """The solvers of these names to the target."""
    size = batch.x0.shape[0]
    iterations = {
        name: fewest(batch, MOST_ITERATIONS)
        for name, fewest in FEWEST_ITERATIONS.items()
        if name in names
    }
    row: dict[str, Any] = {"name": batch.name, "target": batch.target, "iterations": iterations}
    arrived = {name: SOLVERS[name] for name, num in iterations.items() if num is not None}
    if OURS not in arrived or OPTAX not in arrived:
        return {**row, "speedup": None}
    solvers = {
        name: partial(mapped(one(batch.loss, iterations[name])), batch.x0, batch.data)
        for name, one in arrived.items()
    }
    fewest = min(iterations[name] for name in (OURS, *MATRICES) if name in arrived)
    for name, bound in BOUNDS.items():
        solvers[name] = partial(mapped(bound(batch.loss, fewest)), batch.x0, batch.data)
    timing = compare(solvers, budget=budget)
    evaluations = {
        name: executed_evaluations(one, batch, iterations[name]) for name, one in arrived.items()
    }
    return {
        **row,
        "size": size,
        "speedup": {name: timing.ratio(OPTAX, name) for name in solvers},
        "evals_per_iteration": {name: evaluations[name] / iterations[name] for name in arrived},
        **timing._asdict(),
    }


def scaling(size: int, budget: float) -> dict[str, Any]:
    """Seconds per iteration and problem of a batch of this size."""
    x0 = rosenbrocks(size).x0
    one = ours_one(rosenbrock, SCALING_ITERATIONS)
    solvers = {
        "L-BFGS-π, vmap": mapped(one),
        **{
            f"{name}, vmap": mapped(SOLVERS[name](rosenbrock, SCALING_ITERATIONS))
            for name in MATRICES
        },
        "L-BFGS-π, lax.map": jax.jit(
            lambda x0, data: jax.lax.map(lambda x: one(x, data), x0)
        ),
        "optax.lbfgs, vmap": mapped(SOLVERS[OPTAX](rosenbrock, SCALING_ITERATIONS)),
    }  # fmt: skip
    timing = compare(
        {name: partial(solve, x0, None) for name, solve in solvers.items()}, budget=budget
    )
    per_problem = {
        name: seconds / (size * SCALING_ITERATIONS) for name, seconds in timing.seconds.items()
    }
    return {"size": size, "repetitions": timing.repetitions, "seconds": per_problem}


def measure(options: Options) -> dict[str, Any]:
    """Races the batches, then times batches of all sizes; quick, a small one against optax."""
    quick = options.quick
    budget = 1.0 if quick else 6.0
    full = [(rosenbrocks, 512), (logistics, 256), (exponentials, 4096)]
    batches = [(rosenbrocks, 64)] if quick else full
    names = (OURS, OPTAX) if quick else tuple(SOLVERS)
    sizes = () if quick else (1, 8, 64, 512)
    jobs = [partial(_race_of, *pair, budget, names) for pair in batches]
    jobs += [partial(scaling, size, 3.0) for size in sizes]
    rows = [job() for job in options.track(jobs, "batch")]
    return {"races": rows[: len(batches)], "scaling": rows[len(batches) :]}


def _race_of(make: Any, num: int, budget: float, names: Collection[str]) -> dict[str, Any]:
    return race(make(num), budget, names)


def tables(results: dict[str, Any]) -> list[Table]:
    """Iterations, executed evaluations and times of all, and how much faster than `optax.lbfgs`."""
    header = ["problems", "solver", "iters", "evals", "ms", "speed-up"]
    rows = []
    for row in results["races"]:
        for i, name in enumerate([*row["iterations"], *BOUNDS]):
            cells = [row["name"] if i == 0 else "", name, row["iterations"].get(name)]
            if row["speedup"] is None or name not in row["speedup"]:
                rows.append([*cells, None, None, "–"])
                continue
            evals, ms = row["evals_per_iteration"].get(name), 1e3 * row["seconds"][name]
            rows.append([*cells, evals, ms, row["speedup"][name]])
    title = f"batch: vmap to one median f; m = {MEMORY_SIZE}; evals per iteration"
    return [table(title, header, rows)]


def figures(results: dict[str, Any]) -> dict[str, Figure]:
    """Time per iteration and problem against the size of the batch; none of a quick run."""
    rows = results["scaling"]
    if not rows:
        return {}
    sizes = [row["size"] for row in rows]
    lines = {
        name: (sizes, [1e6 * row["seconds"][name] for row in rows]) for name in rows[0]["seconds"]
    }
    panel = {
        "title": "Rosenbrock, n = 10",
        "xlabel": "problems in the batch",
        "xticks": sizes,
        "lines": lines,
    }
    return {"batch": line_figure([panel], "µs per iteration and problem")}
