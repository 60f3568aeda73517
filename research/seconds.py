"""A window of 20 pairs or all of them above 100 variables, in evaluations and in seconds.

python -m research.seconds [N]

N makes the runs of the development formulas at N variables, and of families of some 400.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import numpy as np

import jax_lbfgs_pi as lp
from benchmarks import timing
from jax_lbfgs_pi import trees
from jax_lbfgs_pi.suite import get_problem
from jax_lbfgs_pi.training.population import best_values
from research.drawn import Family, evaluations, kept, mean_ratio, problems_of
from research.lanes import development
from research.middling import FAMILIES, LARGER

MEMORIES = (20, "full")
SIZE = 150
NUM_EVALS, NUM_TASKS = 500, 6
TURNS, REPEATS = 200, 7


def resized(name: str, n: int) -> Family | None:
    """A development formula at n variables, by repeating its start; None where that is none."""
    problem = get_problem(name)
    if problem.data is not None or not isinstance(problem.x0, np.ndarray) or problem.x0.ndim != 1:
        return None
    try:
        jax.eval_shape(lambda x: problem.loss(x, None), np.zeros(n))
    except TypeError:  # a lattice asks for a square
        return None

    def draw(rng: np.random.Generator) -> Any:
        x0 = np.resize(problem.x0, n)
        return x0 + 0.1 * rng.normal(size=n) * np.maximum(1.0, np.abs(x0)), np.zeros(())

    return Family(f"{problem.kind} {n}", draw, lambda x, d: problem.loss(x, None))


def formulas(n: int) -> list[Family]:
    """Development formulas that there are at 100 variables or more, at n."""
    kinds: dict[str, str] = {}
    for name in development(9, 1000):
        if "@" not in name and trees.size(get_problem(name).x0) >= 100:
            kinds.setdefault(name.rsplit("-", 1)[0], name)
    return [family for name in kinds.values() if (family := resized(name, n)) is not None]


def curves_of(family: Family, memory_size: Any, x0: Any, data: Any) -> np.ndarray:
    """Best values, by task and evaluation."""
    policy = lp.load_policy("general")

    def one(x: Any, d: Any) -> jax.Array:
        return best_values(
            policy, lambda x: family.loss(x, d), x, NUM_EVALS, memory_size=memory_size
        )

    return np.asarray(jax.jit(jax.vmap(one))(x0, data))


NEVER = lp.Stopping(gtol=0.0, patience=None)


def seconds_of(
    solver: Callable[[Any], Callable[..., Any]], args: tuple, memories: Sequence[Any] = MEMORIES
) -> list[float]:
    """Seconds of a call with each memory."""
    solvers = {str(m): functools.partial(solver(m), *args) for m in memories}
    return list(timing.compare(solvers, budget=0.0, least=REPEATS).seconds.values())


def turn_seconds(
    family: Family, x0: Any, data: Any, memories: Sequence[Any] = MEMORIES
) -> list[float]:
    """Seconds of a turn of `minimize`, its evaluation included, with each memory."""

    def solver(memory_size: Any) -> Callable[[Any, Any], Any]:
        def solve(x: Any, d: Any) -> jax.Array:
            options: dict[str, Any] = {"memory_size": memory_size, "max_iters": TURNS, "tol": NEVER}
            return lp.minimize(family.loss, x, (d,), **options).num_evals

        return jax.jit(solve)

    counts = [int(solver(m)(x0, data)) for m in memories]
    return [s / n for s, n in zip(seconds_of(solver, (x0, data), memories), counts, strict=True)]


def batch_turns(n: int, num_problems: int = 256) -> list[float]:
    """Milliseconds of a turn of Rosenbrock functions in one `vmap`, with each memory."""
    x0 = np.random.default_rng(0).normal(size=(num_problems, n))

    def rosenbrock(x: Any) -> jax.Array:
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    def solver(memory_size: Any) -> Callable[[Any], Any]:
        def solve(x: Any) -> jax.Array:
            options: dict[str, Any] = {"memory_size": memory_size, "max_iters": TURNS, "tol": NEVER}
            return lp.minimize(rosenbrock, x, **options).value

        return jax.jit(jax.vmap(solve))

    return [1e3 * s / (TURNS + 1) for s in seconds_of(solver, (x0,))]


def main() -> None:
    """Runs, and prints evaluations with all pairs over those with 20, then seconds."""
    size, chosen, batches = SIZE, FAMILIES, (100, 150, 200)
    if sys.argv[1:]:
        size, chosen = int(sys.argv[1]), LARGER
        batches = (size,)
    families = [*chosen, *formulas(size)]
    folder = Path("runs/research/seconds")
    print("evaluations to 1e-3, 1e-6, 1e-9: all over 20; 20 pairs, all to 1e-6; µs a turn; seconds")
    rows = []
    for family in families:
        x0, data = problems_of(family, NUM_TASKS)
        first = jax.tree.map(lambda a: a[0], (x0, data))
        curves = kept(
            folder / f"{family.name}.npy",
            lambda f=family, x=x0, d=data: np.stack([curves_of(f, m, x, d) for m in MEMORIES], 1),
        )
        turn = kept(
            folder / f"{family.name}-turns.npy", lambda f=family, a=first: turn_seconds(f, *a)
        )
        evals = [evaluations(curves, tau) for tau in (1e-3, 1e-6, 1e-9)]
        ratios = [mean_ratio(e)[1] for e in evals]
        rows.append([*ratios, ratios[1] + np.log2(turn[1] / turn[0])])
        shares = " ".join(f"{2**r:5.2f}" for r in ratios)
        counts = " ".join(f"{m:5.0f}" for m in np.median(evals[1], 0))
        micros = " ".join(f"{1e6 * t:6.0f}" for t in turn)
        print(
            f"{family.name:32s} {shares}  {counts}  {micros}  {2 ** rows[-1][-1]:5.2f}", flush=True
        )
    print(f"{'all':32s}", *(f"{2**r:5.2f}" for r in np.mean(rows, 0)))
    for n in batches:
        print(f"ms a turn of 256 of {n}:", *(f"{t:.1f}" for t in batch_turns(n)))


if __name__ == "__main__":
    main()
