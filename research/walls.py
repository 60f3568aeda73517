"""How far back a trial goes where f is not finite, on likelihoods and barriers in natural units.

python -m research.walls
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import gammaln

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.acceptance import Guard
from jax_lbfgs_pi.training.population import best_values
from research.lanes import development, evals_to, print_table, run, stack, table

NUM_TASKS = 24
NUM_EVALS = 150
FIRST, LATER = (1e-3, 1e-2, 0.03, 0.1, 0.25, 0.5), (0.1, 0.25, 0.5)


class Walled(NamedTuple):
    """A family whose f is NaN or infinite beyond a wall.

    Attributes:
      name: for the table.
      draw: of a NumPy generator to `(x0, data)`.
      loss: `(x, data) -> f`.
    """

    name: str
    draw: Callable[[np.random.Generator], tuple[Any, Any]]
    loss: Callable[[Any, Any], jax.Array]


def inside(good: Any, f: Any) -> jax.Array:
    """F where all is well, else NaN."""
    return jnp.where(jnp.all(good), f, jnp.nan)


def positive_start(rng: np.random.Generator, truth: Any) -> np.ndarray:
    """Around the truth within some factors, on a scale of logarithms."""
    return np.asarray(truth) * np.exp(rng.normal(size=np.shape(truth)))


def _gamma(rng: np.random.Generator) -> Any:
    truth = rng.uniform(0.5, 6.0, 2)
    return positive_start(rng, truth), rng.gamma(*truth, size=100)


def gamma(p: Any, d: Any) -> jax.Array:
    k, scale = p
    terms = (k - 1) * jnp.log(d) - d / scale - gammaln(k) - k * jnp.log(scale)
    return inside(p > 0, -jnp.mean(terms))


def _weibull(rng: np.random.Generator) -> Any:
    truth = rng.uniform(0.5, 6.0, 2)
    return positive_start(rng, truth), truth[1] * rng.weibull(truth[0], size=100)


def weibull(p: Any, d: Any) -> jax.Array:
    k, scale = p
    terms = jnp.log(k / scale) + (k - 1) * jnp.log(d / scale) - (d / scale) ** k
    return inside(p > 0, -jnp.mean(terms))


def _normal(rng: np.random.Generator) -> Any:
    mean, sd = rng.normal() * 5.0, rng.uniform(0.2, 5.0)
    start = np.array([mean + sd * rng.normal(), positive_start(rng, sd)])
    return start, mean + sd * rng.normal(size=100)


def normal(p: Any, d: Any) -> jax.Array:
    return jnp.mean(jnp.log(p[1]) + 0.5 * ((d - p[0]) / p[1]) ** 2)


def _beta(rng: np.random.Generator) -> Any:
    truth = rng.uniform(0.5, 6.0, 2)
    return positive_start(rng, truth), rng.beta(*truth, size=100)


def beta(p: Any, d: Any) -> jax.Array:
    norm = gammaln(p[0] + p[1]) - gammaln(p[0]) - gammaln(p[1])
    return inside(p > 0, -jnp.mean((p[0] - 1) * jnp.log(d) + (p[1] - 1) * jnp.log1p(-d)) - norm)


def _poisson(rng: np.random.Generator) -> Any:
    inputs, truth = rng.uniform(size=(80, 10)), rng.uniform(0.5, 3.0, 10)
    return positive_start(rng, truth), (inputs, rng.poisson(inputs @ truth).astype(float))


def poisson(p: Any, d: Any) -> jax.Array:
    """With the identity for a link."""
    inputs, counts = d
    rates = inputs @ p
    return jnp.mean(rates - counts * jnp.log(rates))


def _covariance(rng: np.random.Generator, n: int) -> Any:
    samples = rng.normal(size=(5 * n, n)) @ rng.normal(size=(n, n))
    scale = rng.uniform(0.1, 10.0) / np.sqrt(np.mean(samples**2))
    return np.eye(n), scale**2 * samples.T @ samples / len(samples)


def cholesky(p: Any, d: Any) -> jax.Array:
    """A precision by its factor, of which the lower triangle counts."""
    factor = jnp.tril(p)
    return jnp.sum(d * (factor @ factor.T)) - 2.0 * jnp.sum(jnp.log(jnp.diag(factor)))


def precision(p: Any, d: Any) -> jax.Array:
    """A precision itself."""
    matrix = 0.5 * (p + p.T)
    root = jnp.linalg.cholesky(matrix)
    return jnp.sum(d * matrix) - 2.0 * jnp.sum(jnp.log(jnp.diag(root)))


def _process(rng: np.random.Generator) -> Any:
    x = np.sort(rng.uniform(size=30))
    y = rng.uniform(0.3, 3.0) * np.sin(rng.uniform(3.0, 12.0) * x) + 0.1 * rng.normal(size=30)
    return positive_start(rng, [1.0, 0.3, 0.3]), (x, y)


def process(p: Any, d: Any) -> jax.Array:
    """A Gaussian process by its variances and its length."""
    x, y = d
    kernel = p[0] * jnp.exp(-0.5 * ((x[:, None] - x) / p[1]) ** 2) + p[2] * jnp.eye(x.size)
    root = jnp.linalg.cholesky(kernel)
    white = solve_triangular(root, y, lower=True)
    return inside(p > 0, jnp.sum(jnp.log(jnp.diag(root))) + 0.5 * white @ white)


def _centre(rng: np.random.Generator) -> Any:
    return 0.02 * rng.normal(size=10), (rng.normal(size=(40, 10)), rng.uniform(0.3, 3.0, 40))


def centre(x: Any, d: Any) -> jax.Array:
    """The analytic centre of a polytope."""
    matrix, bounds = d
    return -jnp.sum(jnp.log(bounds - matrix @ x)) - jnp.sum(jnp.log(10.0 - x * x))


def _barrier(rng: np.random.Generator) -> Any:
    x0, (matrix, bounds) = _centre(rng)
    return x0, (matrix, bounds, 10.0 ** rng.uniform(0, 3) * rng.normal(size=10))


def barrier(x: Any, d: Any) -> jax.Array:
    """A linear programme with a barrier."""
    matrix, bounds, cost = d
    return cost @ x + centre(x, (matrix, bounds))


def _entropy(rng: np.random.Generator) -> Any:
    return rng.uniform(0.01, 0.5, 20), (10.0 ** rng.uniform(0, 2), rng.normal(size=20))


def entropy(x: Any, d: Any) -> jax.Array:
    weight, cost = d
    return jnp.sum(x * jnp.log(x)) + cost @ x + weight * (jnp.sum(x) - 1.0) ** 2


def _dirichlet(rng: np.random.Generator) -> Any:
    truth = rng.uniform(0.5, 6.0, 6)
    return positive_start(rng, truth), np.log(rng.dirichlet(truth, size=100) + 1e-12).mean(0)


def dirichlet(p: Any, d: Any) -> jax.Array:
    return inside(p > 0, jnp.sum(gammaln(p)) - gammaln(jnp.sum(p)) - (p - 1) @ d)


FAMILIES = (
    Walled("gamma", _gamma, gamma),
    Walled("Weibull", _weibull, weibull),
    Walled("normal", _normal, normal),
    Walled("beta", _beta, beta),
    Walled("Dirichlet", _dirichlet, dirichlet),
    Walled("Poisson, identity", _poisson, poisson),
    Walled("precision's factor", lambda rng: _covariance(rng, 8), cholesky),
    Walled("precision", lambda rng: _covariance(rng, 5), precision),
    Walled("Gaussian process", _process, process),
    Walled("analytic centre", _centre, centre),
    Walled("barrier", _barrier, barrier),
    Walled("entropy", _entropy, entropy),
)


def guard_with(first: float, later: float) -> Guard:
    """The default's for a window, with these shares; as a lane all its constants are numbers."""
    return Guard(first_blind=first, blind=later, first_decrease=Guard().decrease)


