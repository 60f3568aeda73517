"""`python -m benchmarks`: runs the parts, prints tables, writes bench.json and figures."""

import jax

jax.config.update("jax_enable_x64", True)

import argparse
import importlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.report import RESULTS, Options, provenance, write_part
from jax_lbfgs_pi.evaluation.figures import save_figure

USUAL = ("solution", "step", "dense", "iteration", "meta_step", "batch", "memory")
PARTS = (*USUAL, "device")  # the last for accelerators, on request
QUIET = 0.5  # the load of one minute below which nothing else seems to run


def track(items: Iterable[Any], description: str) -> Iterator[Any]:
    """Goes through the items with a progress bar that is drawn between them alone, or with lines.

    A bar that refreshes itself does so on a thread, which would take time from what is timed.
    """
    items, console = list(items), Console(stderr=True)
    if not console.is_terminal:
        for i, item in enumerate(items):
            print(f"{description} {i + 1}/{len(items)}", file=sys.stderr, flush=True)
            yield item
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=console, auto_refresh=False, transient=True
    ) as progress:
        task = progress.add_task(description, total=len(items))
        for item in items:
            progress.refresh()
            yield item
            progress.advance(task)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times L-BFGS-π against optax and other libraries, and weighs its memory.",
        epilog="Compared functions take turns in one process; what is reported are ratios of "
        "medians. Finished parts are kept when a run is interrupted, and a part that is run again "
        "replaces its own results alone.",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="smaller sizes, fewer peers and repetitions: three minutes",
    )
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=USUAL, metavar="PART",
        help=f"run these parts alone: {', '.join(PARTS)} (default: all but the last)",
    )  # fmt: skip
    parser.add_argument(
        "--huge", action="store_true",
        help="with --only memory: three steps of the default at n = 1e8 in float32, in about 11 GB",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path("runs/bench"), metavar="DIR",
        help="folder for bench.json and figures (default: %(default)s)",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    if args.huge and list(args.only) != ["memory"]:
        parser.error("--huge needs --only memory")
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts that were asked for; returns the exit status."""
    args = parse(arguments)
    given = sys.argv[1:] if arguments is None else arguments
    console = Console(width=min(Console().width, 100))
    options = Options(quick=args.quick, huge=args.huge, track=track)
    load = os.getloadavg()[0]
    if load > QUIET:
        console.print(f"The machine is busy (load {load:.1f}): ratios will be rough.", style="dim")
    try:
        for name in args.only:
            part = importlib.import_module(f"benchmarks.{name}")
            origin = provenance(given)
            began = time.perf_counter()
            result = part.measure(options)
            seconds = time.perf_counter() - began
            about = {"quick": args.quick, "provenance": origin, "measuring_seconds": seconds}
            write_part(args.out, name, {**about, **result})
            for table in part.tables(result):
                console.print(table)
            for line in result.get("notes", ()):
                console.print(line, style="dim", highlight=False)
            for figure_name, figure in part.figures(result).items():
                console.print(f"Figure: {save_figure(figure, args.out / f'{figure_name}.png')}")
    except KeyboardInterrupt:
        console.print(f"Interrupted. Finished parts are in {args.out / RESULTS}.")
        return 130
    console.print(f"Numbers: {args.out / RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
