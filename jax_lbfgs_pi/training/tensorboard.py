"""Training as TensorBoard shows it, written by tensorboardX: an optional extra."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FOLDER = "tensorboard"
FLUSH_SECONDS = 2
"""A killed process takes along what is younger."""


@contextlib.contextmanager
def curves(folder: str | os.PathLike[str], *, on: bool = True) -> Iterator[Callable[..., None]]:
    """A function of a step and named numbers that adds a point to each curve.

    A training that resumes goes on in the same curves: what an interrupted one wrote beyond its
    last checkpoint is dropped by TensorBoard.

    Args:
      folder: of the training; its subfolder `tensorboard` is made with the first point.
      on: whether to write anything; if not, nothing is needed.

    Raises:
      ValueError: if tensorboardX is missing.
    """
    if not on:
        yield lambda step, **values: None
        return
    try:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            "Curves for TensorBoard need tensorboardX: pip install 'jax_lbfgs_pi[tensorboard]'."
        ) from error
    writer: Any = None

    def add(step: int, **values: float) -> None:
        nonlocal writer
        if writer is None:
            path = str(Path(folder) / FOLDER)
            writer = SummaryWriter(path, purge_step=step, flush_secs=FLUSH_SECONDS)
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    try:
        yield add
    finally:
        if writer is not None:
            writer.close()
