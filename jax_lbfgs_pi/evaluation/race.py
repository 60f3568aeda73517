"""Races: every competitor on every task, by the same code, with the clock beside it."""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jax_lbfgs_pi.baselines import Competitor, ScipyCompetitor
from jax_lbfgs_pi.evaluation.run import Run
from jax_lbfgs_pi.evaluation.scipy_run import compile_scipy
from jax_lbfgs_pi.files import write_arrays
from jax_lbfgs_pi.loop import Loop, make_loop
from jax_lbfgs_pi.loop_state import LoopState
from jax_lbfgs_pi.stopping import Status, Stopping
from jax_lbfgs_pi.tasks.base import TaskSet

CHUNK = 25  # iterations between two readings of the clock

Runner = Callable[[Any, Any, int], Run]  # of a task's data, its starting point and the iterations

Results = list[dict[str, Run]]
"""For each task, its runs by the competitors' names."""


def compile_loop(loop: Callable[[Any], Loop]) -> Callable[[Any, Any, int], tuple[LoopState, Run]]:
    """A loop that runs in chunks of iterations, between which it looks at the clock.

    Args:
      loop: from a task's data to the loop on it.

    Returns:
      A function of the data, the starting point and the number of iterations to the loop's last
      state and its run.
    """

    def advance(state: LoopState, data: Any, until: int) -> LoopState:
        parts = loop(data)
        return jax.lax.while_loop(lambda s: parts.running(s) & (s.turn < until), parts.body, state)

    # The starting point stands twice in the state, and is the caller's: copies can be donated.
    start = jax.jit(lambda data, x0: jax.tree.map(jax.numpy.copy, loop(data).init(x0)))
    return functools.partial(_in_chunks, start, jax.jit(advance, donate_argnums=0))


def _in_chunks(
    start: Callable[[Any, Any], LoopState],
    advance: Callable[[LoopState, Any, int], LoopState],
    data: Any,
    x0: Any,
    max_iters: int,
) -> tuple[LoopState, Run]:
    state = jax.block_until_ready(start(data, x0))
    evals, clock = [0], [0.0]
    began = time.perf_counter()
    until = 0
    while int(state.status) == Status.RUNNING and until <= max_iters:
        until = min(until + CHUNK, max_iters + 1)
        state = jax.block_until_ready(advance(state, data, until))
        clock.append(time.perf_counter() - began)
        evals.append(int(state.num_evals))
    length = int(state.num_iters) + 1
    past = jax.tree.map(lambda leaf: np.asarray(leaf)[:length], jax.device_get(state.trajectory))
    run = Run(
        value=past.value,
        grad_norm=past.grad_norm,
        step_size=past.step_size,
        num_evals=past.num_evals,
        seconds=np.asarray(np.interp(past.num_evals, evals, clock)),
        status=int(state.status),
    )
    return state, run


def _compile(tasks: TaskSet, competitor: Competitor, max_iters: int, tol: float) -> Runner:
    tx = competitor.make()

    def loop(data: Any) -> Loop:
        return make_loop(
            tx,
            lambda params: tasks.task.loss(params, data),
            max_iters=max_iters,
            stopping=Stopping(gtol=tol, patience=None),
            retreats=competitor.retreats,
        )

    run = compile_loop(loop)
    return lambda data, x0, max_iters: run(data, x0, max_iters)[1]


def make_runner(tasks: TaskSet, *, max_iters: int, tol: float) -> Callable[[int, Competitor], Run]:
    """A function that runs a competitor on the task of an index.

    A competitor is compiled, and runs for a while off the clock, when it first appears: its first
    iterations are slower than later ones. That takes a tenth of a run, and no more than `CHUNK`
    iterations, so it costs little where a single run takes long.
    """
    warm_up = min(CHUNK, max_iters // 10)
    compiled: dict[str, Runner] = {}
    last: tuple[int, Any] = (-1, None)

    def run_one(index: int, competitor: Competitor) -> Run:
        nonlocal last
        if last[0] != index:
            last = (index, jax.device_put(tasks[index]))
        data, x0 = last[1]
        name = competitor.name
        if name not in compiled:
            if isinstance(competitor, ScipyCompetitor):
                loss = tasks.task.loss
                compiled[name] = compile_scipy(
                    loss, data, x0, tol=tol, memory_size=competitor.memory_size
                )
            else:
                compiled[name] = _compile(tasks, competitor, max_iters, tol)
            compiled[name](data, x0, warm_up)
        return compiled[name](data, x0, max_iters)

    return run_one


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

    Compilation and some iterations of each competitor to warm up fall outside the clock.

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
    run_one = make_runner(tasks, max_iters=max_iters, tol=tol)
    results: Results = []
    for index in range(len(tasks)):
        path = None if out is None else Path(out) / f"task-{index:04d}.npz"
        runs = _load(path, names) if path is not None else None
        if runs is None:
            runs = {}
            for competitor in competitors:
                runs[competitor.name] = run_one(index, competitor)
                if on_run is not None:
                    on_run(index, competitor.name)
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
    write_arrays(path, arrays)


def _load(path: Path, names: list[str]) -> dict[str, Run] | None:
    fields = [field.name for field in dataclasses.fields(Run)]
    try:
        with path.open("rb") as handle, np.load(handle) as file:
            rows = {name: {field: file[f"{name}/{field}"] for field in fields} for name in names}
        return {name: Run(**{**row, "status": int(row["status"])}) for name, row in rows.items()}
    except Exception:  # absent, of other competitors, or damaged, which raises almost anything
        return None
