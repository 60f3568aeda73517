"""Races on the seven equations: `python -m benchmarks.physics --help`."""

import argparse
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from benchmarks.physics.equations import EQUATIONS
from benchmarks.physics.optimizers import OPTIMIZERS, Run
from benchmarks.physics.report import write_report
from jax_lbfgs_pi.files import write_arrays


def run_one(equation, name, seed, evals, path):
    """The run of an optimizer, and the error of its solution; from its file if there is one."""
    if not path.exists():
        x0, points = jax.tree.map(jnp.asarray, (equation.start(seed), equation.points))
        run = OPTIMIZERS[name](equation.loss, points, x0, evals)
        error = equation.error(ravel_pytree(x0)[1](jnp.asarray(run.params)))
        write_arrays(path, {**run._asdict(), "error": np.float64(error)})
    with np.load(path) as file:
        return Run(*(file[field] for field in Run._fields)), float(file["error"])


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.physics", description=__doc__)
    parser.add_argument("--evals", type=int, default=2000, help="evaluations of f and its gradient")
    parser.add_argument("--seeds", type=int, default=1, help="starts of each network")
    parser.add_argument("--equations", nargs="+", default=list(EQUATIONS), choices=EQUATIONS)
    parser.add_argument("--against", nargs="+", default=list(OPTIMIZERS), choices=OPTIMIZERS)
    parser.add_argument("--out", type=Path, default=Path("runs/physics"))
    args = parser.parse_args()
    results = {}
    for seed in range(args.seeds):
        for title in args.equations:
            equation = EQUATIONS[title]
            for name in args.against:
                path = args.out / f"{title} {seed} {args.evals}" / f"{name}.npz"
                run, error = run_one(equation, name, seed, args.evals, path)
                results[title, name, seed] = run, error
                print(
                    f"{title:18} {seed} {name:22} f {run.best[-1]:.1e}  error {error:.1e}  "
                    f"{run.evals[-1]:5d} evaluations {run.seconds[-1]:6.1f} s",
                    flush=True,
                )
    write_report(results, args.out, args.evals)


if __name__ == "__main__":
    main()
