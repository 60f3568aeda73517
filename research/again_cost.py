"""What bringing in the last pair again costs: µs a step in a loop, alone and in batches.

python -m research.again_cost
"""

from collections.abc import Callable
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

from functools import partial

import jax_lbfgs_pi as lp
from benchmarks.batch_problems import rosenbrock
from benchmarks.timing import compare

NUM_STEPS = 100
MEMORIES = {
    "full": lp.Full(),
    "full, again": lp.Full(again=True),
    "dense": lp.Dense(),
    "dense, again": lp.Dense(again=True),
}
CASES = ((10, 0), (100, 0), (1000, 0), (10, 512), (20, 256))
"""Variables, and problems in a batch; 0 is one alone."""


def steps(memory_size: Any) -> Callable[[jax.Array], jax.Array]:
    """The values of f along a run."""
    tx = lp.lbfgs_pi(memory_size=memory_size)

    def step(carry: Any, _: None) -> tuple[Any, jax.Array]:
        x, state = carry
        value, grads = jax.value_and_grad(rosenbrock)(x, None)
        updates, state = tx.update(grads, state, x, value=value)
        return (x + updates, state), value

    return lambda x0: jax.lax.scan(step, (x0, tx.init(x0)), length=NUM_STEPS)[1]


def main() -> None:
    """Prints a line for each case."""
    print(f"{'n':>6s}{'batch':>7s}" + "".join(f"{name:>14s}" for name in MEMORIES))
    for n, batch in CASES:
        x0 = jax.random.normal(jax.random.key(0), (batch, n) if batch else (n,))
        solvers = {name: steps(memory) for name, memory in MEMORIES.items()}
        compiled = {k: jax.jit(jax.vmap(f) if batch else f) for k, f in solvers.items()}
        timing = compare({name: partial(f, x0) for name, f in compiled.items()}, budget=4.0)
        micro = [1e6 * timing.seconds[name] / NUM_STEPS for name in MEMORIES]
        print(f"{n:6d}{batch:7d}" + "".join(f"{x:14.1f}" for x in micro), flush=True)


if __name__ == "__main__":
    main()
