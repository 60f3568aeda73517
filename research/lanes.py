"""Many policies on the development problems at once: one lane each, one compilation a formula."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from jax_lbfgs_pi import trees
from jax_lbfgs_pi.acceptance import Guard
from jax_lbfgs_pi.suite import REGISTRY, get_problem, list_problems
from jax_lbfgs_pi.tasks import DataError
from jax_lbfgs_pi.training.population import best_values
from jax_lbfgs_pi.transform import DEFAULT_GUARD, MemorySize


def stack(policies: Sequence[Any]) -> Any:
    """Policies, or guards, of one structure as one pytree with a leading axis."""
    return jax.tree.map(
        lambda *leaves: jnp.stack([jnp.asarray(x, float) for x in leaves]), *policies
    )


@functools.cache
def _curves(loss: Callable, num_evals: int, memory_size: MemorySize, with_value: bool) -> Callable:
    def lanes(policies: Any, guards: Any, starts: Any, data: Any) -> jax.Array:
        def one(policy: Any, guard: Any, x0: Any) -> jax.Array:
            return best_values(
                policy,
                lambda x: loss(x, data),
                x0,
                num_evals,
                memory_size=memory_size,
                with_value=with_value,
                guard=guard,
            )

        from_all = jax.vmap(one, (None, None, 0))
        return jax.vmap(from_all, (0, 0, None))(policies, guards, starts)

    return jax.jit(lanes)


@functools.cache
def num_variables(name: str) -> int:
    """The n of a problem."""
    return trees.size(get_problem(name).x0)


def development(per_kind: int, max_variables: int = 20_000) -> list[str]:
    """The first problems of each development kind."""
    return first_of_each_kind("development", max_variables, per_kind)


def first_of_each_kind(split: str, max_variables: int, per_kind: int = 1) -> list[str]:
    """The first problems of each kind of a split that are there and no larger."""
    seen: dict[str, int] = {}
    names = []
    for name in list_problems(split):
        kind = REGISTRY.kind(name)
        if seen.get(kind, 0) >= per_kind:
            continue
        try:
            x0 = get_problem(name).x0
        except DataError as error:
            print(f"{name}: {error}")
            continue
        if trees.size(x0) <= max_variables:
            seen[kind] = seen.get(kind, 0) + 1
            names.append(name)
    return names


def run(
    names: Sequence[str],
    policies: Sequence[Any],
    folder: Path,
    *,
    num_evals: int = 300,
    memory_size: MemorySize = 10,
    with_value: bool = True,
    guards: Sequence[Guard] | None = None,
    num_starts: int = 1,
) -> dict[str, np.ndarray]:
    """The best values after each evaluation by problem, shape `(policies, num_evals)`; resumes.

    Each policy has the default's guard, or its own of `guards`.

    With more than one start they stand by problem and start, `name/i`; all but the first are moved
    by a tenth of `max(1, |x0|)` at random.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lanes, results = stack(policies), {}
    with_guards = stack(guards or [DEFAULT_GUARD] * len(policies))
    for name in names:
        path = folder / f"{name}.npy"
        if not path.exists():
            try:
                problem = get_problem(name)
            except DataError as error:
                print(f"{name}: {error}")
                continue
            curves = _curves(problem.loss, num_evals, memory_size, with_value)
            x0, data = jax.tree.map(jnp.asarray, (problem.x0, problem.data))
            starts = jax.tree.map(lambda leaf: moved(leaf, num_starts), x0)
            np.save(path, np.asarray(curves(lanes, with_guards, starts, data)))
            jax.clear_caches()  # hundreds of programs at once are more than a process may map
            print(name, flush=True)
        by_start = np.moveaxis(np.load(path), 1, 0)
        results |= {f"{name}/{i}" if i else name: one for i, one in enumerate(by_start)}
    return results


def moved(leaf: jax.Array, num_starts: int) -> jax.Array:
    """Starts along a new leading axis: the first as it is, the others moved at random."""
    rng = np.random.default_rng(leaf.size)
    noise = 0.1 * rng.normal(size=(num_starts, *leaf.shape))
    noise[0] = 0.0
    return leaf + noise * np.maximum(1.0, np.abs(leaf))


def evals_to(curves: np.ndarray, least: float, tau: float) -> np.ndarray:
    """Evaluations until f - least <= tau (f₀ - least), for each lane; infinity if never."""
    start = curves[0, 0]
    solved = curves - least <= tau * (start - least)
    return np.where(solved.any(1), solved.argmax(1) + 1.0, np.inf)


def of_size(results: dict[str, np.ndarray], low: int, high: int) -> dict[str, np.ndarray]:
    """Those of problems of `low` to `high` variables."""
    return {k: v for k, v in results.items() if low <= num_variables(k.split("/")[0]) <= high}


def draw_by_size(
    lines: dict[str, list[float]], sizes: Sequence[tuple[int, int]], ylabel: str
) -> Figure:
    """A line for each label, with a value for each range of sizes."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    ax = figure.subplots()
    for i, (label, values) in enumerate(lines.items()):
        ax.plot(range(len(sizes)), values, marker="os^vDP*Xhp"[i], label=label)
    ax.set_xticks(range(len(sizes)), [f"{low} to {high}" for low, high in sizes])
    ax.set(xlabel="variables", ylabel=ylabel, xlim=(-0.5, len(sizes) - 0.5))
    ax.legend(fontsize=7)
    return figure


def table(
    results: dict[str, np.ndarray],
    labels: Sequence[str],
    tau: float = 1e-6,
    more: dict[str, float] | None = None,
) -> list[tuple[str, float, list[float], float]]:
    """For each lane: area under solved-against-log-budget, shares solved at 50, 100, 300.

    Kinds weigh alike. Last, the share of the problems on which it is faster than the first lane,
    ties half.
    """
    kinds: dict[str, list[np.ndarray]] = {}
    for name, curves in results.items():
        least = min(curves.min(), (more or {}).get(name, np.inf))
        kinds.setdefault(REGISTRY.kind(name.split("/")[0]), []).append(evals_to(curves, least, tau))
    horizon = next(iter(results.values())).shape[1]
    rows = []
    for lane, label in enumerate(labels):

        def mean(score: Callable[[np.ndarray], np.ndarray], lane: int = lane) -> float:
            return float(np.mean([np.mean([score(c)[lane] for c in cs]) for cs in kinds.values()]))

        area = mean(lambda c: np.clip(1 - np.log(c) / np.log(horizon), 0, 1))
        shares = [mean(lambda c, b=b: (c <= b).astype(float)) for b in (50, 100, 300)]
        wins = mean(lambda c: (c < c[0]) + 0.5 * (c == c[0]))
        rows.append((label, area, shares, wins))
    return rows


def print_table(rows: list[tuple[str, float, list[float], float]]) -> None:
    """The rows, best area first."""
    print(f"{'':34s} area    50   100   300  first")
    for label, area, shares, ratio in sorted(rows, key=lambda row: -row[1]):
        print(f"{label:34s} {area:.3f} " + " ".join(f"{s:.2f} " for s in shares) + f" {ratio:.2f}")
