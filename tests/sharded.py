"""Run by test_sharding.py in processes of their own, as the number of devices is fixed at start.

    python -m tests.sharded NUM_DEVICES NUM_PROCESSES PROCESS PORT CHECK

Prints one JSON object.
"""

import json
import os
import re
import sys

num_devices, num_processes, process, port = map(int, sys.argv[1:5])
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={num_devices}"
os.environ["JAX_PLATFORMS"] = "cpu"

import contextlib  # noqa: E402
import dataclasses  # noqa: E402

import jax  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from jax.experimental import multihost_utils  # noqa: E402
from jax.sharding import AxisType, NamedSharding, PartitionSpec  # noqa: E402

jax.config.update("jax_enable_x64", True)
if num_processes > 1:
    jax.distributed.initialize(f"localhost:{port}", num_processes, process)

import jax_lbfgs_pi as lp  # noqa: E402
from benchmarks.communication import COLLECTIVES  # noqa: E402
from jax_lbfgs_pi.tasks import quadratic_tasks  # noqa: E402
from tests.sharded_problem import least_squares, optimize, start  # noqa: E402

SPECS = {"a": ("x",), "b": (None, "x"), "c": ("x",), "d": ()}  # one leaf is on all devices


def put(params, mesh):
    """On the mesh; from every process, with the same values."""
    return {
        name: jax.make_array_from_callback(
            leaf.shape, NamedSharding(mesh, PartitionSpec(*SPECS[name])), lambda i, x=leaf: x[i]
        )
        for name, leaf in params.items()
    }


def make_mesh(kind):
    axis_type = AxisType.Explicit if kind == "explicit" else AxisType.Auto
    return jax.make_mesh((jax.device_count(),), ("x",), axis_types=(axis_type,))


def within(mesh, kind):
    return jax.set_mesh(mesh) if kind == "explicit" else contextlib.nullcontext()


def gathered(tree):
    tree = jax.tree.map(lambda x: multihost_utils.process_allgather(x, tiled=True), tree)
    return jax.tree.map(lambda x: np.asarray(x).tolist(), tree)


def iterates(kind):
    """Iterates with sharded parameters, and the share of its history that a device holds."""
    mesh, out = make_mesh(kind), {}
    for name, init in (("eager", lambda tx: tx.init), ("jit", lambda tx: jax.jit(tx.init))):
        with within(mesh, kind):
            params, state, value = optimize(put(start("abcd"), mesh), init=init)
            tx = lp.lbfgs_pi(memory_size=20)
            rows = init(tx)(put(start("abcd"), mesh))[0].history.s
        out[name] = {
            "params": gathered(params),
            "value": float(value),
            "share": {k: v.addressable_shards[0].data.size / v.size for k, v in rows.items()},
            "share_after": {
                k: v.addressable_shards[0].data.size / v.size for k, v in state[0].history.y.items()
            },
        }
    return out


def all_reduces(kind):
    """Collectives in the compiled update, for several m and numbers of leaves."""
    mesh, out = make_mesh(kind), {}
    paper = lp.init_policy(jax.random.key(0))
    cases = [("paper", paper, {}, m, names) for m in (1, 5, 12) for names in ("c", "ab", "abcd")]
    cases += [
        ("default", None, {"value": 1.0}, m, names)
        for m, names in ((1, "c"), (5, "abcd"), (12, "ab"))
    ]
    for label, policy, told, m, names in cases:
        tx = lp.lbfgs_pi(policy, memory_size=m)
        with within(mesh, kind):
            params = put(start(names), mesh)
            compiled = jax.jit(tx.update).lower(params, tx.init(params), params, **told).compile()
        out[f"{label} {m} {names}"] = re.findall(COLLECTIVES, compiled.as_text())
    return out


def rows_of_h(kind):
    """Matrices spread by rows over the devices: iterates, their shares, and collectives."""
    mesh, out = make_mesh("auto"), {}
    rows, everywhere = NamedSharding(mesh, PartitionSpec("x")), NamedSharding(mesh, PartitionSpec())
    names = {"few": "d", "whole": "c", "many": "abcd"}[kind]
    for label, memory in (("dense", lp.Dense(rows=rows)), ("full", lp.Full(rows=rows))):
        params = jax.device_put(start(names), everywhere)
        tx = lp.lbfgs_pi(memory_size=memory)
        state = jax.jit(tx.init)(params)
        begun = state[0].history[0]
        compiled = jax.jit(tx.update).lower(params, state, params, value=1.0).compile()
        params, state, _ = optimize(params, tx=tx)
        out[label] = {
            "collectives": re.findall(COLLECTIVES, compiled.as_text()),
            "params": gathered(params),
            "parts": [x.addressable_shards[0].data.shape for x in (begun, state[0].history[0])],
        }
    return out