def curves_of(family: Walled, guards: list[Guard], num_evals: int) -> np.ndarray:
    """Best values by task and guard, shape `(tasks, guards, evaluations)`."""
    rng = np.random.default_rng(0)
    x0, data = jax.tree.map(
        lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]),
        *(family.draw(rng) for _ in range(NUM_TASKS)),
    )
    policy = lp.load_policy("general")

    def one(guard: Guard, x: Any, d: Any) -> jax.Array:
        def fun(x: Any) -> jax.Array:
            return family.loss(x, d)

        return best_values(policy, fun, x, num_evals, memory_size="full", guard=guard)

    lanes = jax.vmap(jax.vmap(one, (0, None, None)), (None, 0, 0))
    return np.asarray(jax.jit(lanes)(stack(guards), x0, data))


def main() -> None:
    """Runs, and prints the mean of log₂ of the evaluations over those of the first guard."""
    pairs = list(itertools.product(FIRST, LATER))
    guards = list(itertools.starmap(guard_with, pairs))
    folder = Path("runs/research/walls")
    folder.mkdir(parents=True, exist_ok=True)
    ratios = []
    for family in FAMILIES:
        path = folder / f"{family.name}.npy"
        if not path.exists():
            np.save(path, curves_of(family, guards, NUM_EVALS))
            jax.clear_caches()
        evals = np.stack([evals_to(c, c.min(), 1e-6) for c in np.load(path)])
        solved = np.isfinite(evals)
        capped = np.where(solved, evals, 2.0 * NUM_EVALS)
        ratio = np.log2(capped / capped[:, :1]).mean(0)
        ratios.append(ratio)
        medians = np.median(capped, 0)
        print(f"{family.name:20s} solved {solved.mean():.2f}  evals {medians[0]:.0f}", end="  ")
        print(" ".join(f"{2**x:.2f}" for x in ratio), flush=True)
    print(f"{'all':44s}", " ".join(f"{2**x:.3f}" for x in np.mean(ratios, 0)))
    print(pairs)

    few = [(1e-3, 0.1), (0.03, 0.25), (0.1, 0.25)]
    policies = [lp.load_policy("general")] * len(few)
    results = run(
        development(2, 1000), policies, folder / "suite", memory_size=None, num_starts=3,
        guards=list(itertools.starmap(guard_with, few)),
    )  # fmt: skip
    differs = {k: c for k, c in results.items() if not (c == c[:1]).all()}
    print(f"development problems: {len(differs)} of {len(results)} runs differ")
    print_table(table(differs, [str(pair) for pair in few]))
    for name, curves in differs.items():
        print(f"{name:34s}", evals_to(curves, curves.min(), 1e-6))


if __name__ == "__main__":
    main()
