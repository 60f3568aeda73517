"""What is kept of a run: one row of numbers, from which tables and figures are made.

A row stands in a file of its own, written whole or not at all, so a reproduction that was killed
goes on with the run it was at. `RunFolder.pack` makes one table of them, which is what the
repository ships; a folder can hold both.
"""

import contextlib
import json
import math
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jax_lbfgs_pi.evaluation.run import Run
from jax_lbfgs_pi.evaluation.statistics import Target, first_hit, least_value
from jax_lbfgs_pi.files import write_arrays, write_atomically
from jax_lbfgs_pi.reproduce.row_tables import Row, read_table, write_table

GRAD_LEVELS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
VALUE_LEVELS = (2.0, 1.0, 1e-1, 1e-2, 1e-3)
TARGETS = (
    *(Target("grad_norm", level) for level in GRAD_LEVELS),
    *(Target("value", level) for level in VALUE_LEVELS),
)
COSTS = ("iterations", "num_evals", "seconds")
CURVE = ("value", "seconds", "step_size")  # what is kept of a whole run
PLATEAU_LEVEL = 1e-5  # a run whose gradient is below this, f not having fallen, is on a plateau


def hit(target: Target, cost: str) -> str:
    """The name of a row's entry, as in `num_evals to ‖g‖<1e-5`."""
    return f"{cost} to {target}"


def row_of(run: Run, task: int, optimizer: str, *, plateau_value: float) -> Row:
    """The row of a run.

    Args:
      run: the run.
      task: the task's index.
      optimizer: the competitor's name.
      plateau_value: the run counts as stopped on a plateau if its gradient norm first fell below
        1e-5 where f was above this.
    """
    stop = first_hit(run, Target("grad_norm", PLATEAU_LEVEL), "iterations")
    row: Row = {
        "task": task,
        "optimizer": optimizer,
        "status": run.status,
        "iterations": len(run.value) - 1,
        "num_evals": int(run.num_evals[-1]),
        "seconds": float(run.seconds[-1]),
        "min_value": least_value(run),
        "final_value": float(run.value[-1]),
        "plateau": int(math.isfinite(stop) and bool(run.value[int(stop)] > plateau_value)),
    }
    for target in TARGETS:
        row |= {hit(target, cost): first_hit(run, target, cost) for cost in COSTS}
    return row


