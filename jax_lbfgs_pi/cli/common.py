"""What the subcommands share: options, progress bars, provenance."""

import argparse
import datetime
import importlib
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from jax_lbfgs_pi.tasks.base import TaskSet
from jax_lbfgs_pi.versions import versions

_DEFAULTS = {"dataset": "digits", "size": (1, 20), "learn_limits": False, "preset": "fast"}


def add_output_options(parser: argparse.ArgumentParser, default: str) -> None:
    """`--out` and `--json`."""
    parser.add_argument(
        "--out", type=Path, default=Path(default), metavar="DIR",
        help="folder for results; an interrupted run goes on from what is there "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the results as JSON alone")


def add_task_options(parser: argparse.ArgumentParser) -> None:
    """`--dataset`, `--size`, `--tasks`, `--data-dir`."""
    from jax_lbfgs_pi.tasks.suites import DATASETS

    parser.add_argument(
        "--dataset", choices=DATASETS, default=_DEFAULTS["dataset"],
        help="what the tasks are made of; digits needs no download (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=_size, default=_DEFAULTS["size"], metavar="N_L,N_U",
        help="hidden layers and width of the MLP on digits and mnist (default: 1,20)",
    )  # fmt: skip
    parser.add_argument("--tasks", type=positive, metavar="N", help="how many tasks to use")
    parser.add_argument(
        "--data-dir", metavar="DIR",
        help="tensorflow-datasets' folder for mnist and cifar10 (default: $TFDS_DATA_DIR)",
    )  # fmt: skip


def refuse_unread(args: argparse.Namespace, what: str, names: Sequence[str]) -> None:
    """Refuses options that a form of a command does not read.

    Raises:
      ValueError: if one of those that `names` has is not as it is by default.
    """
    for name in names:
        if getattr(args, name) != _DEFAULTS.get(name):
            raise ValueError(f"{what} does not read --{name.replace('_', '-')}: leave it out.")


def load_tasks(name: str) -> TaskSet:
    """The tasks that `module:attribute` names, the working directory being searched first.

    Raises:
      ValueError: if there is no such module or attribute, or it is neither a `TaskSet` nor a
        function that returns one.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise ValueError(
            f"--task must be MODULE:NAME, as in my_module:make_tasks, but got {name!r}."
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.partition(".")[0] and error.name != module_name:
            raise  # the module is there, and misses another
        raise ValueError(
            f"There is no module {module_name!r} in the working directory or on Python's path: "
            f"give --task as MODULE:NAME, without .py."
        ) from error
    found = getattr(module, attribute, None)
    tasks = found() if callable(found) else found
    if not isinstance(tasks, TaskSet):
        raise ValueError(
            f"{name!r} must be an lp.TaskSet, or a function without arguments that returns one, "
            f"but is {'missing' if found is None else type(tasks).__name__}."
        )
    return tasks


def _size(text: str) -> tuple[int, int]:
    try:
        depth, width = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected two integers as in 1,20, got {text!r}"
        ) from None
    if depth < 0 or width < 1:
        raise argparse.ArgumentTypeError(f"expected n_l >= 0 and n_u >= 1, got {text!r}")
    return depth, width


def seed(text: str) -> int:
    """An option's value that a random number generator takes."""
    value = _integer(text, least=0)
    if value >= 2**63:
        raise argparse.ArgumentTypeError(f"expected an integer below 2^63, got {text!r}")
    return value


def positive(text: str) -> int:
    """An option's value that is an integer of at least 1."""
    return _integer(text, least=1)


def _integer(text: str, *, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"expected an integer of at least {least}, got {text!r}")
    return value


def above_zero(text: str) -> float:
    """An option's value that is a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def console(args: argparse.Namespace) -> Console:
    """Where tables go: standard output, or nowhere if that is kept for JSON."""
    return Console(quiet=args.json)


def provenance() -> dict[str, Any]:
    """The command, the versions, the machine and the date of a result."""
    import jax

    device = jax.devices()[0]
    return {
        "command": " ".join(["lbfgs-pi", *map(shlex.quote, sys.argv[1:])]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        **versions(),
        "device": f"{device.device_kind} ({device.platform})",
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "x64": bool(jax.config.jax_enable_x64),  # pyright: ignore[reportAttributeAccessIssue]
    }  # fmt: skip


def write_report(
    folder: Path,
    title: str,
    sections: Mapping[str, Sequence[Any]],
    figures: Mapping[str, tuple[str, str]],
    *,
    settings: Mapping[str, Any],
    made_with: Mapping[str, Any],
) -> None:
    """Writes `report.html`, which holds all of a result, to its folder.

    Args:
      folder: where the figures are.
      title: of the report.
      sections: what the command printed, see `evaluation.html.page`.
      figures: by the names of their files, title and caption.
      settings: of the command.
      made_with: its `provenance`.
    """
    from jax_lbfgs_pi.evaluation.html import Picture, page
    from jax_lbfgs_pi.files import write_atomically

    pictures = [Picture(*text, (folder / name).read_bytes()) for name, text in figures.items()]
    ends = {"Figures": pictures, "Settings": [settings], "Made with": [made_with]}
    write_atomically(folder / "report.html", page(title, {**sections, **ends}))
