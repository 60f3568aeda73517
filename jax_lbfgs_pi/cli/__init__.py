"""The command `lbfgs-pi`: train a policy, race it, reproduce the paper."""

import argparse
import json
import sys
from collections.abc import Sequence

from rich.console import Console

EXIT_ERROR, EXIT_INTERRUPTED = 2, 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of `lbfgs-pi` and its subcommands."""
    from jax_lbfgs_pi.cli import bench, demo, policies, race, reproduce, train

    parser = argparse.ArgumentParser(
        prog="lbfgs-pi",
        description="L-BFGS with a learned step-size policy in place of the line search.",
    )
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
    except KeyboardInterrupt:
        where = f" --out {args.out}" if getattr(args, "out", None) else ""
        print(
            f"\nInterrupted. The same command{where and f' with{where}'} goes on from the last "
            f"checkpoint.",
            file=sys.stderr,
        )
        return EXIT_INTERRUPTED
    except (ValueError, TypeError, ImportError, RuntimeError, OSError) as error:
        # Our own errors are one clear sentence each; anything else deserves its traceback.
        if isinstance(error, OSError) or _is_ours(error):
            Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False)
            return EXIT_ERROR
        raise
    if args.json:
        print(json.dumps(result, indent=2))
    return 0


def _is_ours(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "") if trace else ""
    return module.startswith("jax_lbfgs_pi")
