"""The records of a benchmark: made, kept in a folder, and made no second time.

Times are kept for orientation; what counts is evaluations. SciPy has one BLAS thread.
"""

import dataclasses
import hashlib
import json
import os
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_lbfgs_pi import trees
from jax_lbfgs_pi.baselines import Competitor
from jax_lbfgs_pi.bench.run_problem import Record, Runner
from jax_lbfgs_pi.files import write_arrays, write_atomically
from jax_lbfgs_pi.suite.problem import Problem
from jax_lbfgs_pi.tasks import DataError
from jax_lbfgs_pi.versions import versions

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class ProblemRuns:
    """All runs on one problem.

    Attributes:
      problem: its name.
      kind: its kind.
      num_variables: n.
      minimum: the published least value of f; None where there is none.
      records: by competitor.
    """

    problem: str
    kind: str
    num_variables: int
    minimum: float | None
    records: dict[str, Record]


class RecordFolder:
    """Records on disk, a file for each problem and competitor; several processes may share it."""

    def __init__(self, folder: str | os.PathLike[str], settings: dict[str, Any]) -> None:
        """Opens a folder for records of these settings, and creates it if there is none.

        Args:
          folder: where to.
          settings: what all records must have in common, as JSON knows it: budget and memory.

        Raises:
          ValueError: if it holds records of other settings.
        """
        self._folder = Path(folder)
        settings = settings | {"format": FORMAT, "x64": jnp.zeros(()).dtype == np.float64}
        path = self._folder / "settings.json"
        if path.is_file():
            known = _read_json(path)
            if known is None or known.get("settings") != settings:
                raise ValueError(
                    f"The folder {str(folder)!r} holds records of other settings (see its "
                    f"settings.json): choose another with --out, or delete it."
                )
        else:
            content = {"settings": settings, "versions": versions()}
            write_atomically(path, json.dumps(content, indent=2, sort_keys=True))

    def _path(self, problem: str, competitor: str) -> Path:
        name, file = (urllib.parse.quote(text, safe=" =") for text in (problem, competitor))
        return self._folder / "records" / name / f"{file}.npz"

    def load(self, problem: str, competitor: str, identity: str) -> Record | None:
        """A record; None if it is not there, damaged, or not of this identity."""
        fields = [field.name for field in dataclasses.fields(Record)]
        try:
            with self._path(problem, competitor).open("rb") as handle, np.load(handle) as file:
                if str(file["identity"]) != identity:
                    return None
                row = {name: file[name] for name in fields}
        except Exception:  # absent, or damaged, which raises almost anything
            return None
        scalars = {"status": int, "seconds": float, "compile_seconds": float}
        return Record(**{name: scalars.get(name, np.asarray)(row[name]) for name in fields})

    def save(self, problem: str, competitor: str, identity: str, record: Record) -> None:
        """Writes a record, whole or not at all, with the versions it was made with."""
        notes = {"identity": identity, "versions": json.dumps(versions(), sort_keys=True)}
        write_arrays(self._path(problem, competitor), dataclasses.asdict(record) | notes)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def problem_digest(problem: Problem) -> str:
    """A checksum of starting point and data: equal for equal instances of a formula alone."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path((problem.x0, problem.data)):
        array = np.asarray(leaf, order="C")
        digest.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def num_variables(problem: Problem) -> int:
    """How many numbers the starting point has."""
    return trees.size(problem.x0)


def run_suite(
    names: Iterable[str],
    get_problem: Callable[[str], Problem],
    competitors: Sequence[Competitor],
    *,
    budget: int = 300,
    folder: RecordFolder | None = None,
    max_variables: int | None = None,
    again: Sequence[str] = (),
    on_run: Callable[[str, str], None] | None = None,
    on_skip: Callable[[str, str], None] | None = None,
) -> list[ProblemRuns]:
    """Runs every competitor on every problem, one after the other, problem by problem.

    Args:
      names: of the problems.
      get_problem: makes the problem of a name.
      competitors: with distinct names.
      budget: evaluations of f and its gradient for each run.
      folder: where records are kept and looked for; they must be of the same budget.
      max_variables: problems with more variables are skipped.
      again: competitors that are run anew even where there are records.
      on_run: called after each run with the names of problem and competitor.
      on_skip: called with a problem's name, and why it is skipped: too many variables, missing
        data, or no finite f at the start.

    Raises:
      ValueError: if two competitors share a name, or the budget is less than 1.
    """
    entrants = [competitor.name for competitor in competitors]
    if len(set(entrants)) != len(entrants):
        raise ValueError(f"Competitors must have distinct names, but got {', '.join(entrants)}.")
    runner, results = Runner(budget), []
    for name in names:
        try:
            problem = get_problem(name)
        except DataError as error:
            _call(on_skip, name, str(error))
            continue
        n = num_variables(problem)
        if max_variables is not None and n > max_variables:
            _call(on_skip, name, f"It has {n} variables.")
            continue
        digest, records = problem_digest(problem), {}
        for competitor in competitors:
            identity = f"{digest} {getattr(competitor, 'digest', '')}"
            record = None
            if folder is not None and competitor.name not in again:
                record = folder.load(name, competitor.name, identity)
            if record is None:
                record = runner(problem, competitor)
                if folder is not None:
                    folder.save(name, competitor.name, identity, record)
            if not np.isfinite(record.value[0]):
                _call(on_skip, name, "Its f is not finite at the start.")
                break
            records[competitor.name] = record
            _call(on_run, name, competitor.name)
        else:
            results.append(ProblemRuns(name, problem.kind, n, problem.minimum, records))
    return results


def _call(listener: Callable[[str, str], None] | None, *words: str) -> None:
    if listener is not None:
        listener(*words)
