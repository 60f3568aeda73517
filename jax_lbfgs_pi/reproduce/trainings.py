"""The training runs of the reproduction: learned limits, and what differentiates the clip."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jax_lbfgs_pi.clip import clip_autodiff, clip_cvx, clip_implicit, clip_straight_through
from jax_lbfgs_pi.pretrained import save_policy
from jax_lbfgs_pi.tasks.suites import get_tasks
from jax_lbfgs_pi.training import meta_train
from jax_lbfgs_pi.training.config import MetaTrainConfig
from jax_lbfgs_pi.training.log import MetaTrainLog, OuterRecord, read_log

NUM_TASKS = 60


@dataclasses.dataclass(frozen=True)
class Training:
    """A training run: its name, its settings, and the same for a reproduction of the form alone."""

    name: str
    config: MetaTrainConfig
    sketch: MetaTrainConfig

    @classmethod
    def of(cls, name: str, config: MetaTrainConfig) -> "Training":
        """With a sketch of one epoch and two unrolls of a task."""
        sketch = dataclasses.replace(config, num_epochs=1, unrolls_per_start=2)
        return cls(name, config, sketch)


_LAYERS = ("cvx", "implicit", "clip", "straight_through")

TRAININGS = {
    training.name: training
    for training in (
        Training.of("limits", MetaTrainConfig(clip_layer="implicit", learn_limits=True)),
        *(Training.of(f"layer-{x}", MetaTrainConfig(clip_layer=x, num_epochs=5)) for x in _LAYERS),
    )
}
"""All with the preset `paper` on MNIST, but for the settings that are their subject."""

LAYERS = {layer: f"layer-{layer}" for layer in _LAYERS}


def settings_of(training: Training, num_tasks: int | None) -> tuple[MetaTrainConfig, int]:
    """The settings, and the number of tasks, under `--tasks num_tasks`."""
    if num_tasks is None or num_tasks >= 10:
        return training.config, NUM_TASKS
    return training.sketch, num_tasks


def run_training(
    training: Training,
    out: Path,
    *,
    num_tasks: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    on_step: Callable[[OuterRecord], None] | None = None,
) -> MetaTrainLog:
    """Trains, or goes on, or reads the log if it is all there; the policy is written beside it."""
    folder = out / "trainings" / training.name
    if (folder / "policy.safetensors").is_file():
        return read_log(folder)
    config, count = settings_of(training, num_tasks)
    tasks = get_tasks("mnist", "train", num_tasks=count, data_dir=data_dir)
    policy, log = meta_train(tasks, config, checkpoint_dir=folder, on_step=on_step)
    save_policy(policy, folder / "policy")
    return log


SOLVERS = {
    "cvx (Moreau)": clip_cvx,
    "cvx (DIFFCP)": functools.partial(clip_cvx, solver="DIFFCP"),
    "implicit": clip_implicit,
    "clip": clip_autodiff,
    "straight-through": clip_straight_through,
}


def clip_derivatives(distances: np.ndarray) -> dict[str, np.ndarray]:
    """∂τ/∂u1, relative to the free derivative, where σ stands a distance above the upper bound.

    Args:
      distances: σ - τ_M; negative inside the bounds.

    Returns:
      For each of `SOLVERS` `‖∂τ/∂u1‖ ‖u2‖`, in the shape of `distances`: 1 where the clip is free,
      0 where the true derivative is.
    """
    u2 = np.array([0.4, -0.3, 0.5, 0.2, -0.1, 0.6])
    turned = np.roll(u2, 1)
    orthogonal = turned - (turned @ u2) / (u2 @ u2) * u2
    out = {}
    for name, layer in SOLVERS.items():
        derivative = jax.grad(layer)  # not jitted: DIFFCP cannot be traced
        rows = [
            np.asarray(derivative(jnp.asarray(sigma * u2 + orthogonal), jnp.asarray(u2), -3.0, 0.0))
            for sigma in distances
        ]
        out[name] = np.linalg.norm(np.stack(rows), axis=1) * np.linalg.norm(u2)
    return out
