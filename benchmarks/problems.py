"""What the benchmarks run on: points of a convex quadratic, and the paper's MLP task."""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.tasks.networks import MLP, Classification

NUM_POINTS = 4  # of the quadratic; they are visited in turn
NUM_IMAGES, IMAGE_SHAPE = 1000, (28, 28, 1)
INPUTS, CLASSES = 784, 10


def mlp_shapes(depth: int, width: int) -> list[tuple[int, int]]:
    """The weight matrices of the paper's MLP (n_l, n_u)."""
    return [(INPUTS, width), *[(width, width)] * depth, (width, CLASSES)]


def num_variables(shapes: list[tuple[int, ...]]) -> int:
    """n, over all leaves."""
    return sum(int(np.prod(shape)) for shape in shapes)


def quadratic_points(shapes: list[tuple[int, ...]]) -> list[tuple[Any, Any]]:
    """Points and gradients of `½ Σ h_i x_i²`, h in [1/2, 2], as lists of leaves of these shapes.

    Between any two of them `sᵀy > 0`, so in whatever order they come no curvature pair is ever
    skipped: an update that is timed on them works with a full window. One shape gives an array.
    """

    def tree(leaves: Iterator[Any]) -> Any:
        leaves = list(leaves)
        return leaves[0] if len(leaves) == 1 else leaves

    points = []
    for seed in range(NUM_POINTS):
        keys = jax.random.split(jax.random.key(seed), len(shapes))
        x = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
        g = [
            leaf * jax.random.uniform(jax.random.key(i), leaf.shape, minval=0.5, maxval=2.0)
            for i, leaf in enumerate(x)
        ]
        points.append((tree(iter(x)), tree(iter(g))))
    return points


class MLPTask(NamedTuple):
    """One task of the paper's meta-training: MLP (1, 20) on a batch of 1,000 images.

    Attributes:
      task: `init` and `loss`.
      data: images and labels.
      x0: the starting point, the network's variables.
      source: where the images are from.
    """

    task: lp.Task
    data: Any
    x0: Any
    source: str


def mlp_task() -> MLPTask:
    """The first training task on MNIST if TFDS_DATA_DIR has it, else random images of its shape."""
    if os.environ.get("TFDS_DATA_DIR"):
        try:
            tasks = lp.get_tasks("mnist", "train", num_tasks=1)
        except lp.DataError:
            pass
        else:
            return MLPTask(tasks.task, *tasks[0], source="MNIST")
    rng = np.random.default_rng(0)
    data = {
        "images": jnp.asarray(rng.uniform(size=(NUM_IMAGES, *IMAGE_SHAPE))),
        "labels": jnp.asarray(rng.integers(CLASSES, size=NUM_IMAGES)),
    }
    task = Classification(MLP(), IMAGE_SHAPE)
    return MLPTask(task, data, task.init(jax.random.key(0)), source="random images")
