"""All races of the examples, one after the other: python -m examples.

Each is kept in benchmarks/results/examples.json as it ends, with machine, versions and date, and
`make docs` puts the tables into docs/examples.md. Give names to run some of them.
"""

import argparse
import importlib
import json
from pathlib import Path

import jax

from benchmarks.report import provenance
from benchmarks.to_target import Outcome, rows
from examples.beside import HEADER
from jax_lbfgs_pi.files import write_atomically

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "examples.json"
NAMES = (
    "physics_informed",
    "spectra",
    "gaussian_process",
    "disasters",
    "coils",
    "light",
    "logistic_regression",
)


def main():
    """Runs the examples that are named."""
    parser = argparse.ArgumentParser(prog="python -m examples", description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=", ".join(NAMES))
    jax.config.update("jax_enable_x64", True)  # as the examples do, before it is written down
    for name in parser.parse_args().names:
        about = provenance([]) | {"command": f"python -m examples {name}"}
        outcomes = importlib.import_module(f"examples.{name}").main()
        tables = {
            title: [list(HEADER), *rows(outcome)] if isinstance(outcome, Outcome) else outcome
            for title, outcome in outcomes.items()
        }
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        known[name] = {"provenance": about, "tables": tables}
        write_atomically(RESULTS, json.dumps(known, indent=1))
        jax.clear_caches()


if __name__ == "__main__":
    main()
