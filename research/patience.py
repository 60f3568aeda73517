"""How long a run may stand still before it is stalled: what would have been lost, and saved.

    python -m research.patience runs/bench-test20 runs/bench-test20-real

Reads the records of benchmarks. A run is cut where `Stopping`'s test of stalls would have ended it;
what it lost is the share of the whole reduction of f that came after.
"""

import sys
import urllib.parse
from pathlib import Path
from typing import NamedTuple

import numpy as np

PATIENCE = (20, 30, 50, 80)
LOST = 1e-7  # a tenth of what counts as solved
EPS = float(np.finfo(float).eps)


class Past(NamedTuple):
    """A run: f, gradient norm and evaluations of each iterate."""

    value: np.ndarray
    grad_norm: np.ndarray
    num_evals: np.ndarray

    @property
    def best(self):
        """The least f so far."""
        return np.minimum.accumulate(np.where(np.isfinite(self.value), self.value, np.inf))


def read(path):
    """A record of the benchmark."""
    with np.load(path) as file:
        return Past(*(file[name] for name in Past._fields))


def end_of(record, patience):
    """The index where the run stalls, or None."""
    least, flattest, progress = record.value[0], record.grad_norm[0], 1
    for i, (f, norm, evals) in enumerate(
        zip(record.value, record.grad_norm, record.num_evals, strict=True)
    ):
        finite = np.isfinite(f) and np.isfinite(norm)
        if finite and f < least - 4 * EPS * abs(least):
            least, progress = f, evals
        if finite and norm < 0.9 * flattest:
            flattest, progress = norm, evals
        if evals - progress >= patience:
            return i
    return None


def main(folders):
    for folder in folders:
        for name in ("π general", "π rule"):
            file = f"{urllib.parse.quote(name, safe=' =')}.npz"
            records = [read(path) for path in sorted(Path(folder).glob(f"records/*/{file}"))]
            spent = sum(len(record.value) for record in records)
            print(f"{folder}, {name}: {len(records)} runs, {spent} evaluations")
            for patience in PATIENCE:
                lost = saved = 0
                for record in records:
                    i = end_of(record, patience)
                    if i is None:
                        continue
                    saved += len(record.value) - i - 1
                    whole = record.value[0] - record.best[-1]
                    lost += whole > 0 and record.best[i] - record.best[-1] > LOST * whole
                print(f"  {patience:3d}: {lost} runs lose, {saved} evaluations saved")


if __name__ == "__main__":
    main(sys.argv[1:])
