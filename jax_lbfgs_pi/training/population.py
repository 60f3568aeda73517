"""Evolution strategies: how good policies are on random problems, and which way is better.

Every policy of a population is one lane of a `vmap`, on the same problems; a loss compares what
the lanes reached within log-spaced budgets of evaluations.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jax_lbfgs_pi.acceptance import Guard
from jax_lbfgs_pi.policy import StepPolicy
from jax_lbfgs_pi.suite.families.base import Family
from jax_lbfgs_pi.tasks.base import TaskSet
from jax_lbfgs_pi.transform import DEFAULT_GUARD, MemorySize, lbfgs_pi

LEAST_GAP = 1e-9
"""Relative gaps to the best f are not told apart below this."""


def best_values(
    policy: StepPolicy,
    fun: Callable[[Any], Array],
    x0: Any,
    num_evals: int,
    *,
    memory_size: MemorySize,
    with_value: bool = True,
    guard: Guard = DEFAULT_GUARD,
    **lengths: Any,
) -> Float[Array, " k"]:
    """The least finite f after 1, ..., `num_evals` evaluations; infinity where there is none.

    `lengths` are `lbfgs_pi`'s `first_step` and `max_step`.
    """
    tx = lbfgs_pi(policy, memory_size=memory_size, guard=guard, **lengths)
    evaluate = jax.value_and_grad(fun)

    def step(carry: tuple[Any, Any, Array], _: None) -> tuple[tuple[Any, Any, Array], Array]:
        x, state, best = carry
        value, grads = evaluate(x)
        extra = {"value": value} if with_value else {}
        updates, state = tx.update(grads, state, x, **extra)
        best = jnp.where(jnp.isfinite(value), jnp.minimum(best, value), best)
        return (optax.apply_updates(x, updates), state, best), best

    best = jnp.full((), jnp.inf, jnp.result_type(float))
    return jax.lax.scan(step, (x0, tx.init(x0), best), length=num_evals)[1]


def log_gaps(
    curves: Float[Array, "lanes k"], floor: Float[Array, ""] | float = jnp.inf
) -> Float[Array, "lanes k"]:
    """log₁₀ of (f - f*) / (f₀ - f*), f* the least value of all lanes or `floor`, whichever is less.

    Clipped to [`LEAST_GAP`, 1]; 0 where f₀ is the least.
    """
    start, least = curves[0, 0], jnp.minimum(jnp.min(curves), floor)
    room = start - least
    gaps = jnp.where(room > 0, (curves - least) / jnp.where(room > 0, room, 1.0), 1.0)
    return jnp.log10(jnp.clip(jnp.nan_to_num(gaps, nan=1.0, posinf=1.0), LEAST_GAP, 1.0))


def log_budgets(num_evals: int, num_budgets: int = 20, first: int = 3) -> np.ndarray:
    """Indices of log-spaced budgets in a curve of `num_evals` values."""
    spaced = np.geomspace(first, num_evals, num_budgets)
    return np.unique(np.round(spaced).astype(int)) - 1


QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""For programs that compile for longer than they run."""


class Source(NamedTuple):
    """Where the problems of a training come from, all of one shape.

    Attributes:
      name: for logs.
      draw: of `(seed, number)` to `(x0, data)` of several problems along a leading axis, the same
        for the same.
      loss: the objective, `(x, data) -> f`.
    """

    name: str
    draw: Callable[[int, int], tuple[Any, Any]]
    loss: Callable[[Any, Any], Array]


def of_family(family: Family, num_tasks: int) -> Source:
    """Problems of a family, `num_tasks` at a draw."""

    def sample(keys: Any) -> Any:
        return jax.vmap(family.sample)(keys)

    compiled = jax.jit(sample, compiler_options=QUICK)

    def draw(seed: int, number: int) -> Any:
        # Programs of this generator compile in a third of the time of the default's.
        key = jax.random.fold_in(jax.random.key(seed, impl="unsafe_rbg"), number)
        return compiled(jax.random.split(key, num_tasks))

    return Source(family.name, draw, family.loss)


def of_tasks(tasks: TaskSet, num_tasks: int) -> Source:
    """Tasks of a set, `num_tasks` at a draw, none twice in one if there are enough."""
    data, x0 = jax.tree.map(np.asarray, tasks.stack(range(len(tasks))))

    def draw(seed: int, number: int) -> Any:
        rng = np.random.default_rng((seed, number))
        rows = rng.choice(len(tasks), size=num_tasks, replace=len(tasks) < num_tasks)
        return jax.tree.map(lambda leaf: leaf[rows], (x0, data))

    return Source(tasks.name, draw, tasks.task.loss)


def losses_on(
    loss: Callable[[Any, Any], Array], *, num_evals: int, memory_size: MemorySize
) -> Callable[[Any, Any, Any], Float[Array, "tasks lanes"]]:
    """The loss of each policy of a population on problems of one objective.

    The loss is the mean over log-spaced budgets of log₁₀ of the relative gap.

    Returns:
      A function of `(policies, x0, data)`: `policies` a pytree with a leading axis of lanes, the
      others with one of tasks.
    """
    budgets = log_budgets(num_evals)

    def one_task(policies: Any, x0: Any, data: Any) -> Float[Array, " lanes"]:
        def curve(policy: StepPolicy) -> Array:
            return best_values(
                policy, lambda x: loss(x, data), x0, num_evals, memory_size=memory_size
            )

        return jnp.mean(log_gaps(jax.vmap(curve)(policies))[:, budgets], axis=1)

    return jax.vmap(one_task, (None, 0, 0))
