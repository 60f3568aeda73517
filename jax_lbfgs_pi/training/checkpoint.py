"""Checkpoints of a meta-training run, through orbax."""

import dataclasses
import json
import logging
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jax_lbfgs_pi.files import write_atomically
from jax_lbfgs_pi.training.config import MetaTrainConfig
from jax_lbfgs_pi.training.outer import OuterState
from jax_lbfgs_pi.unroll import InnerState


class Position(NamedTuple):
    """Where training stands: about to take outer step `step`.

    Attributes:
      step: outer steps taken.
      epoch: the epoch.
      group: the group of tasks within the epoch.
      unroll: unrolls that the group has behind it; 0 means that it is yet to be started.
    """

    step: int = 0
    epoch: int = 0
    group: int = 0
    unroll: int = 0


class Snapshot(NamedTuple):
    """All that training needs to go on as if it had never stopped.

    Attributes:
      position: where it stands.
      outer: θ and the outer optimizer's state.
      inner: the inner states of the current group of tasks.
      alive: which of them still count, shape `(B,)`.
      start_value: f(x0) of each, shape `(B,)`.
    """

    position: Position
    outer: OuterState
    inner: InnerState
    alive: np.ndarray
    start_value: np.ndarray


class Checkpointer:
    """Keeps the last two snapshots of a run in a folder, each whole or not there."""

    def __init__(
        self, folder: str | os.PathLike[str], config: MetaTrainConfig, origin: dict[str, str]
    ):
        """Opens `folder`, making it if need be; `origin` tells of the tasks and the first policy.

        Raises:
          ValueError: if the folder holds a run with other settings or other tasks.
        """
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax tells of every file it touches
        folder = Path(folder).absolute()
        settings = json.dumps(
            {"config": dataclasses.asdict(config), **origin}, indent=2, sort_keys=True
        )
        path = folder / "settings.json"
        if path.is_file() and path.read_text(errors="replace") != settings:
            raise ValueError(
                f"The folder {folder.name!r} holds a run with other settings or tasks (see its "
                f"settings.json): resume with those, or choose another folder."
            )
        write_atomically(path, settings)
        self._ocp, self._folder = ocp, folder / "checkpoints"
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False),
        )

    def save(self, snapshot: Snapshot) -> None:
        """Writes a snapshot; the same step is never written twice."""
        step = snapshot.position.step
        if self._manager.latest_step() != step:
            self._manager.save(step, args=self._ocp.args.StandardSave(_to_tree(snapshot)))

    def restore(self, like: Snapshot) -> Snapshot | None:
        """The latest snapshot, of the structure and dtypes of `like`; None if there is none.

        Raises:
          ValueError: if it is damaged.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        target = jax.tree.map(jax.numpy.asarray, _to_tree(like))
        try:
            tree = self._manager.restore(step, args=self._ocp.args.StandardRestore(target))
        except Exception as error:  # orbax raises almost anything
            raise ValueError(
                f"The checkpoint of step {step} in {str(self._folder)!r} is damaged: delete that "
                f"folder to go on from the one before it, if there is one, or train again."
            ) from error
        leaves = jax.tree.leaves(tree)
        outer, inner, alive, start_value = jax.tree.unflatten(
            jax.tree.structure(like[1:]), leaves[1:]
        )
        position = Position(*(int(i) for i in np.asarray(leaves[0])))
        return Snapshot(position, outer, inner, np.asarray(alive), np.asarray(start_value))

    def close(self) -> None:
        """Releases the folder."""
        self._manager.close()


def _to_tree(snapshot: Snapshot) -> dict[str, Any]:
    # Numbered leaves: orbax would turn NamedTuples into dictionaries, in an order of its own.
    leaves = [np.asarray(snapshot.position, np.int64), *jax.tree.leaves(snapshot[1:])]
    return {f"{i:04d}": leaf for i, leaf in enumerate(leaves)}