class RunFolder:
    """The rows of one race, and the whole curves of some: a file for each run, or all in one."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Opens a folder, which need not exist.

        Raises:
          ValueError: if its table of packed rows is damaged.
        """
        self.folder = Path(folder)
        self._table, self._curves = self.folder / "runs.csv.gz", self.folder / "curves.npz"
        rows = read_table(self._table) if self._table.is_file() else []
        self._packed = {(row["task"], row["optimizer"]): row for row in rows}

    def _path(self, task: int, optimizer: str, suffix: str) -> Path:
        name = "".join(c if c.isalnum() else "_" for c in optimizer)
        return self.folder / name / f"{task:04d}{suffix}"

    def has(self, task: int, optimizer: str) -> bool:
        """Whether the run is there, whole."""
        key = (task, optimizer)
        return key in self._packed or _key(_load(self._path(*key, ".json"))) == key

    def save(self, run: Run, row: Row, *, curve: bool) -> None:
        """Writes a run's row, and before it, if asked for, its curve."""
        task, optimizer = row["task"], row["optimizer"]
        if curve:
            with np.errstate(over="ignore"):  # a run that blew up is infinite in single precision
                arrays = {name: getattr(run, name).astype(np.float32) for name in CURVE}
            write_arrays(self._path(task, optimizer, ".npz"), arrays)
        write_atomically(self._path(task, optimizer, ".json"), json.dumps(row))

    def rows(self) -> list[Row]:
        """All rows, by task and optimizer."""
        return self._rows(self.folder.glob("*/*.json"))

    def _rows(self, paths: Iterable[Path]) -> list[Row]:
        rows = dict(self._packed)
        for row in map(_load, paths):
            key = _key(row)
            if key is not None:
                rows[key] = row
        return [rows[key] for key in sorted(rows)]

    def curve(self, task: int, optimizer: str) -> dict[str, np.ndarray] | None:
        """`value`, `seconds` and `step_size` at every iterate; None if they were not kept.

        Raises:
          ValueError: if the file that holds them is damaged.
        """
        single = self._path(task, optimizer, ".npz")
        if single.is_file():
            return _load_arrays(single, {name: name for name in CURVE})
        if self._curves.is_file():
            names = {name: f"{optimizer}/{task}/{name}" for name in CURVE}
            return _load_arrays(self._curves, names)
        return None

    def pack(self) -> None:
        """Puts all rows and all curves into one file each, and takes the single files away.

        Raises:
          ValueError: if the rows have different columns; then all files stay as they are.
        """
        # What other processes write from here on stays where it is.
        paths = list(self.folder.glob("*/*.json"))
        rows = self._rows(paths)
        curves = self._curves_of((row["task"], row["optimizer"]) for row in rows)
        if rows:
            write_table(rows, self._table)
        if curves:
            write_arrays(self._curves, curves)
        for path in paths:
            path.unlink()
            # A curve without a row here is of a run that is just being saved: it stays.
            path.with_suffix(".npz").unlink(missing_ok=True)
        for path in self.folder.glob("*/"):
            with contextlib.suppress(OSError):  # not empty
                path.rmdir()
        self._packed = {(row["task"], row["optimizer"]): row for row in rows}

    def _curves_of(self, keys: Iterable[tuple[int, str]]) -> dict[str, np.ndarray]:
        """The curves of these runs, by their names in the one file."""
        return {
            f"{optimizer}/{task}/{name}": array
            for task, optimizer in keys
            for name, array in (self.curve(task, optimizer) or {}).items()
        }

    def drop(self, optimizer: str) -> None:
        """Takes away every run of an optimizer, packed or not.

        Raises:
          ValueError: if the file that holds the curves is damaged; then all runs stay.
        """
        kept = {key: row for key, row in self._packed.items() if key[1] != optimizer}
        if self._curves.is_file():
            write_arrays(self._curves, self._curves_of(kept))
        shutil.rmtree(self._path(0, optimizer, "").parent, ignore_errors=True)
        self._packed = kept
        if self._packed:
            write_table(list(self._packed.values()), self._table)
        else:
            self._table.unlink(missing_ok=True)


def _load(path: Path) -> Any:
    """The row in a file; None if there is none, or no whole one."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _key(row: Any) -> tuple[int, str] | None:
    if not isinstance(row, dict) or not {"task", "optimizer"} <= set(row):
        return None
    return row["task"], row["optimizer"]


def _load_arrays(path: Path, names: dict[str, str]) -> dict[str, np.ndarray] | None:
    """Arrays under new names, from the names they have in the file; None if it has none of them."""
    try:
        # Of a file it opened itself, np.load leaves the closing to chance if it is damaged.
        with path.open("rb") as handle, np.load(handle) as file:
            if not set(names.values()) & set(file.files):
                return None
            return {name: file[key] for name, key in names.items()}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"The curves in {str(path)!r} are damaged: restore the file, or delete it, and the "
            f"figures are drawn without them."
        ) from error


class Records:
    """The rows of a race, by optimizer."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows: dict[str, dict[int, Row]] = {}
        for row in rows:
            self._rows.setdefault(row["optimizer"], {})[int(row["task"])] = row

    @property
    def optimizers(self) -> list[str]:
        """Their names."""
        return list(self._rows)

    def tasks(self, *optimizers: str) -> list[int]:
        """The tasks that all of these have run."""
        return sorted(set.intersection(*(set(self._rows.get(name, {})) for name in optimizers)))

    def column(self, optimizer: str, name: str, tasks: Sequence[int]) -> np.ndarray:
        """One entry of the rows of these tasks, as floats."""
        return np.array([self._rows[optimizer][task][name] for task in tasks], float)
