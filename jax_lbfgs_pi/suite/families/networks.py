"""Small networks of one hidden layer: classifiers, regression, a differential equation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jax_lbfgs_pi.suite.families.base import Draw, Family, log_uniform

_NUM_POINTS = 40
_SMALL, _WIDE = (5, 6, 3), (16, 14, 6)


def num_weights(inputs: int, hidden: int, outputs: int) -> int:
    """The number of variables of a network with biases."""
    return (inputs + 1) * hidden + (hidden + 1) * outputs


def forward(
    x: Float[Array, " n"],
    points: Float[Array, "num inputs"],
    hidden: int,
    outputs: int,
    activation: Callable[[Array], Array],
) -> Float[Array, "num outputs"]:
    """The outputs of a network whose weights and biases are laid end to end in x."""
    inputs = points.shape[1]
    cut = (inputs + 1) * hidden
    first, second = x[:cut].reshape(inputs + 1, hidden), x[cut:].reshape(hidden + 1, outputs)
    inner = activation(points @ first[:-1] + first[-1:])
    return inner @ second[:-1] + second[-1:]


def _classifier(
    name: str,
    activation: Callable[[Array], Array],
    sizes: tuple[int, int, int],
    num_points: int,
    least_decay: float,
) -> Family:
    """Softmax classification of clusters; `sizes` are those of inputs, hidden layer and classes."""
    inputs, hidden, classes = sizes
    n = num_weights(*sizes)

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 8)
        labels = jax.random.randint(keys[0], (num_points,), 0, classes)
        means = jax.random.normal(keys[1], (classes, inputs))
        separation = log_uniform(keys[2], 0.3, 3.0)
        points = jax.random.normal(keys[3], (num_points, inputs))
        points = points + separation * means[labels]
        points = points * log_uniform(keys[4], 0.3, 3.0, (1, inputs))
        data = {
            "points": points,
            "hits": jax.nn.one_hot(labels, classes),
            "decay": log_uniform(keys[5], least_decay, 1e-2),  # without it many have no minimum
        }
        return log_uniform(keys[6], 0.03, 2.0) * jax.random.normal(keys[7], (n,)), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        logits = forward(x, data["points"], hidden, classes, activation)
        cross = jax.nn.logsumexp(logits, axis=1) - jnp.sum(data["hits"] * logits, axis=1)
        return jnp.mean(cross) + 0.5 * data["decay"] * x @ x

    return Family(f"classifier-{name}", sample, loss)


def _regression(inputs: int, hidden: int) -> Family:
    n = num_weights(inputs, hidden, 1)

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 7)
        points = jax.random.uniform(keys[0], (_NUM_POINTS, inputs), minval=-1.0, maxval=1.0)
        waves = log_uniform(keys[1], 1.0, 6.0) * jax.random.normal(keys[2], (inputs, 3))
        amplitudes = jax.random.normal(keys[3], (3,))
        y = jnp.sin(points @ waves + 1.0) @ amplitudes
        y = y + log_uniform(keys[4], 1e-4, 0.3) * jax.random.normal(keys[5], y.shape)
        scale, where = jax.random.split(keys[6])
        data = {"points": points, "y": y}
        return log_uniform(scale, 0.1, 2.0) * jax.random.normal(where, (n,)), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        r = forward(x, data["points"], hidden, 1, jnp.tanh)[:, 0] - data["y"]
        return jnp.mean(r * r)

    return Family(f"network-regression-{inputs}d", sample, loss)


def _differential_equation(hidden: int, name: str = "network-ode") -> Family:
    """-u'' + κ u + γ u³ = g on [0, 1] with u given at both ends, for a tanh network u."""
    n = num_weights(1, hidden, 1)
    num = 24

    def network(
        x: Float[Array, " n"], t: Float[Array, " num"]
    ) -> tuple[Float[Array, " num"], Float[Array, " num"]]:
        weights, biases, outer, constant = (
            x[:hidden],
            x[hidden : -hidden - 1],
            x[-hidden - 1 : -1],
            x[-1],
        )
        inner = jnp.tanh(t[:, None] * weights[None, :] + biases[None, :])
        curvature = -2.0 * inner * (1.0 - inner * inner) * (weights * weights)[None, :]
        return inner @ outer + constant, curvature @ outer

    def sample(key: PRNGKeyArray) -> Draw:
        keys = jax.random.split(key, 7)
        t = jnp.linspace(0.0, 1.0, num)
        # Manufactured: the solution is a sum of waves, and g is what makes it one.
        waves = jnp.arange(1, 4) * log_uniform(keys[0], 0.5, 2.0, (3,))
        amplitudes = jax.random.normal(keys[1], (3,)) / jnp.arange(1, 4)
        phases = t[:, None] * waves[None, :] + jax.random.normal(keys[2], (1, 3))
        u = jnp.sin(phases) @ amplitudes
        curvature = -jnp.sin(phases) @ (amplitudes * waves * waves)
        linear, cubic = log_uniform(keys[3], 0.1, 10.0), log_uniform(keys[4], 0.01, 3.0)
        data = {
            "t": t,
            "force": -curvature + linear * u + cubic * u**3,
            "ends": jnp.stack([u[0], u[-1]]),
            "linear": linear,
            "cubic": cubic,
            "weight": log_uniform(keys[5], 1.0, 100.0),
        }
        scale, where = jax.random.split(keys[6])
        return log_uniform(scale, 0.3, 2.0) * jax.random.normal(where, (n,)), data

    def loss(x: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
        u, curvature = network(x, data["t"])
        r = -curvature + data["linear"] * u + data["cubic"] * u**3 - data["force"]
        ends = jnp.stack([u[0], u[-1]]) - data["ends"]
        return jnp.mean(r * r) + data["weight"] * ends @ ends

    return Family(name, sample, loss)


NETWORKS = [
    _classifier("sigmoid", jax.nn.sigmoid, _SMALL, _NUM_POINTS, 1e-7),
    _classifier("tanh", jnp.tanh, _SMALL, _NUM_POINTS, 1e-7),
    # More weights than points, and nearly no decay: f falls by decades, and curvature with it.
    _classifier("wide-sigmoid", jax.nn.sigmoid, _WIDE, 60, 1e-12),
    _classifier("wide-tanh", jnp.tanh, _WIDE, 60, 1e-12),
    _regression(1, 10),
    _regression(2, 14),
    _differential_equation(10),
]

MORE_NETWORKS = [
    _differential_equation(hidden, f"network-ode-{hidden}") for hidden in (6, 16, 20, 40)
]
"""Networks of other sizes, for what is trained on long runs of them."""
