"""The learned policy: another policy's answers, times a bounded residual."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from jax_lbfgs_pi import linalg, trees
from jax_lbfgs_pi.policy.features import (
    NUM_AFTER,
    NUM_BEFORE,
    after_direction,
    before_direction,
)
from jax_lbfgs_pi.policy.observation import InnerProducts, Observation
from jax_lbfgs_pi.policy.protocol import Scaling, StepPolicy

WIDTH = 8
NUM_AVERAGES = 8
DECAY = 0.8
BOUND = 1.5
"""The residual's factors lie within e^±BOUND."""
OMEGA_BOUNDS = 0.1, 3.0
"""ω lies between these, whatever its factor."""
DEAD_ZONE = 0.15
"""Logarithms of factors smaller than this are read as 0."""
OF_A_WINDOW, OF_A_DENSE_H = ("gamma", "omega"), ("tau", "omega", "phi")
"""Of which answers before the direction a policy learns the factors."""


class GeneralMemory(NamedTuple):
    """What a learned policy carries from step to step.

    Attributes:
      base: the memory of the policy beneath.
      averages: running means of what the network asked to keep, shape `(NUM_AVERAGES,)`.
      hidden: what the first network hands to the second, shape `(WIDTH,)`.
    """

    base: Any
    averages: Float[Array, " a"]
    hidden: Float[Array, " w"]


def layers(answers: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the networks' layers, by name."""
    return {
        "before": (NUM_BEFORE + NUM_AVERAGES, WIDTH),
        "answer": (WIDTH, len(answers)),
        "after": (NUM_AFTER + WIDTH, WIDTH),
        "size": (WIDTH, 1),
    }


@struct.dataclass
class General:
    """The answers of `base`, times `exp(network)`, bounded; with weights 0 those of `base`.

    γ and ω, or of a dense H τ, ω and φ, and t may differ from the base's by a factor e^±1.5. Two
    small networks: one before the direction, one after. Their activations are rational, and what is
    bounded is clipped: in a batch of small problems transcendental functions are what a policy
    costs.

    Attributes:
      params: weights, a dict of arrays.
      base: the policy whose answers are adjusted.
      answers: the fields of `Scaling` that are, in the order of the network's outputs:
        `OF_A_WINDOW` or `OF_A_DENSE_H`.

    Raises:
      ValueError: for other answers.
    """

    params: dict[str, Any]
    base: StepPolicy
    answers: tuple[str, ...] = struct.field(pytree_node=False, default=OF_A_WINDOW)

    reads_ds: ClassVar[bool] = False

    __eq__ = trees.equal
    __hash__ = trees.hash_of

    def __post_init__(self) -> None:
        if self.answers not in (OF_A_WINDOW, OF_A_DENSE_H):
            raise ValueError(
                f"A learned policy answers {OF_A_WINDOW} or {OF_A_DENSE_H}, but got {self.answers}."
            )

    @property
    def is_for_a_dense_h(self) -> bool:
        """Whether it answers what a dense H alone asks."""
        return self.answers == OF_A_DENSE_H

    def init(self, dtype: Any) -> GeneralMemory:
        """The base's memory, and zeros."""
        return GeneralMemory(
            self.base.init(dtype), jnp.zeros(NUM_AVERAGES, dtype), jnp.zeros(WIDTH, dtype)
        )

    def scale(self, seen: Observation, memory: GeneralMemory) -> tuple[Scaling, GeneralMemory]:
        """The base's answer, some of it times factors."""
        answer, base = self.base.scale(seen, memory.base)
        dtype = seen.gg.dtype
        features = before_direction(seen, answer, of_a_matrix=self.is_for_a_dense_h)
        inputs = jnp.concatenate([features, memory.averages])
        hidden = jax.nn.soft_sign(_layer(self.params["before"], inputs))
        factors = _factor(_layer(self.params["answer"], hidden))
        changed = {
            name: _times(name, jnp.asarray(getattr(answer, name)), factors[i]).astype(dtype)
            for i, name in enumerate(self.answers)
        }
        averages = DECAY * memory.averages + (1.0 - DECAY) * features[:NUM_AVERAGES]
        moved = GeneralMemory(base, averages.astype(dtype), hidden.astype(dtype))
        return answer._replace(**changed), moved

    def step_size(
        self, seen: Observation, products: InnerProducts, memory: GeneralMemory
    ) -> tuple[Float[Array, ""], GeneralMemory]:
        """The base's answer times a factor."""
        t, base = self.base.step_size(seen, products, memory.base)
        features = after_direction(seen, products, t)
        inputs = jnp.concatenate([features, memory.hidden])
        hidden = jax.nn.soft_sign(_layer(self.params["after"], inputs))
        out = _layer(self.params["size"], hidden)
        # The first step has nothing to be learned from.
        t = t * jnp.where(seen.count > 0, _factor(out[0]), 1.0)
        return t.astype(seen.gg.dtype), memory._replace(base=base)


def init_general(key: Any, base: StepPolicy, answers: tuple[str, ...] = OF_A_WINDOW) -> General:
    """A learned policy that answers as `base` does: random first layers, second layers 0."""
    params, sizes = {}, layers(answers)
    for (name, (n_in, n_out)), k in zip(sizes.items(), jax.random.split(key, 4), strict=True):
        scale = 0.0 if name in ("answer", "size") else n_in**-0.5
        kernel = scale * jax.random.normal(k, (n_in, n_out))
        params[name] = {"kernel": np.asarray(kernel), "bias": np.zeros(n_out)}
    return General(params=params, base=base, answers=answers)


def _times(name: str, answer: Array, factor: Array) -> Array:
    """An answer times its factor, within what the answer may be."""
    if name == "omega":
        return jnp.clip(answer * factor, *OMEGA_BOUNDS)
    if name == "phi":  # at some φ below 0 H ceases to be positive definite: the base knows where
        return jnp.where(answer > 0, answer * factor, answer)
    return answer * factor


def _factor(out: Array) -> Array:
    """exp(out), bounded, but exactly 1 for small `out`.

    Near a minimum t = 1 is what makes a quasi-Newton method converge superlinearly, and any other
    t that a network is not sure of is a loss.
    """
    firm = jnp.sign(out) * jnp.maximum(jnp.abs(out) - DEAD_ZONE, 0.0)
    return jnp.exp(jnp.clip(firm, -BOUND, BOUND))


def _layer(weights: dict[str, Any], x: Array) -> Array:
    kernel = jnp.asarray(weights["kernel"], x.dtype)
    return linalg.matvec(kernel.T, x) + jnp.asarray(weights["bias"], x.dtype)
