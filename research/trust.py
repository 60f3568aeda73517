"""What trusting fewer pairs is worth: the rule with k of 20 pairs.

python -m research.trust

On each family of training; and on small networks without decay, which fall by many decades: a
hidden layer of 8 sigmoids on 300 of scikit-learn's digits, from weights of order 1.
"""

import json
from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure

from jax_lbfgs_pi import load_policy
from jax_lbfgs_pi.policy import General, Rule, init_general
from jax_lbfgs_pi.suite.families import FAMILIES
from jax_lbfgs_pi.training.population import best_values, losses_on, of_family
from research.lanes import evals_to, stack

TRUSTED = (3, 5, 8, 12, 20)
NUM_TASKS = 24
FOLDER = Path("runs/research/trust")


def losses(name: str) -> np.ndarray:
    """The loss of each number of pairs on each problem, shape `(tasks, numbers)`; kept."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        family = FAMILIES[name]
        compute = jax.jit(losses_on(family.loss, num_evals=150, memory_size=max(TRUSTED)))
        tasks = of_family(family, NUM_TASKS).draw(7, 0)
        policies = stack([Rule(num_pairs=float(k)) for k in TRUSTED])
        path.write_text(json.dumps(np.asarray(compute(policies, *tasks)).tolist()))
    return np.array(json.loads(path.read_text()))


def networks(
    policies: list[Any],
    num_tasks: int = 20,
    num_evals: int = 400,
    hidden: int = 8,
    memory_size: int | str = max(TRUSTED),
    **options: Any,
) -> np.ndarray:
    """Evaluations to f = 1e-3 of networks without decay, shape `(tasks, policies)`."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)

    def loss(x: Array, data: tuple[Array, Array]) -> Array:
        first, second = jnp.split(x, [64 * hidden])
        inner = jax.nn.sigmoid(data[0] @ first.reshape(64, hidden))
        logits = inner @ second.reshape(hidden, 10)
        return jnp.mean(jax.nn.logsumexp(logits, 1) - jnp.sum(data[1] * logits, 1))

    def curves(policies: Any, x0: Array, data: tuple[Array, Array]) -> Array:
        def one(policy: Any) -> Array:
            return best_values(
                policy, lambda x: loss(x, data), x0, num_evals, memory_size=memory_size, **options
            )

        return jax.vmap(one)(policies)

    compute, lanes = jax.jit(curves), stack(policies)
    evals = []
    for seed in range(num_tasks):
        rng = np.random.default_rng(seed)
        mine = rng.permutation(len(images))[:300]
        data = jnp.asarray(images[mine] / 16.0), jax.nn.one_hot(labels[mine], 10)
        found = np.array(compute(lanes, jnp.asarray(rng.normal(size=74 * hidden)), data))
        evals.append(evals_to(np.maximum(found, 0.0), 0.0, 1e-3 / found[0, 0]))
    return np.array(evals)


def print_networks(evals: np.ndarray, labels: list[str]) -> None:
    """How many reach f = 1e-3, and the median over those that all of them solve."""
    by_all = np.isfinite(evals).all(1)
    for label, found in zip(labels, evals.T, strict=True):
        print(
            f"networks, {label:24s} {np.isfinite(found).sum()} of {len(found)} reach f = 1e-3; "
            f"median of the {by_all.sum()} that all solve: {np.median(found[by_all]):.0f}"
        )


def figure(rows: dict[str, np.ndarray], path: Path) -> None:
    """What each number of pairs loses against all, by family, the worst first."""
    names = sorted(rows, key=lambda name: rows[name][1])
    fig = Figure(figsize=(7, 10), layout="constrained")
    ax = fig.subplots()
    for i, k in enumerate(TRUSTED[:-1]):
        ax.plot([rows[n][i] for n in names], range(len(names)), "osd^"[i], label=f"{k} pairs")
    ax.axvline(0.0, color="black", linewidth=0.8)
    ax.set_yticks(range(len(names)), names, fontsize=6)
    ax.set(xlabel="mean log10 gap beyond that with all 20 pairs (right: worse)")
    ax.legend()
    fig.savefig(path, dpi=110)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    means = {}
    for name in FAMILIES:
        found = losses(name)
        excess = found - found[:, -1:]
        means[name] = excess.mean(0)
        better = (excess < 0).mean(0)
        cells = " ".join(f"{m:+.3f} ({b:.2f})" for m, b in zip(means[name], better, strict=True))
        print(f"{name:28s} {cells}", flush=True)
    overall = np.mean(list(means.values()), 0)
    print(f"{'all':28s} " + " ".join(f"{m:+.3f}       " for m in overall))
    learned, bare = load_policy("general"), init_general(jax.random.key(0), Rule())
    assert isinstance(learned, General)
    lanes = [
        (f"{name}, {k} pairs", policy.replace(base=Rule(num_pairs=float(k))))  # pyright: ignore
        for name, policy in (("rule", bare), ("general", learned))
        for k in TRUSTED
    ]
    print_networks(networks([policy for _, policy in lanes]), [label for label, _ in lanes])
    figure(means, Path("docs/research/figures/trust.png"))
