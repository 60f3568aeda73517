"""Races: every competitor on every task, by the same code, with the clock beside it."""

import dataclasses
import io
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jax_lbfgs_pi.baselines import Competitor
from jax_lbfgs_pi.files import write_atomically
from jax_lbfgs_pi.loop import Loop, LoopState, Status, make_loop
from jax_lbfgs_pi.tasks.base import TaskSet

CHUNK = 25  # iterations between two readings of the clock


@dataclasses.dataclass(frozen=True)
class Run:
    """One optimizer on one task; arrays of shape `(num_iters + 1,)`, one entry for each iterate.

    Attributes:
      value: f(x_k).
      grad_norm: the gradient norm at x_k.
      step_size: t of the step that leaves x_k; NaN at the last, and for optimizers without one.
      num_evals: evaluations of f made until x_k was known.
      seconds: wall-clock time until then; read every 25 iterations, in between in proportion to
        the evaluations.
      status: a `Status`.
    """

    value: np.ndarray
    grad_norm: np.ndarray
    step_size: np.ndarray
    num_evals: np.ndarray
    seconds: np.ndarray
    status: int


Results = list[dict[str, Run]]
"""For each task, its runs by the competitors' names."""


class _Compiled(NamedTuple):
    start: Callable[[Any, Any], LoopState]
    advance: Callable[[LoopState, Any, int], LoopState]


def _compile(tasks: TaskSet, competitor: Competitor, max_iters: int, tol: float) -> _Compiled:
    tx = competitor.make()

    def loop(data: Any) -> Loop:
        return make_loop(
            tx,
            lambda params: tasks.task.loss(params, data),
            max_iters=max_iters,
            tol=tol,
            retreats=competitor.retreats,
        )

    def advance(state: LoopState, data: Any, until: int) -> LoopState:
        parts = loop(data)
        return jax.lax.while_loop(lambda s: parts.running(s) & (s.turn < until), parts.body, state)

    # The starting point stands twice in the state, and is the caller's: copies can be donated.
    start = jax.jit(lambda data, x0: jax.tree.map(jax.numpy.copy, loop(data).init(x0)))
    return _Compiled(start, jax.jit(advance, donate_argnums=0))


def _run(compiled: _Compiled, data: Any, x0: Any, max_iters: int) -> Run:
    data, x0 = jax.device_put(data), jax.device_put(x0)
    state = jax.block_until_ready(compiled.start(data, x0))
    evals, clock = [0], [0.0]
    began = time.perf_counter()
    until = 0
    while int(state.status) == Status.RUNNING:
        until = min(until + CHUNK, max_iters + 1)
        state = jax.block_until_ready(compiled.advance(state, data, until))
        clock.append(time.perf_counter() - began)
        evals.append(int(state.num_evals))
    length = int(state.num_iters) + 1
    past = jax.device_get(state.trajectory)
    trajectory = {name: np.asarray(leaf)[:length] for name, leaf in past._asdict().items()}
    seconds = np.asarray(np.interp(trajectory["num_evals"], evals, clock))
    return Run(**trajectory, seconds=seconds, status=int(state.status))


def race(
    tasks: TaskSet,
    competitors: Sequence[Competitor],
    *,
    max_iters: int = 800,
    tol: float = 1e-8,
    out: str | os.PathLike[str] | None = None,
    on_run: Callable[[int, str], None] | None = None,
) -> Results:
    """Runs every competitor on every task, one after the other, task by task.

    Compilation and a first run of each competitor fall outside the clock.

    Args:
      tasks: the tasks; theirs are the starting points.
      competitors: with distinct names.
      max_iters: K, the greatest number of steps.
      tol: a run ends where the gradient norm is below this.
      out: a folder for the results, one file for each task. A race that was killed goes on after
        the last whole file; the folder must then be of the same race.
      on_run: called after each run with the task's index and the competitor's name.

    Returns:
      The runs, by task and name.

    Raises:
      ValueError: if two competitors share a name.
    """
    names = [competitor.name for competitor in competitors]
    if len(set(names)) != len(names):
        raise ValueError(f"Competitors must have distinct names, but got {', '.join(names)}.")
    compiled: dict[str, _Compiled] = {}
    results: Results = []
    for index in range(len(tasks)):
        path = None if out is None else Path(out) / f"task-{index:04d}.npz"
        runs = _load(path, names) if path is not None else None
        if runs is None:
            data, x0 = tasks[index]
            runs = {}
            for competitor in competitors:
                name = competitor.name
                if name not in compiled:
                    compiled[name] = _compile(tasks, competitor, max_iters, tol)
                    _run(compiled[name], data, x0, max_iters)  # warm up, off the clock
                runs[name] = _run(compiled[name], data, x0, max_iters)
                if on_run is not None:
                    on_run(index, name)
            if path is not None:
                _save(path, runs)
        elif on_run is not None:
            for name in names:
                on_run(index, name)
        results.append({name: runs[name] for name in names})
    return results


def load_results(folder: str | os.PathLike[str], names: Iterable[str]) -> Results:
    """The results that `race` wrote to `folder`, for the competitors called `names`.

    Raises:
      FileNotFoundError: if the folder holds no results for all of these names.
    """
    found = (_load(path, list(names)) for path in sorted(Path(folder).glob("task-*.npz")))
    results = [runs for runs in found if runs is not None]
    if not results:
        raise FileNotFoundError(
            f"The folder {str(folder)!r} holds no results of these competitors."
        )
    return results


def _save(path: Path, runs: dict[str, Run]) -> None:
    arrays = {
        f"{name}/{field}": value
        for name, run in runs.items()
        for field, value in dataclasses.asdict(run).items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def _load(path: Path, names: list[str]) -> dict[str, Run] | None:
    fields = [field.name for field in dataclasses.fields(Run)]
    try:
        with path.open("rb") as handle, np.load(handle) as file:
            rows = {name: {field: file[f"{name}/{field}"] for field in fields} for name in names}
        return {name: Run(**{**row, "status": int(row["status"])}) for name, row in rows.items()}
    except Exception:  # absent, of other competitors, or damaged, which raises almost anything
        return None
