"""What a step costs where the parameters lie on many devices: counted, then simulated.

    python -m benchmarks.communication

The collectives of a whole iteration (f, its gradient, the update) are counted in the programs that
XLA makes for eight devices. The rest is a model, as no such machine is at hand: each device goes
through its local parts at the speed of its memory, each part longer by a share that is drawn anew
(exponentially distributed), an all-reduce begins when the last device has come, and takes ⌈log₂ P⌉
messages one after the other, whatever few numbers it sums (recursive doubling; Thakur,
Rabenseifner & Gropp 2005). In the mean a step takes

    Σ over its parts of t (1 + j H_P), and c ⌈log₂ P⌉ α,

with t the time of a part, j the mean share of delay, H_P = 1 + 1/2 + ... + 1/P the mean greatest of
P such delays, c the number of all-reduces and α the latency of a message.
"""

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from benchmarks.report import table

NUM_DEVICES = 1000
PER_DEVICE = 10**8
BYTES = 4
MEMORY = 10
BANDWIDTH = 3.35e12
"""Bytes a second that a device reads and writes: an H100's memory."""
LATENCY = 5e-6
"""Seconds for a message of a few numbers from one device to another."""
DELAY = 0.02
"""The mean delay of a part, as a share of its time."""
COLLECTIVES = r"(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("


class Step(NamedTuple):
    """An iteration of an optimizer.

    Attributes:
      vectors: how many vectors of n numbers its update reads and writes.
      collectives: all-reduces, one after the other, those of f included.
    """

    vectors: int
    collectives: int


VECTORS: dict[str, Callable[[int], int]] = {
    "L-BFGS-π": lambda m: 4 * m + 24,
    # Each turn of the two loops: a product reads two vectors, a sum reads two and writes one.
    "optax.lbfgs": lambda m: 10 * m + 8,
}
"""Of the number of pairs m. Ours as compiled for a CPU (docs/speed.md); optax's from its code, each
turn of a loop for itself."""


def message_seconds(num_devices: int) -> float:
    """An all-reduce's messages, one after the other."""
    return math.ceil(math.log2(num_devices)) * LATENCY


def moving_seconds(step: Step, per_device: int) -> float:
    """What an update reads and writes, at the speed of memory."""
    return step.vectors * per_device * BYTES / BANDWIDTH


def simulate(
    step: Step, num_devices: int, per_device: int, num_steps: int = 2000, seed: int = 0
) -> np.ndarray:
    """Seconds of each of `num_steps` steps, every device's delays drawn one by one."""
    rng = np.random.default_rng(seed)
    part = moving_seconds(step, per_device) / step.collectives
    messages = message_seconds(num_devices)
    seconds = np.zeros(num_steps)
    for _ in range(step.collectives):
        slowest = rng.exponential(DELAY, (num_steps, num_devices)).max(1)
        seconds += part * (1.0 + slowest) + messages
    return seconds


def mean_seconds(step: Step, num_devices: int, per_device: int) -> float:
    """The formula above."""
    harmonic = math.fsum(1.0 / i for i in range(1, num_devices + 1))
    moving = moving_seconds(step, per_device) * (1.0 + DELAY * harmonic)
    return moving + step.collectives * message_seconds(num_devices)


def count(memory_size: int) -> dict[str, int]:
    """All-reduces of an iteration on eight host devices by optimizer; for `optax.lbfgs` one trial.

    XLA's names of what comes from a loop or a branch of JAX tell where one is. A collective in one
    of the two loops over the pairs counts m times; of the search, whose branches hold one each, one
    is counted. Run in a process that has eight devices.
    """
    import jax
    import jax.numpy as jnp
    import optax
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    import jax_lbfgs_pi as lp

    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    x = jax.device_put(jnp.ones(800), NamedSharding(mesh, PartitionSpec("x")))

    def loss(x: Any) -> Any:
        return jnp.sum(jnp.cosh(x - 0.5))

    def collectives(tx: Any, m: int, *, searches: bool) -> int:
        def iteration(x: Any, state: Any) -> Any:
            value, grads = jax.value_and_grad(loss)(x)
            extra = {"grad": grads, "value_fn": loss} if searches else {}
            updates, state = tx.update(grads, state, x, value=value, **extra)
            return optax.apply_updates(x, updates), state

        text = jax.jit(iteration).lower(x, tx.init(x)).compile().as_text()
        lines = [line for line in text.splitlines() if re.search(COLLECTIVES, line)]
        branches = [line for line in lines if "/cond/branch" in line]
        loops = [line for line in lines if "/while/body/closed_call" in line]
        return len(lines) - len(branches) - len(loops) + m * len(loops) + bool(branches)

    m = memory_size
    return {
        "L-BFGS-π": collectives(lp.lbfgs_pi(memory_size=m), m, searches=False),
        "optax.lbfgs": collectives(optax.lbfgs(memory_size=m), m, searches=True),
    }


def count_elsewhere(memory_size: int) -> dict[str, int]:
    """`count`, in a process of its own with eight devices."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    code = f"""import json; from benchmarks import communication
print(json.dumps(communication.count({memory_size})))"""
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env=os.environ | flags, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints the table."""
    collectives = count_elsewhere(MEMORY)
    rows = []
    for num_devices in (8, 64, NUM_DEVICES):
        for name, vectors in VECTORS.items():
            step = Step(vectors(MEMORY), collectives[name])
            seconds = 1e3 * simulate(step, num_devices, PER_DEVICE)
            messages = 1e3 * step.collectives * message_seconds(num_devices)
            mean = 1e3 * mean_seconds(step, num_devices, PER_DEVICE)
            times = [float(np.median(seconds)), float(np.quantile(seconds, 0.99)), messages, mean]
            rows.append([f"{num_devices:,}", name, *step, *times])
    header = ["devices", "", "vectors", "sums", "ms", "99 %", "messages", "formula"]
    title = f"A step, {PER_DEVICE:.0e} float32 numbers a device, m = {MEMORY}"
    Console(width=80).print(table(title, header, rows))


if __name__ == "__main__":
    main()
