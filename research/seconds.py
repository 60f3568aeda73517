"""A window of 20 pairs or all of them above 100 variables, in evaluations and in seconds.

python -m research.seconds
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np

import jax_lbfgs_pi as lp
from jax_lbfgs_pi import trees
from jax_lbfgs_pi.suite import get_problem
from jax_lbfgs_pi.training.population import best_values
from research.lanes import development, evals_to
from research.middling import FAMILIES
from research.walled import Family, problems_of

MEMORIES = (20, "full")
SIZES = (150,)
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


def curves_of(family: Family, memory_size: Any, x0: Any, data: Any) -> np.ndarray:
    """Best values, by task and evaluation."""
    policy = lp.load_policy("general")

    def one(x: Any, d: Any) -> jax.Array:
        return best_values(
            policy, lambda x: family.loss(x, d), x, NUM_EVALS, memory_size=memory_size
        )

    return np.asarray(jax.jit(jax.vmap(one))(x0, data))


def alternating(solvers: list[Callable[..., Any]], args: tuple, repeats: int) -> np.ndarray:
    """Seconds of each, the medians of calls in turns; compiled before."""
    for solve in solvers:
        jax.block_until_ready(solve(*args))
    seconds = np.zeros((repeats, len(solvers)))
    for i in range(repeats):
        for k, solve in enumerate(solvers):
            start = time.perf_counter()
            jax.block_until_ready(solve(*args))
            seconds[i, k] = time.perf_counter() - start
    return np.median(seconds, 0)


def turn_seconds(family: Family, x0: Any, data: Any) -> list[float]:
    """Seconds of a turn of `minimize`, its evaluation included, with each memory; in turns."""
    never = lp.Stopping(gtol=0.0, patience=None)

    def compiled(memory_size: Any) -> Callable[[Any, Any], Any]:
        return jax.jit(
            lambda x, d: (
                lp.minimize(
                    family.loss, x, (d,), memory_size=memory_size, max_iters=TURNS, tol=never
                ).num_evals
            )
        )

    solvers = [compiled(m) for m in MEMORIES]
    counts = [int(solve(x0, data)) for solve in solvers]
    return list(alternating(solvers, (x0, data), REPEATS) / counts)


def batch_turns(n: int, num_problems: int = 256, turns: int = 100) -> list[float]:
    """Milliseconds of a turn of Rosenbrock functions in one `vmap`, with each memory."""
    never = lp.Stopping(gtol=0.0, patience=None)
    x0 = np.random.default_rng(0).normal(size=(num_problems, n))

    def rosenbrock(x: Any) -> jax.Array:
        return jax.numpy.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    def solver(memory_size: Any) -> Callable[[Any], Any]:
        return jax.jit(
            jax.vmap(
                lambda x: (
                    lp.minimize(
                        rosenbrock, x, memory_size=memory_size, max_iters=turns, tol=never
                    ).value
                )
            )
        )

    solvers = [solver(m) for m in MEMORIES]
    return [1e3 * s / (turns + 1) for s in alternating(solvers, (x0,), 3)]


def main() -> None:
    """Runs, and prints evaluations with all pairs over those with 20, then seconds."""
    families: list[Family | None] = list(FAMILIES)
    kinds: dict[str, str] = {}
    for name in development(9, 1000):
        if "@" not in name and trees.size(get_problem(name).x0) >= 100:
            kinds.setdefault(name.rsplit("-", 1)[0], name)
    families += [resized(name, n) for name in kinds.values() for n in SIZES]
    folder = Path("runs/research/seconds")
    folder.mkdir(parents=True, exist_ok=True)
    print("evaluations to 1e-3, 1e-6, 1e-9: all over 20; 20 pairs, all to 1e-6; µs a turn; seconds")
    rows = []
    for family in families:
        if family is None:
            continue
        x0, data = problems_of(family, NUM_TASKS)
        first = jax.tree.map(lambda a: a[0], (x0, data))
        path = folder / f"{family.name}.npy"
        if not path.exists():
            np.save(path, np.stack([curves_of(family, m, x0, data) for m in MEMORIES], 1))
        turns = folder / f"{family.name}-turns.npy"
        if not turns.exists():
            np.save(turns, turn_seconds(family, *first))
            jax.clear_caches()
        curves, turn = np.load(path), np.load(turns)
        ratios, medians = [], []
        for tau in (1e-3, 1e-6, 1e-9):
            evals = np.stack([evals_to(c, c.min(), tau) for c in curves])
            capped = np.where(np.isfinite(evals), evals, 2.0 * NUM_EVALS)
            ratios.append(np.log2(capped[:, 1] / capped[:, 0]).mean())
            medians.append(np.median(capped, 0))
        rows.append([*ratios, ratios[1] + np.log2(turn[1] / turn[0])])
        shares = " ".join(f"{2**r:5.2f}" for r in ratios)
        counts = " ".join(f"{m:5.0f}" for m in medians[1])
        micros = " ".join(f"{1e6 * t:6.0f}" for t in turn)
        print(
            f"{family.name:32s} {shares}  {counts}  {micros}  {2 ** rows[-1][-1]:5.2f}", flush=True
        )
    print(f"{'all':32s}", *(f"{2**r:5.2f}" for r in np.mean(rows, 0)))
    for n in (100, 150, 200):
        print(f"ms a turn of 256 of {n}:", *(f"{t:.1f}" for t in batch_turns(n)))


if __name__ == "__main__":
    main()
