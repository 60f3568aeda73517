"""How far γ and t can carry: the best sequences in hindsight, and greedy ones, on some problems.

python -m research.limit POLICY

Greedy: t by an exact line search that costs nothing, with the rule's γ, and with the best of nine
γ too. In hindsight: a factor on the rule's γ and t of every step, by gradients through the unroll,
from the rule's answers, from the greedy ones and from random ones.
"""

import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from matplotlib.figure import Figure

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import General, InnerProducts, Observation, Rule, Scaling
from jax_lbfgs_pi.step import propose, take
from jax_lbfgs_pi.suite import get_problem
from jax_lbfgs_pi.training.population import best_values, log_budgets, log_gaps
from jax_lbfgs_pi.transform import DEFAULT_GUARD

PROBLEMS = (
    "chained_rosenbrock-10", "ellipsoid-10", "powell_badly_scaled-2", "helical_valley-3",
    "bard-3", "biggs_exp6-6", "torsion-100", "digits-relu-0", "gp-diabetes-0",
    "logistic-cancer-raw-0", "matrix-completion-0", "pinn-poisson-0",
)  # fmt: skip
NUM_EVALS = 60
BUDGETS = log_budgets(NUM_EVALS)
MEMORY_SIZE = 10
MOST = 10.0
"""Factors in hindsight lie within e^±MOST."""


@struct.dataclass
class Sequence:
    """The rule's answers times factors by step; `log_factors` has shape `(2, k)`, γ's and t's."""

    log_factors: Any
    base: Rule = Rule()

    reads_ds: ClassVar[bool] = False

    def init(self, dtype: Any) -> Any:
        return self.base.init(dtype)

    def _factor(self, row: int, seen: Observation) -> Any:
        at = jnp.minimum(seen.count, self.log_factors.shape[1] - 1)
        return jnp.exp(MOST * jnp.tanh(self.log_factors[row, at] / MOST))

    def scale(self, seen: Observation, memory: Any) -> tuple[Scaling, Any]:
        answer, memory = self.base.scale(seen, memory)
        return answer._replace(gamma=answer.gamma * self._factor(0, seen)), memory

    def step_size(self, seen: Observation, products: InnerProducts, memory: Any) -> Any:
        t, memory = self.base.step_size(seen, products, memory)
        return t * self._factor(1, seen), memory


def curve(policy: Any, fun: Any, x0: Any, num_evals: int = NUM_EVALS) -> Any:
    return best_values(policy, fun, x0, num_evals, memory_size=MEMORY_SIZE)


def in_hindsight(fun: Any, x0: Any, least: float, starts: list[Any], steps: int = 400) -> Any:
    """The best curve that gradient ascent from `starts` finds, and all mean gaps on the way."""

    def score(log_factors: Any) -> Any:
        values = curve(Sequence(log_factors), fun, x0)
        return jnp.mean(log_gaps(values[None], least)[0, BUDGETS]), values

    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.03))

    @jax.jit
    @jax.vmap
    def step(factors: Any, state: Any) -> Any:
        (loss, values), grads = jax.value_and_grad(score, has_aux=True)(factors)
        grads = jnp.where(jnp.isfinite(grads), grads, 0.0)
        updates, state = tx.update(grads, state)
        return optax.apply_updates(factors, updates), state, loss, values

    factors = jnp.stack(starts)
    state = jax.vmap(tx.init)(factors)
    best, best_curve = np.inf, None
    for _ in range(steps):
        factors, state, losses, curves = step(factors, state)
        i = int(jnp.argmin(losses))
        if float(losses[i]) < best:
            best, best_curve = float(losses[i]), np.asarray(curves[i])
    return best_curve


