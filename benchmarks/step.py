"""One update: direction, features, policy and history, against `optax.scale_by_lbfgs`.

Beside them stands the memory floor: a pass that does no more than the traffic of a vector-free
step, reading the 2m+1 vectors of the window and the gradient twice and writing three. It is XLA's
fastest form of that, a sum of separate rows, into donated buffers, so that no allocation is timed;
the barrier keeps its two passes from becoming one.

Small problems are bound by what it costs to start a program; so updates are timed in a loop too,
within one program, as `lp.minimize` and the unroll run them. There both optimizers pay for fetching
the next point and for adding up the updates as well.

State is donated and fed back; gradients and points are those of `quadratic_points`, so the window
is full and no pair is skipped. A falling `value` keeps the guard from rejecting trials.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from matplotlib.figure import Figure
from rich.table import Table

import jax_lbfgs_pi as lp
from benchmarks.problems import mlp_shapes, num_variables, quadratic_points
from benchmarks.report import Options, line_figure, table
from benchmarks.timing import Stateful, compare

LARGE = 20_000  # from this n on loops are short, and what a step costs depends on m
NAMES = {"ours": "L-BFGS-π", "bare": "t = 1, guard=None", "optax": "optax", "floor": "floor"}


class Sizes(NamedTuple):
    """What is timed, and for how long."""

    arrays: tuple[int, ...]
    networks: tuple[tuple[int, int], ...]
    memories: tuple[int, ...]
    sweep_n: tuple[int, ...]
    sweep_m: tuple[int, ...]
    budget: float


FULL = Sizes(
    arrays=(10, 100, 1000, 16_280, 637_600, 3_195_200),
    networks=((1, 20), (2, 400), (4, 800)),
    memories=(5, 10),
    sweep_n=(637_600,),
    sweep_m=(2, 5, 10, 20),
    budget=2.5,
)
QUICK = Sizes(
    arrays=(100, 16_280),
    networks=((1, 20),),
    memories=(5,),
    sweep_n=(16_280,),
    sweep_m=(5,),
    budget=0.4,
)


Carry = tuple[Any, Any]
"""The optimizer's state and the value of f that it is told."""


def updater(tx: Any) -> Callable[[Carry, Any, Any], tuple[Carry, Any]]:
    """An update of `tx` as `(carry, params, grads) -> (carry, updates)`; f falls with each."""
    tx = optax.with_extra_args_support(tx)  # it drops the value if `tx` knows of none

    def update(carry: Carry, params: Any, grads: Any) -> tuple[Carry, Any]:
        state, value = carry
        updates, state = tx.update(grads, state, params, value=value)
        # By n: the slopes, a share of which f must fall by, grow with it.
        return (state, value - optax.tree.size(params)), updates

    return update


def begin(tx: Any, params: Any) -> Carry:
    """The carry of the first update."""
    # Copies: optax's state has one buffer of zeros in several places, which cannot be donated.
    return jax.tree.map(jnp.copy, (tx.init(params), jnp.zeros(())))


def stepper(tx: Any, points: list[tuple[Any, Any]]) -> Stateful:
    """Updates of `tx` on the points in turn, jitted, the state donated."""
    return Stateful(jax.jit(updater(tx), donate_argnums=0), begin(tx, points[0][0]), points)


def looper(tx: Any, points: list[tuple[Any, Any]]) -> Stateful:
    """`loop_length` updates of `tx` in one jitted loop, on the points in turn."""
    update, x0 = updater(tx), points[0][0]
    length = loop_length(optax.tree.size(x0))

    def loop(carry: Any, stacked: Any) -> tuple[Any, None]:
        def turn(carry: Any, i: Any) -> tuple[Any, None]:
            carry, total = carry
            params, grads = jax.tree.map(lambda leaf: leaf[i % len(points)], stacked)
            carry, updates = update(carry, params, grads)
            return (carry, optax.apply_updates(total, updates)), None

        return jax.lax.scan(turn, carry, jnp.arange(length))

    start = (begin(tx, x0), jax.tree.map(jnp.copy, x0))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *points)
    return Stateful(jax.jit(loop, donate_argnums=0), start, [(stacked,)])


def loop_length(n: int) -> int:
    """How many updates of n variables a loop makes."""
    return 100 if n < LARGE else 8


def floor(n: int, memory_size: int, dtype: Any = float) -> Stateful:
    """The traffic of a step and nothing else: 2m+1 vectors read twice, three written."""
    num_rows = 2 * memory_size + 1

    def two_passes(buffers: Any, rows: Any, coefficients: Any) -> tuple[Any, None]:
        del buffers  # donated: the results take their place
        first = sum(c * row for c, row in zip(coefficients, rows, strict=True))
        first, rows, coefficients = jax.lax.optimization_barrier((first, rows, coefficients))
        second = sum((c + 1.0) * row for c, row in zip(coefficients, rows, strict=True))
        return (first, second, 0.5 * second), None

    rows = tuple(jnp.full(n, 1.0 + i, dtype) for i in range(num_rows))
    coefficients = tuple(jnp.asarray(1.0 / (1 + i), dtype) for i in range(num_rows))
    buffers = tuple(jnp.zeros(n, dtype) for _ in range(3))
    passes = jax.jit(two_passes, donate_argnums=0, keep_unused=True)
    return Stateful(passes, buffers, [(rows, coefficients)])


