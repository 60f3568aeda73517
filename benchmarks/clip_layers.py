"""Do the clip layers train the same policy? 20 outer steps of the paper's protocol with each.

    python benchmarks/clip_layers.py --dataset mnist

Free-running, each layer goes on from its own state; in lock-step all go on from that of `implicit`.
`clip` and `implicit` have one derivative up to rounding, so their free-running distance is what
rounding alone makes of 20 outer steps: no two layers can be asked to agree better.
"""

import argparse
import time

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

jax.config.update("jax_enable_x64", True)

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.training.outer import make_outer_step

NUM_STEPS, UNROLLS = 20, 4
LAYERS = ("implicit", "clip", "cvx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=("digits", "mnist"), default="digits")
    tasks = lp.get_tasks(parser.parse_args().dataset, "train")
    policy = lp.init_policy(jax.random.key(0))
    steps = {
        layer: make_outer_step(
            tasks.task,
            policy.with_clip_layer(layer).network,
            lp.get_preset("paper", clip_layer=layer),
        )
        for layer in LAYERS
    }
    alive = np.ones(1, bool)
    free = {layer: (steps[layer].init(policy.params), None) for layer in LAYERS}
    lock_step = dict.fromkeys(LAYERS, 0.0)
    seconds = {layer: [] for layer in LAYERS}
    for i in range(NUM_STEPS):
        if i % UNROLLS == 0:
            data, x0 = tasks.stack([i // UNROLLS])
            start = steps["implicit"].start(data, x0)
            free = {layer: (outer, start) for layer, (outer, _) in free.items()}
        reference = free["implicit"]
        moved = {}
        for layer in LAYERS:
            began = time.perf_counter()
            outer, inner, _ = jax.block_until_ready(
                steps[layer].step(*free[layer], data, alive, start.value)
            )
            seconds[layer].append(time.perf_counter() - began)
            locked, *_ = steps[layer].step(*reference, data, alive, start.value)
            moved[layer] = outer, inner
            target = moved["implicit"][0].theta
            lock_step[layer] = max(lock_step[layer], distance(locked.theta, target))
        free = moved
    print(f"{tasks.name}: {NUM_STEPS} outer steps, relative distance of θ from that of 'implicit'")
    print(f"{'layer':<10}{'free-running':>14}{'lock-step, max':>16}{'s/step':>9}")
    for layer in LAYERS:
        apart = distance(free[layer][0].theta, free["implicit"][0].theta)
        median = np.median(seconds[layer][1:])  # the first one compiles
        print(f"{layer:<10}{apart:>14.1e}{lock_step[layer]:>16.1e}{median:>9.3f}")


def distance(theta: object, reference: object) -> float:
    a, b = ravel_pytree(theta)[0], ravel_pytree(reference)[0]
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


if __name__ == "__main__":
    main()
