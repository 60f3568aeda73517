"""Training of a learned residual by evolution strategies, on problems drawn without end.

Antithetic pairs of perturbed weights take part as lanes of one `vmap`, on the same problems, beside
the weights as they are and the policy that is to be improved on. On each problem the difference of
a pair counts by its sign, nearly, so that no problem is heard above the others.
"""

import concurrent.futures
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
from jax_lbfgs_pi.training.evolution_config import EvolutionConfig
from jax_lbfgs_pi.training.population import Source, losses_on, of_family
from jax_lbfgs_pi.transform import MemorySize

SOFTNESS = 0.05
"""Differences of the loss, in decades, from this size on count nearly by their sign."""


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
    """The state before the first generation, with the weights of `start` if there is one.

    Raises:
      ValueError: if `start` answers something else than what is trained.
    """
    weights, _ = _initial(config)
    if start is not None:
        if start.answers != config.answers:
            raise ValueError(
                f"The policy to begin with answers {', '.join(start.answers)}, but this training "
                f"is of one that answers {', '.join(config.answers)}: begin with such a one."
            )
        weights, _ = ravel_pytree(jax.tree.map(jnp.asarray, start.params))
    return EvolutionState(0, weights, _optimizer(config).init(weights))


def policy_of(config: EvolutionConfig, state: EvolutionState) -> General:
    """The policy that a training has come to."""
    _, unravel = _initial(config)
    params = jax.tree.map(np.asarray, unravel(state.weights))
    return General(params=params, base=Rule(), answers=config.answers)


def _initial(config: EvolutionConfig) -> tuple[Array, Callable[[Array], Any]]:
    """The raveled weights of an untrained policy, and what makes its parameters of them."""
    policy = init_general(jax.random.key(config.seed), Rule(), config.answers)
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
        return General(params=jax.vmap(unravel)(lanes), base=bases, answers=config.answers)

    if sources is None:
        sources = [of_family(f, config.tasks_per_family) for f in config.chosen_families()]
    names = [source.name for source in sources]
    draws = {source.name: source.draw for source in sources}

    def compile_source(source: Source, memory_size: MemorySize) -> Callable[..., Array]:
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
