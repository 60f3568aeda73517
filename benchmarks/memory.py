"""What an update keeps, and what it needs beside that, in units of the n parameters.

The state of L-BFGS-π holds (2m+2) n numbers and O(m²) more. What a compiled update needs beside its
donated state is read from XLA: temporary buffers, and outputs that reuse no input, of which the
update itself is one. Meta-training keeps K steps for the backward pass.
"""

import dataclasses
import resource
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure
from rich.table import Table

import jax_lbfgs_pi as lp
from benchmarks.problems import mlp_shapes, mlp_task, num_variables
from benchmarks.report import Options, table
from jax_lbfgs_pi.training.outer import make_outer_step
from jax_lbfgs_pi.transform import default_memory

NETWORK = (2, 400)
MEMORIES = (5, 10)
UNROLL_LENGTH = 50
HUGE_N = 10**8


def state_numbers(tx: optax.GradientTransformation, params: Any) -> int:
    """How many floating-point numbers the state has."""
    leaves = jax.tree.leaves(jax.eval_shape(tx.init, params))
    return sum(int(np.prod(a.shape)) for a in leaves if jnp.issubdtype(a.dtype, jnp.floating))


def extra_bytes(compiled: Any) -> int:
    """Temporary buffers, and outputs that reuse no input."""
    analysis = compiled.memory_analysis()
    fresh = analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return analysis.temp_size_in_bytes + fresh


def update_memory(tx: optax.GradientTransformation, params: Any) -> dict[str, float]:
    """The state of `tx` and the extra of its donated update, in units of n numbers."""
    tx = optax.with_extra_args_support(tx)
    n = sum(leaf.size for leaf in jax.tree.leaves(params))
    itemsize = jax.tree.leaves(params)[0].dtype.itemsize
    state = jax.eval_shape(tx.init, params)
    update = jax.jit(lambda g, s, p: tx.update(g, s, p), donate_argnums=1)
    extra = extra_bytes(update.lower(params, state, params).compile())
    return {"state": state_numbers(tx, params) / n, "extra": extra / (n * itemsize)}


def optimizers(memory_size: int) -> dict[str, optax.GradientTransformation]:
    """Ours with and without guard, and optax's."""
    policy = lp.init_policy(jax.random.key(0))
    return {
        "L-BFGS-π": lp.scale_by_lbfgs_pi(policy, memory_size=memory_size),
        "L-BFGS-π, guard=None": lp.scale_by_lbfgs_pi(policy, memory_size=memory_size, guard=None),
        "optax.scale_by_lbfgs": optax.scale_by_lbfgs(memory_size=memory_size),
    }


def meta_memory(unroll_length: int, *, quick: bool) -> list[dict[str, Any]]:
    """Temporary memory of the compiled outer step, in units of n numbers; quick, the paper's."""
    problem = mlp_task()
    data, x0 = jax.tree.map(lambda leaf: leaf[None], (problem.data, problem.x0))
    flat, _ = ravel_pytree(problem.x0)
    policy = lp.init_policy(jax.random.key(0), clip_layer="implicit")
    config = lp.get_preset("paper", clip_layer="implicit", unroll_length=unroll_length)
    unfrozen = dataclasses.replace(config, freeze_grads=False)
    configs = {
        "paper": config,
        "freeze_grads=False": unfrozen,
        "freeze_grads=False, remat": dataclasses.replace(unfrozen, remat=True),
    }
    rows = []
    for name, settings in list(configs.items())[: 1 if quick else None]:
        parts = make_outer_step(problem.task, policy.network, settings)
        outer, inner = parts.init(policy.params), parts.start(data, x0)
        lowered = parts.step.lower(outer, inner, data, np.ones(1, bool), inner.value)
        temporary = lowered.compile().memory_analysis().temp_size_in_bytes
        rows.append({"name": name, "temporary": temporary / (flat.size * flat.dtype.itemsize)})
    return rows


def huge(n: int) -> dict[str, Any]:
    """Three steps of the default in float32 at a size without room for waste; the process's peak.

    f is a quadratic with curvatures from 1 to 2, so that the process holds x, the state, and the
    gradient while an update needs it.
    """
    tx = lp.lbfgs_pi()

    def loss(x: jax.Array) -> jax.Array:
        return 0.5 * jnp.vdot((1.0 + jnp.arange(n, dtype=x.dtype) / n) * x, x)

    def step(params: Any, state: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value)
        return optax.apply_updates(params, updates), state, value

    step = jax.jit(step, donate_argnums=(0, 1))
    params = jnp.ones(n, jnp.float32)
    state = tx.init(params)
    values = []
    for _ in range(3):
        params, state, value = jax.block_until_ready(step(params, state))
        values.append(float(value))
    if not values[2] < values[1] < values[0]:
        raise AssertionError(f"f does not fall: {values}.")
    # Linux reports kilobytes, macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    memory_size = default_memory(params, guarded=True)
    return {
        "n": n,
        "memory_size": memory_size,
        "peak_bytes": peak,
        "peak": peak / (4 * n),
        "values": values,
    }


def measure(options: Options) -> dict[str, Any]:
    """Weighs updates, then the outer step; `huge` runs too if asked for."""
    shapes = mlp_shapes(*NETWORK)
    n = num_variables(shapes)
    dtype = jnp.zeros(()).dtype
    layouts = {
        "array": jax.ShapeDtypeStruct((n,), dtype),
        "tree": [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes],
    }
    memories = MEMORIES[:1] if options.quick else MEMORIES
    cases = [(layout, m) for layout in layouts for m in memories]
    rows = []
    for layout, m in options.track(cases, "memory"):
        for name, tx in optimizers(m).items():
            weights = update_memory(tx, layouts[layout])
            rows.append({"name": name, "layout": layout, "memory_size": m, **weights})
    results = {"n": n, "rows": rows, "meta": meta_memory(UNROLL_LENGTH, quick=options.quick)}
    if options.huge:
        results["huge"] = huge(HUGE_N)
    return results


def tables(results: dict[str, Any]) -> list[Table]:
    """State and extra of an update; temporary memory of an outer step."""
    header = ["update", "layout", "m", "state/n", "2m+2", "extra/n"]
    rows = [
        [
            row["name"], row["layout"], row["memory_size"], row["state"],
            2 * row["memory_size"] + 2, row["extra"],
        ]
        for row in results["rows"]
    ]  # fmt: skip
    out = [table(f"memory: numbers per parameter, n = {results['n']:,}", header, rows)]
    meta = [[row["name"], row["temporary"]] for row in results["meta"]]
    title = f"memory: outer step, K = {UNROLL_LENGTH}, MLP (1,20)"
    out.append(table(title, ["preset", "temporary/n"], meta))
    if "huge" in results:
        row = results["huge"]
        cells = [f"{row['n']:.0e}", row["memory_size"], row["peak_bytes"] / 1e9, row["peak"]]
        header = ["n, float32", "m", "peak GB", "peak/n"]
        out.append(
            table("memory: three steps of the default, peak of the process", header, [cells])
        )
    return out


def figures(results: dict[str, Any]) -> dict[str, Figure]:
    """None: the tables say it all."""
    del results
    return {}
