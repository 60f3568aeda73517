"""The task sets by name: what the CLI trains on and races on.

Splits are disjoint in images and in starting points. `train` is for meta-training, `dev` for every
choice made by looking at results, `test` for reported numbers.
"""

import os
from collections.abc import Callable

import numpy as np
from flax import linen as nn

from jax_lbfgs_pi.tasks.base import TaskSet
from jax_lbfgs_pi.tasks.convex import logistic_tasks, quadratic_tasks
from jax_lbfgs_pi.tasks.data import Images, load_digits, load_images
from jax_lbfgs_pi.tasks.networks import CNN, MLP, Classification, decode_bytes

SPLITS = ("train", "dev", "test")
DATASETS = ("digits", "mnist", "cifar10", "quadratic", "logistic")
SIZED = ("digits", "mnist")
"""Those whose networks have a size to choose."""
_NUM_TASKS = {"train": 60, "dev": 20, "test": 1000}
_DIGITS_BOUNDS = {"train": (0, 997), "dev": (997, 1197), "test": (1197, 1797)}
_DIGITS_BATCH = 200
CHUNK = 40  # what convolutions make of so many images fits a CPU's caches


def get_tasks(
    dataset: str,
    split: str,
    *,
    size: tuple[int, int] = (1, 20),
    num_tasks: int | None = None,
    batch_size: int = 1000,
    data_dir: str | os.PathLike[str] | None = None,
) -> TaskSet:
    """The tasks of a data set's split.

    Args:
      dataset: `digits`, `mnist`, `cifar10`, `quadratic` or `logistic`.
      split: `train`, `dev` or `test`. MNIST and CIFAR-10 have no `dev`: the paper's 60 training
        batches take every training image. Make choices on `digits`.
      size: (n_l, n_u) of the MLP on `digits` and `mnist`; other data sets have one size.
      num_tasks: how many; by default 60 to train on, 20 to develop on, 1,000 to test on.
      batch_size: N, how many images a task of MNIST or CIFAR-10 has.
      data_dir: tensorflow-datasets' folder, for MNIST and CIFAR-10.

    Raises:
      ValueError: for an unknown data set or split, or `num_tasks` or `batch_size` below 1.
      DataError: if MNIST or CIFAR-10 is missing, or the extra `data` is.
    """
    if dataset not in DATASETS:
        raise ValueError(f"Unknown data set {dataset!r}: choose one of {', '.join(DATASETS)}.")
    if split not in SPLITS or (split == "dev" and dataset in ("mnist", "cifar10")):
        splits = [s for s in SPLITS if s != "dev" or dataset not in ("mnist", "cifar10")]
        raise ValueError(f"{dataset} has no split {split!r}: choose one of {', '.join(splits)}.")
    num_tasks = _NUM_TASKS[split] if num_tasks is None else num_tasks
    if num_tasks < 1:
        raise ValueError(f"num_tasks must be at least 1, but got {num_tasks}.")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, but got {batch_size}.")
    seed = SPLITS.index(split)
    convex: dict[str, Callable[..., TaskSet]] = {
        "quadratic": quadratic_tasks,
        "logistic": logistic_tasks,
    }
    if dataset in convex:
        return convex[dataset](num_tasks, seed=seed)
    if dataset == "digits":
        return _digits(split, num_tasks, MLP(*size), seed)
    images = load_images(dataset, split, data_dir)
    network = CNN() if dataset == "cifar10" else MLP(*size)
    batches = _shuffled_batches(images, batch_size, seed)
    return _image_tasks(images, dataset, num_tasks, network, seed, batches)


def _digits(split: str, num_tasks: int, network: nn.Module, seed: int) -> TaskSet:
    images = load_digits()
    start, stop = _DIGITS_BOUNDS[split]
    # One shuffle for all splits: cutting it is what keeps them disjoint.
    mine = np.random.default_rng(0).permutation(len(images["labels"]))[start:stop]
    rng = np.random.default_rng(seed)
    if split == "train":  # few images: every task draws its own subset of them
        draws = [rng.permutation(mine)[:_DIGITS_BATCH] for _ in range(num_tasks)]
    else:
        draws = list(mine.reshape(-1, _DIGITS_BATCH))
    return _image_tasks(images, "digits", num_tasks, network, seed, np.stack(draws))


def _shuffled_batches(images: Images, batch_size: int, seed: int) -> np.ndarray:
    order = np.random.default_rng(seed).permutation(len(images["labels"]))
    num_batches = len(order) // batch_size  # what is left over makes no full batch
    return order[: num_batches * batch_size].reshape(num_batches, batch_size)


def _image_tasks(
    images: Images,
    dataset: str,
    num_tasks: int,
    network: nn.Module,
    seed: int,
    batches: np.ndarray,
) -> TaskSet:
    size = f"({network.depth},{network.width})" if isinstance(network, MLP) else "cnn"
    return TaskSet(
        Classification(
            network, images["images"].shape[1:], chunk=CHUNK if isinstance(network, CNN) else None
        ),
        {name: array[batches] for name, array in images.items()},
        rows=np.arange(num_tasks) % len(batches),
        seed=seed,
        decode=decode_bytes,
        name=f"{dataset}-{size}",
    )
