"""Training of a learned residual by evolution strategies, on problems drawn without end.

Antithetic pairs of perturbed weights take part as lanes of one `vmap`, on the same problems, beside
the weights as they are and the policy that is to be improved on. On each problem the difference of
a pair counts by its sign, nearly, so that no problem is heard above the others.
"""

import concurrent.futures
import dataclasses
import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jax_lbfgs_pi.policy import General, Rule, init_general
from jax_lbfgs_pi.suite.families import FAMILIES
from jax_lbfgs_pi.training.population import Source, losses_on, of_family

SOFTNESS = 0.05
"""Differences of the loss, in decades, from this size on count nearly by their sign."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvolutionConfig:
    """Settings of `evolve`.

    Attributes:
      generations: moves of the weights.
      families: names of the families to draw problems from; empty for all.
      families_per_generation: how many of them a generation draws from.
      tasks_per_family: problems drawn from each.
      num_pairs: antithetic pairs of perturbed weights.
      num_evals: evaluations in a run.
      memory_sizes: m of L-BFGS, of one family after the other; None for the default's memory.
      sigma: standard deviation of the perturbations.
      learning_rate: Adam's at the start; it falls to a tenth along a cosine.
      seed: of the initial weights, the perturbations and the problems.
    """

    generations: int = 2500
    families: tuple[str, ...] = ()
    families_per_generation: int = 10
    tasks_per_family: int = 8
    num_pairs: int = 8
    num_evals: int = 150
    memory_sizes: tuple[int | None, ...] = (10, 20)
    sigma: float = 0.08
    learning_rate: float = 0.015
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in ("families", "seed"):
                continue
            values = value if isinstance(value, tuple) else (value,)
            by_size = field.name == "memory_sizes"  # None is the default's, by n
            if not (values and all(v > 0 if v is not None else by_size for v in values)):
                raise ValueError(f"{field.name} must be positive, but got {value}.")
        unknown = [name for name in self.families if name not in FAMILIES]
        if unknown:
            raise ValueError(f"Unknown family {unknown[0]!r}: choose among {', '.join(FAMILIES)}.")


class EvolutionState(NamedTuple):
    """Where training stands.

    Attributes:
      generation: moves made.
      weights: the policy's, raveled, shape `(dim,)`.
      opt_state: Adam's.
    """

    generation: int
    weights: Float[Array, " dim"]
    opt_state: Any


class GenerationRecord(NamedTuple):
    """What a generation saw.

    Attributes:
      generation: its number.
      families: the names of its families, or other sources.
      loss: the mean loss of the weights by family: log₁₀ of relative gaps, over budgets.
      base_loss: the same of the policy without residual.
      wins: the share of problems on which the weights were better, ties half.
    """

    generation: int
    families: list[str]
    loss: list[float]
    base_loss: list[float]
    wins: float


def begin(config: EvolutionConfig, start: General | None = None) -> EvolutionState:
    """The state before the first generation, with the weights of `start` if there is one."""
    weights, _ = _initial(config)
    if start is not None:
        weights, _ = ravel_pytree(jax.tree.map(jnp.asarray, start.params))
    return EvolutionState(0, weights, _optimizer(config).init(weights))


def policy_of(config: EvolutionConfig, state: EvolutionState) -> General:
    """The policy that a training has come to."""
    _, unravel = _initial(config)
    return General(params=jax.tree.map(np.asarray, unravel(state.weights)), base=Rule())


def _initial(config: EvolutionConfig) -> tuple[Array, Callable[[Array], Any]]:
    """The raveled weights of an untrained policy, and what makes its parameters of them."""
    policy = init_general(jax.random.key(config.seed), Rule())
    return ravel_pytree(jax.tree.map(jnp.asarray, policy.params))


def _optimizer(config: EvolutionConfig) -> optax.GradientTransformation:
    rate = optax.cosine_decay_schedule(config.learning_rate, config.generations, alpha=0.1)
    return optax.adam(rate)


def evolve(
    config: EvolutionConfig,
    *,
    sources: Sequence[Source] | None = None,
    state: EvolutionState | None = None,
    on_generation: Callable[[GenerationRecord, EvolutionState], bool | None] | None = None,
) -> tuple[General, EvolutionState]:
    """Trains a `General` policy from the answers of the rule.

    Args:
      config: the settings.
      sources: where problems come from; by default the families of `config`.
      state: where to go on, from an earlier call with the same settings.
      on_generation: called after each move; where it returns True, training ends.

    Returns:
      The policy and the state, from which training goes on to the bit.
    """
    weights, unravel = _initial(config)
    state = begin(config) if state is None else state
    optimizer = _optimizer(config)

    def population(weights: Array, noise: Array) -> General:
        """The weights plus and minus noise, as they are, and 0, along a leading axis."""
        moved = jnp.concatenate([config.sigma * noise, -config.sigma * noise])
        lanes = jnp.concatenate(
            [weights[None] + moved, weights[None], jnp.zeros_like(weights)[None]]
        )
        num = lanes.shape[0]
        bases = jax.tree.map(lambda x: jnp.broadcast_to(jnp.asarray(x, float), (num,)), Rule())
        return General(params=jax.vmap(unravel)(lanes), base=bases)

    if sources is None:
        families = (FAMILIES[name] for name in config.families or FAMILIES)
        sources = [of_family(family, config.tasks_per_family) for family in families]
    names = [source.name for source in sources]
    draws = {source.name: source.draw for source in sources}

    def compile_source(source: Source, memory_size: int | None) -> Callable[..., Array]:
        losses = losses_on(source.loss, num_evals=config.num_evals, memory_size=memory_size)
        return jax.jit(lambda weights, noise, *tasks: losses(population(weights, noise), *tasks))

    compiled = {
        source.name: compile_source(source, memory_size)
        for source, memory_size in zip(sources, itertools.cycle(config.memory_sizes), strict=False)
    }

    # Families are small programs of one thread each, which run beside each other.
    with concurrent.futures.ThreadPoolExecutor(_num_cores()) as pool:
        while state.generation < config.generations:
            g = state.generation
            rng = np.random.default_rng((config.seed, g))
            count = min(config.families_per_generation, len(names))
            chosen = [str(name) for name in rng.permutation(names)[:count]]
            noise = jnp.asarray(rng.normal(size=(config.num_pairs, weights.size)))

            def losses_of(
                name: str, g: int = g, noise: Array = noise, at: Array = state.weights
            ) -> np.ndarray:
                tasks = draws[name](config.seed, g * len(names) + names.index(name))
                return np.asarray(compiled[name](at, noise, *tasks))

            losses = np.stack(list(pool.map(losses_of, chosen)))  # families, tasks, lanes
            p = config.num_pairs
            differences = losses[..., :p] - losses[..., p : 2 * p]
            signs = differences / (np.abs(differences) + SOFTNESS)
            gradient = jnp.asarray(np.mean(signs, axis=(0, 1))) @ noise / p
            updates, opt_state = optimizer.update(gradient, state.opt_state, state.weights)
            state = EvolutionState(g + 1, state.weights + jnp.asarray(updates), opt_state)
            if on_generation is not None:
                ours, base_losses = losses[..., -2], losses[..., -1]
                wins = (ours < base_losses) + 0.5 * (ours == base_losses)
                record = GenerationRecord(
                    g,
                    chosen,
                    [float(x) for x in ours.mean(1)],
                    [float(x) for x in base_losses.mean(1)],
                    float(wins.mean()),
                )
                if on_generation(record, state):
                    break
    return policy_of(config, state), state


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
