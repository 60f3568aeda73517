"""The log of a meta-training run: one record for each outer step, a line of JSON each."""

import dataclasses
import gzip
import json
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jax_lbfgs_pi.files import write_atomically

PACKED = "log.jsonl.gz"


@dataclasses.dataclass(frozen=True)
class OuterRecord:
    """One outer step.

    Attributes:
      step: from 0.
      epoch: from 0.
      group: which group of tasks in the epoch, from 0.
      unroll: how many unrolls the tasks had behind them.
      tasks: their indices in the task set.
      loss: mean over the tasks that counted; NaN if none did.
      last_value: f(x_K), likewise.
      grad_norm: the largest gradient norm at x_K.
      num_skipped: tasks whose unroll diverged or was not finite, and therefore left θ alone.
      tau_min: the policy's limit τ_m after the step.
      tau_max: the limit τ_M.
      seconds: wall-clock time of the outer step.
    """

    step: int
    epoch: int
    group: int
    unroll: int
    tasks: list[int]
    loss: float
    last_value: float
    grad_norm: float
    num_skipped: int
    tau_min: float
    tau_max: float
    seconds: float


@dataclasses.dataclass
class MetaTrainLog:
    """The records of a run, in order.

    Attributes:
      records: one for each outer step.
    """

    records: list[OuterRecord] = dataclasses.field(default_factory=list)

    @property
    def num_skipped(self) -> int:
        """How many task-unrolls left θ alone because they diverged or were not finite."""
        return sum(record.num_skipped for record in self.records)

    @property
    def num_unrolls(self) -> int:
        """How many task-unrolls the outer steps had room for."""
        return sum(len(record.tasks) for record in self.records)

    @property
    def share_skipped(self) -> float:
        """`num_skipped` as a share of `num_unrolls`."""
        return self.num_skipped / max(1, self.num_unrolls)

    @property
    def seconds_per_step(self) -> float:
        """The median time of an outer step, seconds; compilation falls on the first alone."""
        return float(np.median([record.seconds for record in self.records]))

    def by_epoch(self, field: str = "loss") -> np.ndarray:
        """The mean of a field over each epoch, NaN left out; shape `(epochs,)`."""
        epochs = sorted({record.epoch for record in self.records})
        rows = ([getattr(r, field) for r in self.records if r.epoch == e] for e in epochs)
        return np.array([nanmean(row) for row in rows])


def as_json(value: Any) -> Any:
    """`value`, or None for a float that is not finite, which JSON has no word for."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def nanmean(values: Sequence[float] | np.ndarray) -> float:
    """The mean of the finite values; NaN if there are none."""
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")


class LogFile:
    """`log.jsonl` in a folder, appended to as training goes, and cut back when it resumes."""

    def __init__(self, folder: str | os.PathLike[str], log: MetaTrainLog):
        """Makes the file hold exactly `log`, and then what is appended."""
        self._path = Path(folder) / "log.jsonl"
        write_atomically(self._path, "".join(_line(record) for record in log.records))
        self._file = self._path.open("a")

    def append(self, record: OuterRecord) -> None:
        """Adds a line, and hands it to the operating system."""
        self._file.write(_line(record))
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _line(record: OuterRecord) -> str:
    fields = {k: as_json(v) for k, v in dataclasses.asdict(record).items()}
    return json.dumps(fields, allow_nan=False) + "\n"


def read_log(folder: str | os.PathLike[str], *, before_step: int | None = None) -> MetaTrainLog:
    """Reads the log in `folder`, up to the first line that a killed process left unfinished.

    That is `log.jsonl`, or else what `pack_log` made of it.

    Args:
      folder: a folder that `meta_train` wrote.
      before_step: if given, later records are left out.

    Raises:
      ValueError: if the packed log is damaged.
    """
    log = MetaTrainLog()
    path, packed = Path(folder) / "log.jsonl", Path(folder) / PACKED
    if path.is_file():
        text = path.read_text(errors="replace")
    elif packed.is_file():
        text = _unpack(packed)
    else:
        return log
    for line in text.splitlines():
        record = _parse(line)
        if record is None or (before_step is not None and record.step >= before_step):
            break
        log.records.append(record)
    return log


def pack_log(folder: str | os.PathLike[str]) -> None:
    """Compresses the log of a run that has ended; the same bytes for the same log."""
    path = Path(folder) / "log.jsonl"
    if path.is_file():
        write_atomically(path.with_name(PACKED), gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()


def _unpack(path: Path) -> str:
    try:
        content = path.read_bytes()
        if not content:
            raise EOFError("no header")  # which gzip does not ask for
        return gzip.decompress(content).decode()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise ValueError(
            f"The log in {str(path)!r} is damaged: restore the file, or delete its folder and "
            f"train again."
        ) from error


def _parse(line: str) -> OuterRecord | None:
    """The record of a line; None if it holds none."""
    try:
        fields = json.loads(line)
        fields |= {k: float("nan") for k, v in fields.items() if v is None}
        record = OuterRecord(**fields)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    numbers = dataclasses.asdict(record)
    tasks = numbers.pop("tasks")
    right = isinstance(tasks, list) and all(type(x) in (int, float) for x in numbers.values())
    return record if right else None


OnStep = Callable[[OuterRecord], None]
