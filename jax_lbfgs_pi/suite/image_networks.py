"""Networks that classify images: the paper's tasks, and smaller ones on bundled digits."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jax_lbfgs_pi.suite.instances import Parts, add_instances
from jax_lbfgs_pi.tasks import get_tasks, load_digits
from jax_lbfgs_pi.trees import Params

_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
}
_WIDTHS = {"relu": 32, "tanh": 20, "sigmoid": 20}


@dataclasses.dataclass(frozen=True)
class DigitsNetwork:
    """Cross-entropy of a network with one hidden layer, plus ½ `decay` ‖x‖².

    Attributes:
      activation: `relu`, `tanh` or `sigmoid`.
    """

    activation: str

    def loss(self, params: Params, data: dict[str, Any]) -> Float[Array, ""]:
        """Mean over the images, in nats."""
        inner = data["images"] @ params["W1"] + params["b1"][None, :]
        logits = _ACTIVATIONS[self.activation](inner) @ params["W2"] + params["b2"][None, :]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, data["labels"])
        squares = [jnp.sum(leaf * leaf) for leaf in jax.tree.leaves(params)]
        return jnp.mean(losses) + 0.5 * data["decay"] * sum(squares[1:], start=squares[0])


# Made once: methods of equal networks are not equal, and each would be compiled anew.
_NETWORKS = {name: DigitsNetwork(name) for name in _ACTIVATIONS}


def _digits(activation: str, index: int) -> Parts:
    rng = np.random.default_rng((11, index, list(_ACTIVATIONS).index(activation)))
    digits, width = load_digits(), _WIDTHS[activation]
    mine = rng.permutation(len(digits["labels"]))[: 200 + 100 * index]
    x0 = {
        "W1": rng.normal(size=(64, width)) / 8.0,
        "b1": 0.1 * rng.normal(size=width),
        "W2": rng.normal(size=(width, 10)) / np.sqrt(width),
        "b2": 0.1 * rng.normal(size=10),
    }
    data = {
        "images": digits["images"][mine].reshape(-1, 64) / 255.0,
        "labels": digits["labels"][mine],
        "decay": np.array(1e-4),
    }
    return _NETWORKS[activation].loss, x0, data


def _paper(dataset: str, options: dict[str, Any], index: int) -> Parts:
    tasks = get_tasks(dataset, "test", num_tasks=index + 1, **options)
    data, x0 = tasks[index]
    return tasks.task.loss, jax.tree.map(np.asarray, x0), jax.tree.map(np.asarray, data)


_PAPER = "the tasks of L-BFGS-π's paper, test split"
for _kind, _num, _dataset, _options in [
    ("mnist-1x20", 10, "mnist", {"size": (1, 20)}),
    ("mnist-2x400", 10, "mnist", {"size": (2, 400)}),
    ("mnist-4x800", 3, "mnist", {"size": (4, 800)}),
    ("cifar-cnn", 5, "cifar10", {"batch_size": 100}),
]:
    add_instances(_kind, _num, functools.partial(_paper, _dataset, _options), _PAPER)
for _activation in _ACTIVATIONS:
    add_instances(
        f"digits-{_activation}", 5, functools.partial(_digits, _activation), "scikit-learn's digits"
    )
