"""The settings of a meta-training run, and the presets."""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jax_lbfgs_pi.clip import get_clip_layer
from jax_lbfgs_pi.trees import as_count, check_number


def check_numbers(settings: Any, *, may_be_zero: Collection[str] = ("seed",)) -> None:
    """Raises unless the numeric fields of a dataclass are what their types say, and above 0.

    None is for what is `int | None`; infinity for what is infinite by default.

    Args:
      settings: the dataclass.
      may_be_zero: fields that may be 0 too.

    Raises:
      TypeError: for what is no number.
      ValueError: for one that is not positive or not finite, or a fraction of what is counted.
    """
    for field in dataclasses.fields(settings):
        name, value = field.name, getattr(settings, field.name)
        least = 0 if name in may_be_zero else 1
        if field.type is int or (field.type == int | None and value is not None):
            as_count(name, value, least=least)
        elif field.type is float:
            if value is None or isinstance(value, bool):
                raise TypeError(f"{name} must be a number, but got {value!r}.")
            check_number(name, value, sign="not negative" if least == 0 else "positive")
            if math.isinf(value) and field.default != math.inf:
                raise ValueError(f"{name} must be finite, but got {value!r}.")


def sum_of_values(values: Float[Array, " K"]) -> Float[Array, ""]:
    """F = Σ_k f(x_k), the paper's loss (eq. 6 with w_k = 1)."""
    return jnp.sum(values)


def mean_log_value(values: Float[Array, " K"]) -> Float[Array, ""]:
    """Mean of ln f(x_k): all steps count alike, whatever the scale of f. Needs f > 0."""
    return jnp.mean(jnp.log(values))


LOSSES: dict[str, Callable[[Float[Array, " K"]], Float[Array, ""]]] = {
    "sum": sum_of_values,
    "mean_log": mean_log_value,
}


OPTIMIZERS: dict[str, Callable[[float], optax.GradientTransformation]] = {
    "adadelta": functools.partial(optax.adadelta, rho=0.9, eps=1e-6),
    "adam": optax.adam,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaTrainConfig:
    """Settings of `meta_train`; the defaults are the paper's (SPEC §4).

    Attributes:
      num_epochs: passes over the tasks.
      unroll_length: K, inner steps in one outer step.
      unrolls_per_start: T, outer steps before a task is left.
      tasks_per_step: tasks mapped over in one outer step; their θ-gradients are averaged.
      memory_size: m of the inner L-BFGS.
      keep_memory: whether the curvature pairs survive from one outer step to the next, detached.
      clip_layer: how the clip is differentiated: a name of `CLIP_LAYERS`.
      loss: `sum` (the paper's Σ f(x_k)) or `mean_log`.
      freeze_grads: whether backpropagation takes the inner gradients as constants, as the paper
        does; false follows the true derivative of F.
      remat: whether a step is computed anew in the backward pass (`jax.checkpoint`) instead of
        stored, where backpropagation goes through the inner gradients; with frozen ones only two
        vectors a step are stored in any case.
      optimizer: `adadelta` (ρ = 0.9, ε = 1e-6) or `adam`, of θ.
      learning_rate: the optimizer's.
      grad_tol: a task is left once its gradient norm is below this.
      max_grad_norm: greatest norm of a task's θ-gradient, which is scaled down to it; infinity for
        no limit.
      divergence_factor: an unroll whose mean f exceeds this times f(x0) leaves θ alone, as one that
        is not finite does; infinity turns that off.
      learn_limits: whether τ_m and τ_M are learned; ignored when training goes on from a policy.
      seed: of the initial policy and the order of the tasks.
    """

    num_epochs: int = 50
    unroll_length: int = 50
    unrolls_per_start: int = 8
    tasks_per_step: int = 1
    memory_size: int = 5
    keep_memory: bool = False
    clip_layer: str = "cvx"
    loss: str = "sum"
    freeze_grads: bool = True
    remat: bool = False
    optimizer: str = "adadelta"
    learning_rate: float = 1.0
    grad_tol: float = 1e-10
    max_grad_norm: float = math.inf
    divergence_factor: float = math.inf
    learn_limits: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self, may_be_zero=("seed", "grad_tol", "learning_rate"))
        get_clip_layer(self.clip_layer)
        for name, known in (("loss", LOSSES), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"Unknown {name} {getattr(self, name)!r}: choose one of {', '.join(known)}."
                )


PRESETS = {
    "paper": MetaTrainConfig(),
    "fast": MetaTrainConfig(
        num_epochs=20,
        unrolls_per_start=2,
        tasks_per_step=6,
        clip_layer="implicit",
        freeze_grads=False,
        optimizer="adam",
        learning_rate=3e-3,
        max_grad_norm=10.0,
        divergence_factor=1.0,
    ),
}


def get_preset(name: str, **changes: object) -> MetaTrainConfig:
    """A preset by its name, with some settings changed.

    Raises:
      ValueError: if there is no preset of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"Unknown preset {name!r}: choose one of {', '.join(PRESETS)}.")
    return dataclasses.replace(PRESETS[name], **changes)  # type: ignore[arg-type]
