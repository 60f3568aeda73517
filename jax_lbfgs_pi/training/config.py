"""The settings of a meta-training run, and the presets."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_lbfgs_pi.clip import get_clip_layer


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
      clip_layer: how the clip is differentiated: `cvx`, `implicit` or `clip`.
      loss: `sum` (the paper's Σ f(x_k)) or `mean_log`.
      learning_rate, rho, eps: ADADELTA's.
      grad_tol: a task is left once its gradient norm is below this.
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
    learning_rate: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    grad_tol: float = 1e-10
    divergence_factor: float = 10.0
    learn_limits: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("num_epochs", "unroll_length", "unrolls_per_start", "tasks_per_step")
        for name in (*counts, "memory_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but got {getattr(self, name)}.")
        get_clip_layer(self.clip_layer)
        if self.loss not in LOSSES:
            raise ValueError(f"Unknown loss {self.loss!r}: choose one of {', '.join(LOSSES)}.")


PRESETS = {
    "paper": MetaTrainConfig(),
    "fast": MetaTrainConfig(num_epochs=20, tasks_per_step=4, clip_layer="implicit"),
}


def get_preset(name: str, **changes: object) -> MetaTrainConfig:
    """A preset by its name, with some settings changed.

    Raises:
      ValueError: if there is no preset of that name.
    """
    if name not in PRESETS:
        raise ValueError(f"Unknown preset {name!r}: choose one of {', '.join(PRESETS)}.")
    return dataclasses.replace(PRESETS[name], **changes)  # type: ignore[arg-type]
