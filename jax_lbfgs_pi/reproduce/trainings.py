"""The training runs of the reproduction: learned limits, the clip layers, π_C."""

import dataclasses
import functools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_lbfgs_pi.clip import clip_autodiff, clip_cvx, clip_implicit, clip_straight_through
from jax_lbfgs_pi.files import claim
from jax_lbfgs_pi.locks import alone
from jax_lbfgs_pi.policy import Policy
from jax_lbfgs_pi.pretrained import load_network, policy_digest, save_policy
from jax_lbfgs_pi.reproduce import policies
from jax_lbfgs_pi.tasks.suites import get_tasks
from jax_lbfgs_pi.training import meta_train
from jax_lbfgs_pi.training.config import MetaTrainConfig
from jax_lbfgs_pi.training.log import MetaTrainLog, OuterRecord, pack_log, read_log


@dataclasses.dataclass(frozen=True)
class Training:
    """A training run of the reproduction.

    Attributes:
      name: of its folder.
      config: its settings.
      dataset: what the tasks are made of.
      num_tasks: how many.
      batch_size: N, the images of a task.
      start: the file of the policy that it goes on from; None for a new one.
      sketch: what is changed where `--tasks` asks for fewer than ten: the run's form.
    """

    name: str
    config: MetaTrainConfig
    dataset: str = "mnist"
    num_tasks: int = 60
    batch_size: int = 1000
    start: Path | None = None
    sketch: dict[str, int] = dataclasses.field(
        default_factory=lambda: {"num_epochs": 1, "unrolls_per_start": 2}
    )

    def settings(self, num_tasks: int | None) -> tuple[MetaTrainConfig, int]:
        """The settings, and the number of tasks, under `--tasks num_tasks`."""
        if num_tasks is None or num_tasks >= 10:
            return self.config, self.num_tasks
        return dataclasses.replace(self.config, **self.sketch), num_tasks


def _cifar(name: str, clip_layer: str, **options: Any) -> Training:
    """π_C: on from π for ten epochs on a sixth of the tasks."""
    return Training(
        name,
        MetaTrainConfig(num_epochs=10, clip_layer=clip_layer),
        dataset="cifar10",
        num_tasks=10,
        start=policies.path_of(policies.LETTER),
        # Convolutions in float64 are slow on a CPU.
        sketch={"num_epochs": 1, "unrolls_per_start": 1, "unroll_length": 2},
        **options,
    )


_LAYERS = ("cvx", "implicit", "clip", "straight_through")

TRAININGS = {
    training.name: training
    for training in (
        Training("limits", MetaTrainConfig(clip_layer="implicit", learn_limits=True)),
        *(Training(f"layer-{x}", MetaTrainConfig(clip_layer=x, num_epochs=5)) for x in _LAYERS),
        _cifar("cifar", "implicit"),  # `cvx` has no solver where all its images fit: on a GPU
        _cifar("cifar-100", "cvx", batch_size=100),
    )
}
"""All with the preset `paper`, but for the settings that are their subject.

`cifar` makes π_C; `cifar-100` does at a tenth of the images, the size that a CPU allows.
"""

LAYERS = {layer: f"layer-{layer}" for layer in _LAYERS}


def policy_path(out: Path, training: str) -> Path:
    """Where a training run leaves its policy."""
    return out / "trainings" / training / "policy.safetensors"


def pack_trainings(out: Path) -> None:
    """Compresses the logs of all runs that have ended, and drops their checkpoints."""
    for name in TRAININGS:
        path = policy_path(out, name)
        if path.is_file():
            pack_log(path.parent)
            shutil.rmtree(path.parent / "checkpoints", ignore_errors=True)


def run_training(
    training: Training,
    out: Path,
    *,
    num_tasks: int | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    on_step: Callable[[OuterRecord], None] | None = None,
    on_wait: Callable[[], None] = lambda: None,
) -> MetaTrainLog:
    """Trains, or goes on, or reads the log if it is all there; the policy is written beside it.

    One process trains; others wait for it, and then read the log.

    Args:
      training: the training.
      out: the folder of the reproduction.
      num_tasks: see `Training.settings`.
      data_dir: tensorflow-datasets' folder.
      on_step: called with every new record.
      on_wait: called before waiting for another process; may raise instead.

    Returns:
      The log.

    Raises:
      ValueError: if the folder holds a run of other settings.
    """
    path = policy_path(out, training.name)
    config, count = training.settings(num_tasks)
    start = None if training.start is None else load_network(training.start)
    with alone(out, training.name, on_wait):
        _claim(path.parent, config, count, start)
        if path.is_file():
            return read_log(path.parent)
        tasks = get_tasks(
            training.dataset,
            "train",
            num_tasks=count,
            batch_size=training.batch_size,
            data_dir=data_dir,
        )
        policy, log = meta_train(
            tasks, config, policy=start, checkpoint_dir=path.parent, on_step=on_step
        )
        save_policy(policy, path)
        return log


def _claim(folder: Path, config: MetaTrainConfig, num_tasks: int, start: Policy | None) -> None:
    """Refuses a folder with a run of other settings, or from another policy."""
    settings = {
        "config": dataclasses.asdict(config),
        "num_tasks": num_tasks,
        "start": None if start is None else policy_digest(start),
    }
    claim(folder, "training.json", settings, "a training with other settings")


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
