"""What f and its gradient cost for the paper's CNN on 1,000 images, by how it is convolved.

    python -m benchmarks.cnn

Alone, and in a loop over iterates within one program, as a race has it, where what depends on the
images alone is done once.
"""

import functools
from typing import Any

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import optax
from flax import linen as nn

from benchmarks.timing import compare
from jax_lbfgs_pi.tasks import CNN, Classification
from jax_lbfgs_pi.tasks.suites import CHUNK

NUM, ITERATES = 1000, 4


def by_rows(images: jax.Array, kernel: jax.Array, *_: Any, **__: Any) -> jax.Array:
    """A convolution as one matrix product for each row of the kernel."""
    height, width, channels, features = kernel.shape
    columns, rows = images.shape[2] - width + 1, images.shape[1] - height + 1
    shifted = jnp.concatenate([images[:, :, j : j + columns] for j in range(width)], axis=-1)
    flat = kernel.reshape(height, width * channels, features)
    return sum(shifted[:, i : i + rows] @ flat[i] for i in range(height))


def loss(params: Any, data: dict[str, jax.Array], conv: Any = jax.lax.conv_general_dilated) -> Any:
    """The same network of flax's layers."""
    params, x = params["params"], data["images"]
    for i, features in enumerate((6, 12)):
        layer = nn.Conv(features, (5, 5), padding="VALID", conv_general_dilated_cls=lambda: conv)
        x = nn.avg_pool(
            jax.nn.relu(layer.apply({"params": params[f"Conv_{i}"]}, x)), (2, 2), (2, 2)
        )
    logits = nn.Dense(10).apply({"params": params["Dense_0"]}, x.reshape(len(x), -1))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, data["labels"])
    return jnp.mean(losses)


def descend(function: Any, x0: Any, data: Any) -> Any:
    """Gradient descent, `ITERATES` evaluations."""

    def step(x: Any, _: None) -> tuple[Any, jax.Array]:
        value, gradient = jax.value_and_grad(function)(x, data)
        return jax.tree.map(lambda a, b: a - 0.1 * b, x, gradient), value

    return jax.lax.scan(step, x0, None, length=ITERATES)


def main() -> None:
    rng = np.random.default_rng(0)
    data = {
        "images": jnp.array(rng.uniform(size=(NUM, 32, 32, 3))),
        "labels": jnp.array(rng.integers(10, size=NUM)),
    }
    task = Classification(CNN(), (32, 32, 3))
    chunked = Classification(CNN(), (32, 32, 3), chunk=CHUNK)
    x0 = task.init(jax.random.key(0))
    losses = {
        f"four results together, {CHUNK} images": chunked.loss,
        "the same, all images": task.loss,
        "products by rows, all images": functools.partial(loss, conv=by_rows),
        "XLA's convolution": loss,
    }
    alone = {name: jax.jit(jax.value_and_grad(f)) for name, f in losses.items()}
    looped = {name: jax.jit(functools.partial(descend, f)) for name, f in losses.items()}
    reference = jax.tree.leaves(alone["XLA's convolution"](x0, data))
    print(f"{'':<38}{'alone, ms':>10}{'in a loop':>10}{'apart':>9}")
    times = [
        compare({k: functools.partial(f, x0, data) for k, f in jitted.items()}, budget=60, least=9)
        for jitted in (alone, looped)
    ]
    for name in losses:
        mine = jax.tree.leaves(alone[name](x0, data))
        apart = max(float(jnp.max(jnp.abs(a - b))) for a, b in zip(mine, reference, strict=True))
        once, each = times[0].seconds[name], times[1].seconds[name] / ITERATES
        print(f"{name:<38}{1e3 * once:>10.0f}{1e3 * each:>10.0f}{apart:>9.0e}")


if __name__ == "__main__":
    main()
