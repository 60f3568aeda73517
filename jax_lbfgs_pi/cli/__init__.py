"""The command `lbfgs-pi`: train a policy, race it, reproduce the paper."""

import _thread
import argparse
import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from jax_lbfgs_pi import __version__

EXIT_ERROR, EXIT_INTERRUPTED, EXIT_PIPE = 2, 130, 141


def build_parser() -> argparse.ArgumentParser:
    """The parser of `lbfgs-pi` and its subcommands."""
    from jax_lbfgs_pi.cli import bench, demo, policies, race, reproduce, train

    parser = argparse.ArgumentParser(
        prog="lbfgs-pi",
        description="L-BFGS with a learned step-size policy in place of the line search.",
    )
    parser.add_argument("--version", action="version", version=f"lbfgs-pi {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (demo, train, race, bench, reproduce, policies):
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    args = build_parser().parse_args(argv)
    # The figures are the paper's: double precision. A library import never sets this.
    import jax

    jax.config.update("jax_enable_x64", True)
    try:
        result = args.run(args)
        if args.json:
            print(json.dumps(result, indent=2), flush=True)
    except KeyboardInterrupt:
        print(f"\nInterrupted. {_what_is_left(getattr(args, 'out', None))}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # whoever read the output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PIPE
    except (ValueError, TypeError, ImportError, RuntimeError, OSError) as error:
        # Our own errors are one clear sentence each; anything else deserves its traceback.
        if isinstance(error, OSError) or _is_ours(error):
            Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False)
            return EXIT_ERROR
        raise
    return 0


def command() -> None:
    """Runs `main` and leaves the process with its status."""
    sys.excepthook = _report
    sys.unraisablehook = _pass_on
    status = main()
    if status == EXIT_INTERRUPTED:
        # A compilation may still be running in its own threads, which Python's end would pull
        # from under it: a segmentation fault. All files are written and closed.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _report(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Python's own report, but for threads of a checkpoint that failed, which is told of anyway."""
    if not (kind is RuntimeError and str(error) == "Event loop is closed"):
        sys.__excepthook__(kind, error, trace)


def _pass_on(ignored: Any) -> None:
    """Ctrl-C that came within a collector's callback, where Python drops it, once more."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        # Not from here, where it would be dropped as well.
        again = threading.Timer(0.05, _thread.interrupt_main)
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(ignored)


def _what_is_left(out: Path | None) -> str:
    """What an interrupted command can go on from."""
    files = [path for path in out.rglob("*") if path.is_file()] if out and out.is_dir() else []
    if any(path.name != "settings.json" and path.stat().st_size for path in files):
        return f"The same command with --out {out} goes on from what is saved there."
    return "Nothing was saved yet: the same command begins anew."


def _is_ours(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "") if trace else ""
    return module.startswith("jax_lbfgs_pi")
