"""Results as JSON that outlives an interrupt, as tables of 80 columns, and as figures."""

import datetime
import importlib.metadata
import json
import math
import os
import platform
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.peers import num_cores
from jax_lbfgs_pi.evaluation.figures import finish_axes
from jax_lbfgs_pi.files import write_atomically
from jax_lbfgs_pi.training.log import as_json

RESULTS = "bench.json"
_PACKAGES = (
    "jax", "jaxlib", "optax", "flax", "numpy", "scipy", "jaxopt", "optimistix", "torch",
    "cvxpy", "cvxpylayers", "diffcp", "moreau",
)  # fmt: skip
# Okabe & Ito's colours, which the colour-blind can tell apart.
_COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "os^Dvx+"

Track = Callable[[Iterable[Any], str], Iterable[Any]]
"""`track(items, description)` goes through the items and tells how far it is."""


class Options(NamedTuple):
    """What a part is told.

    Attributes:
      quick: smaller sizes and fewer repetitions.
      huge: the memory part runs n = 1e8 too.
      track: shows progress.
    """

    quick: bool = False
    huge: bool = False
    track: Track = lambda items, description: items


def provenance(arguments: Sequence[str]) -> dict[str, Any]:
    """The command, the versions, the machine and the date of a result."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "command": " ".join(["python -m benchmarks", *map(shlex.quote, arguments)]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "machine": f"{platform.machine()}, {_processor()}",
        "device": jax.devices()[0].device_kind,
        "cores": num_cores(),
        "load": os.getloadavg()[0],  # of one minute, before the part: was the machine quiet?
        "x64": bool(jax.config.jax_enable_x64),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.system()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.system())


def write_part(folder: Path, name: str, result: Mapping[str, Any]) -> None:
    """Puts one part into `bench.json`, and leaves the other parts there as they are."""
    results = {**read(folder), name: dict(result)}
    write_atomically(folder / RESULTS, json.dumps(_finite(results), indent=1, allow_nan=False))


def read(folder: Path) -> dict[str, Any]:
    """The parts in `bench.json`, none if there is no such file."""
    path = folder / RESULTS
    return json.loads(path.read_text()) if path.is_file() else {}


def _finite(value: Any) -> Any:
    """The value with null for what JSON has no word for, at any depth."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return as_json(value)


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A table of at most 80 columns; floats get three digits."""
    # A table narrower than its title would break the title. So close eight columns of any digits
    # have room.
    out = Table(
        title=title, title_justify="left", min_width=min(len(title), 80), box=SIMPLE_HEAD,
        pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for i, name in enumerate(header):
        out.add_column(name, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        out.add_row(*map(cell, row))
    return out


def cell(value: Any) -> str:
    """A value as tables show it: floats with three digits, a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, float):
        digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
        return f"{value:.{min(digits, 6)}f}" if digits < 7 else f"{value:.2g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def line_figure(panels: Sequence[Mapping[str, Any]], ylabel: str) -> Figure:
    """Panels side by side, each with `title`, `xlabel` and `lines` (name to x and y), log-log."""
    figure = Figure(figsize=(4.8 * len(panels) + 0.4, 3.9), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(grid, panels, strict=True):
        for (name, (xs, ys)), colour, marker in zip(
            panel["lines"].items(), _COLOURS, _MARKERS, strict=False
        ):
            axes.loglog(xs, ys, color=colour, marker=marker, markersize=4, label=name)
        finish_axes(axes, title=panel["title"], xlabel=panel["xlabel"])
        if "xticks" in panel:
            axes.set_xticks(panel["xticks"], [f"{tick:,}" for tick in panel["xticks"]])
            axes.xaxis.minorticks_off()
    grid[0].set_ylabel(ylabel)
    handles, labels = grid[0].get_legend_handles_labels()
    columns = min(len(labels), 2 * len(panels))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False)
    return figure