def meta_training(kind):
    """Two groups of eight tasks, spread over the devices and on one."""
    del kind
    mesh, out = make_mesh("auto"), {}
    tasks = quadratic_tasks(16, dim=6)
    config = lp.get_preset(
        "fast", num_epochs=1, unroll_length=5, unrolls_per_start=2, tasks_per_step=8
    )
    for name, sharding in (
        ("one", None), ("many", NamedSharding(mesh, PartitionSpec("x"))),
    ):  # fmt: skip
        for frozen in (True, False):
            policy, log = lp.meta_train(
                tasks,
                dataclasses.replace(config, freeze_grads=frozen),
                policy=lp.init_policy(jax.random.key(1)),
                task_sharding=sharding,
            )
            theta = np.concatenate([np.ravel(x) for x in jax.tree.leaves(policy.params)])
            out[f"{name} {frozen}"] = {
                "theta": theta.tolist(),
                "loss": [record.loss for record in log.records],
            }
    return out


def shard_map(kind):
    """Problems within `shard_map`, with and without its check of what varies over the mesh."""
    mesh = jax.make_mesh((2,), ("i",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    rows, whole, checked = PartitionSpec("i"), PartitionSpec(), kind == "checked"
    A, b = (jax.numpy.asarray(a) for a in least_squares())
    centres = jax.numpy.arange(1.0, 5.0)

    def over_mesh(f, inputs, outputs):
        return jax.jit(
            jax.shard_map(f, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=checked)
        )

    def bowl(x, centre):
        return jax.numpy.sum((x - centre) ** 2 + 0.1 * (x - centre) ** 4)

    def by_data(centre):
        return lp.minimize(bowl, jax.numpy.zeros(2), (centre[0],)).params[None]

    def mapped(centres):
        solve = lambda c: lp.minimize(lambda x: bowl(x, c), jax.numpy.zeros(2)).params  # noqa: E731
        return jax.vmap(solve)(centres)

    def by_start(x0):
        return lp.minimize(lambda x: bowl(x, 1.0), x0[0]).params[None]

    def scan(x0):
        tx = lp.lbfgs_pi()

        def step(carry, _):
            x, state = carry
            value, grads = jax.value_and_grad(lambda x: bowl(x, 1.0))(x)
            updates, state = tx.update(grads, state, x, value=value)
            return (optax.apply_updates(x, updates), state), None

        return jax.lax.scan(step, (x0[0], tx.init(x0[0])), length=25)[0][0][None]

    def of_all_rows(A, b):
        """Data parallel: the sum over all shards, of parameters that are the same in all."""
        f = lambda x: jax.lax.psum(jax.numpy.sum((A @ x - b) ** 2), "i")  # noqa: E731
        return lp.minimize(f, jax.numpy.zeros(3)).params

    def own_rows(A, b):
        """The same without a word of the sum: `jax.grad` makes it, and the value is added too."""
        f = lambda x: jax.numpy.sum((A @ x - b) ** 2)  # noqa: E731
        tx, x = lp.lbfgs_pi(), jax.numpy.zeros(3)

        def step(carry, _):
            x, state = carry
            value, grads = jax.value_and_grad(f)(x)
            updates, state = tx.update(grads, state, x, value=value)
            return (optax.apply_updates(x, updates), state), None

        return jax.lax.scan(step, (x, tx.init(x)), length=40)[0][0]

    starts = jax.numpy.array([[0.0, 3.0], [-5.0, 0.5]])
    out = {
        "by data": over_mesh(by_data, rows, rows)(centres[:2]),
        "mapped": over_mesh(mapped, rows, rows)(centres),
        "by start": over_mesh(by_start, rows, rows)(starts),
        "scan": over_mesh(scan, rows, rows)(starts),
    }
    derivative = jax.grad(lambda c: jax.numpy.sum(over_mesh(by_data, rows, rows)(c)))
    try:
        out["derivative"] = derivative(centres[:2])
    except NotImplementedError:
        out["derivative"] = jax.numpy.zeros(0)
    if checked:  # else `jax.grad` does not sum
        out["of all rows"] = over_mesh(of_all_rows, (rows, rows), whole)(A, b)
        out["own rows"] = over_mesh(own_rows, (rows, rows), whole)(A, b)
    return {name: np.asarray(x).tolist() for name, x in out.items()}


check, kind = sys.argv[5].split(",")
checks = {f.__name__: f for f in (iterates, all_reduces, rows_of_h, meta_training, shard_map)}
result = checks[check](kind)
if process == 0:
    print(json.dumps(result))
