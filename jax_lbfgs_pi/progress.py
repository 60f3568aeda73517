"""Progress bars on standard error."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from jax_lbfgs_pi.loop_state import Callback
from jax_lbfgs_pi.loop_state import Progress as Point


def make_bar(console: Console | None = None) -> Progress:
    """A bar with a description, how much is done, and the time that it took and will take."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True) if console is None else console,
    )


@contextlib.contextmanager
def progress_bar(
    total: int | None = None, *, callback: Callback | None = None, console: Console | None = None
) -> Iterator[Callback]:
    """A callback for `minimize` that shows how far a run is: f, gradient norm, evaluations.

    Args:
      total: evaluations at which the bar is full, as `max_evals`; None if that is not known.
      callback: another callback, which is called too, and may end the run.
      console: where the bar is drawn; None is standard error.

    Example:
      with lp.progress_bar(500) as show:
        result = lp.minimize(fun, x0, max_evals=500, callback=show)
    """
    with make_bar(console) as drawn:
        task = drawn.add_task("compiling", total=total)

        def show(point: Point) -> bool | None:
            text = f"f {float(point.value):.6g}, |g| {float(point.grad_norm):.1e}"
            drawn.update(task, completed=int(point.num_evals), description=text)
            return None if callback is None else callback(point)

        yield show