def candidates(shapes: list[tuple[int, ...]], memory_size: int) -> dict[str, Stateful]:
    """The default, t = 1 without guard, optax's, loops of all, and the floor."""
    points = quadratic_points(shapes)
    transforms = {
        "ours": lp.scale_by_lbfgs_pi(memory_size=memory_size),
        "bare": lp.scale_by_lbfgs_pi("unit", memory_size=memory_size, guard=None),
        "optax": optax.scale_by_lbfgs(memory_size=memory_size),
    }
    return {
        **{name: stepper(tx, points) for name, tx in transforms.items()},
        **{f"{name} in a loop": looper(tx, points) for name, tx in transforms.items()},
        "floor": floor(num_variables(shapes), memory_size),
    }


def check_steady(steppers: dict[str, Stateful]) -> None:
    """What was timed was the usual case: nothing overflowed, and no trial was rejected."""
    for name, one in steppers.items():
        finite = all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(one.state))
        retreats = optax.tree.get_all_with_path(one.state, "num_retreats")
        if not finite or any(int(count) for _, count in retreats):
            raise AssertionError(f"{name} was not timed in its steady state.")


def _time(shapes: list[tuple[int, ...]], memory_size: int, budget: float) -> dict[str, Any]:
    steppers = candidates(shapes, memory_size)
    timing = compare(steppers, budget=budget, warm_up=memory_size + 2)
    check_steady(steppers)
    return {
        "n": num_variables(shapes),
        "leaves": len(shapes),
        "memory_size": memory_size,
        "ratio_to_optax": timing.ratio("ours", "optax"),
        "ratio_to_floor": timing.ratio("ours", "floor"),
        "ratio_to_bare": timing.ratio("ours", "bare"),
        "ratio_to_bare_in_a_loop": timing.ratio("ours in a loop", "bare in a loop"),
        "ratio_in_a_loop": timing.ratio("ours in a loop", "optax in a loop"),
        **timing._asdict(),
    }


def measure(options: Options) -> dict[str, Any]:
    """Times all sizes."""
    sizes = QUICK if options.quick else FULL
    layouts = [[(n,)] for n in sizes.arrays] + [mlp_shapes(*size) for size in sizes.networks]
    cases = [
        (shapes, m)
        for shapes in layouts
        for m in sizes.memories
        if m == min(sizes.memories) or num_variables(shapes) >= LARGE
    ]
    sweep = [([(n,)], m) for n in sizes.sweep_n for m in sizes.sweep_m]
    known = [case for case in sweep if case not in cases]
    rows = [_time(*case, sizes.budget) for case in options.track([*cases, *known], "step")]
    return {"rows": rows, "num_table_rows": len(cases)}


def tables(results: dict[str, Any]) -> list[Table]:
    """Ratios, with our milliseconds beside them."""
    header = ["n", "leaves", "m", "ms", "/optax", "loop", "/t = 1", "loop", "/floor"]
    rows = [
        [
            f"{row['n']:,}", row["leaves"], row["memory_size"], 1e3 * row["seconds"]["ours"],
            row["ratio_to_optax"], row["ratio_in_a_loop"], row["ratio_to_bare"],
            row["ratio_to_bare_in_a_loop"], row["ratio_to_floor"],
        ]
        for row in results["rows"][: results["num_table_rows"]]
    ]  # fmt: skip
    title = "step: an update, alone and in a loop, over optax's, t = 1's, the memory floor's"
    return [table(title, header, rows)]


def figures(results: dict[str, Any]) -> dict[str, Figure]:
    """Time against n, and against m."""
    arrays = [row for row in results["rows"] if row["leaves"] == 1]
    smallest = min(row["memory_size"] for row in results["rows"][: results["num_table_rows"]])

    def panel(title: str, by: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        rows = sorted(rows, key=lambda row: row[by])
        xs = [row[by] for row in rows]
        lines = {
            label: (xs, [1e3 * row["seconds"][name] for row in rows])
            for name, label in NAMES.items()
        }
        ticks = {"xticks": xs} if by == "memory_size" else {}
        xlabel = {"n": "variables n", "memory_size": "memory m"}[by]
        return {"title": title, "xlabel": xlabel, "lines": lines, **ticks}

    by_n = [row for row in arrays if row["memory_size"] == smallest]
    sizes = sorted({row["n"] for row in arrays})
    of_size = {n: [row for row in arrays if row["n"] == n] for n in sizes}
    most = max(len(rows) for rows in of_size.values())
    by_m = [
        panel(f"n = {n:,}", "memory_size", rows) for n, rows in of_size.items() if len(rows) == most
    ]
    return {
        "step_n": line_figure([panel(f"m = {smallest}", "n", by_n)], "ms per update"),
        "step_m": line_figure(by_m, "ms per update"),
    }