def greedy(fun: Any, x0: Any, gammas: Any) -> Any:
    """Exact line searches, with the best of some factors on γ at each step: curve and factors."""
    ts = jnp.geomspace(1e-4, 1e4, 241)
    state = lp.scale_by_lbfgs_pi(Rule(), memory_size=MEMORY_SIZE).init(x0)

    def step(carry: Any, _: None) -> Any:
        x, state, best = carry
        value, grads = jax.value_and_grad(fun)(x)
        best = jnp.minimum(best, value)

        def try_gamma(log_gamma: Any) -> Any:
            policy = Sequence(jnp.full((2, 1), log_gamma) * jnp.array([[1.0], [0.0]]))
            proposal = propose(policy, grads, state, x, value, DEFAULT_GUARD)
            t0, memory = policy.step_size(proposal.seen, proposal.products, proposal.moved.memory)

            def at(t: Any) -> Any:
                moved = jax.tree.map(lambda a, d: a + t * d, x, proposal.d)
                f = fun(moved)
                return jnp.where(jnp.isfinite(f), f, jnp.inf)

            grid = t0 * ts
            i = jnp.argmin(jax.vmap(at)(grid))
            fine = grid[i] * jnp.geomspace(0.93, 1.08, 31)
            f_fine = jax.vmap(at)(fine)
            j = jnp.argmin(f_fine)
            updates, moved = take(proposal, fine[j], memory)
            taken = MOST * jnp.tanh(log_gamma / MOST)
            factors = jnp.stack([taken, jnp.log(fine[j] / t0)])
            return f_fine[j], (updates, moved, factors)

        values, answers = jax.vmap(try_gamma)(gammas)
        best_of = jnp.argmin(values)
        updates, state, factors = jax.tree.map(lambda leaf: leaf[best_of], answers)
        # lbfgs_pi's updates are scale_by_lbfgs_pi's with a change of sign.
        x = jax.tree.map(lambda a, u: a - u, x, updates)
        return (x, state, best), (best, factors)

    start = (x0, state, jnp.inf)
    return jax.jit(lambda: jax.lax.scan(step, start, length=NUM_EVALS)[1])()


def study(name: str, policy: General) -> dict[str, Any]:
    """Mean log gaps of all on one problem."""
    problem = get_problem(name)
    x0, data = jax.tree.map(jnp.asarray, (problem.x0, problem.data))

    def fun(x: Any) -> Any:
        return problem.loss(x, data)

    by_t, t_factors = greedy(fun, x0, jnp.zeros(1))
    by_both, both_factors = greedy(fun, x0, jnp.linspace(-2.0, 2.0, 9))
    curves = {
        "rule": jax.jit(lambda: curve(Rule(), fun, x0))(),
        "general": jax.jit(lambda: curve(policy, fun, x0))(),
        "greedy t": by_t,
        "greedy γ and t": by_both,
    }
    long = jax.jit(lambda: curve(Rule(), fun, x0, 2000)[-1])()
    known = [problem.minimum] if problem.minimum is not None else []
    least = min(float(long), *known, *(float(c[-1]) for c in curves.values()))
    starts = [0.3 * jax.random.normal(jax.random.key(i), (2, NUM_EVALS)) for i in range(2)]
    starts += [jnp.zeros((2, NUM_EVALS))]
    # Of factors beyond the bound the inverse of tanh does not exist.
    starts += [
        MOST * jnp.arctanh(jnp.clip(f.T / MOST, -0.99, 0.99)) for f in (t_factors, both_factors)
    ]
    curves["hindsight"] = in_hindsight(fun, x0, least, starts)
    least = min(least, float(curves["hindsight"][-1]))
    gaps = {
        label: float(np.mean(log_gaps(jnp.asarray(c)[None], least)[0, BUDGETS]))
        for label, c in curves.items()
    }
    return {"problem": name, "gaps": gaps}


def figure(rows: list[dict[str, Any]], path: Path) -> None:
    """Mean gaps of each problem, the rule's as 0."""
    fig = Figure(figsize=(8, 4.5), layout="constrained")
    ax = fig.subplots()
    marks = {"rule": "k|", "general": "C0o", "greedy t": "C1^", "greedy γ and t": "C3v",
             "hindsight": "C2*"}  # fmt: skip
    for i, row in enumerate(rows):
        for label, mark in marks.items():
            gain = row["gaps"][label] - row["gaps"]["rule"]
            ax.plot(gain, i, mark, markersize=8, label=label if i == 0 else None)
    ax.set_yticks(range(len(rows)), [row["problem"] for row in rows], fontsize=8)
    ax.set(xlabel=f"log₁₀ gap, mean over budgets to {NUM_EVALS}, less the rule's")
    ax.legend(fontsize=8)
    fig.savefig(path, dpi=110)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    policy = lp.load_policy(path)
    assert isinstance(policy, General)
    log = Path("runs/research/limit") / f"{path.stem}.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    for name in PROBLEMS:
        if name not in [row["problem"] for row in rows]:
            rows.append(study(name, policy))
            with log.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
        row = rows[[row["problem"] for row in rows].index(name)]["gaps"]
        share = (row["rule"] - row["general"]) / (row["rule"] - row["hindsight"])
        cells = " ".join(f"{label} {gap:+.2f}" for label, gap in row.items())
        print(f"{name:24s} {cells}  share {share:.2f}", flush=True)
    figure(rows, Path("docs/research/figures/limit.png"))
