"""The competitors, as optax optimizers: the paper's four, tuned as it tuned them, and today's."""

import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp
import optax

from jax_lbfgs_pi.acceptance import Guard
from jax_lbfgs_pi.policy import AnyPolicy, General
from jax_lbfgs_pi.pretrained import as_policy
from jax_lbfgs_pi.transform import MemorySize, lbfgs_pi


@dataclasses.dataclass(frozen=True)
class Competitor:
    """An optimizer under a name.

    Attributes:
      name: for tables and figures.
      make: makes the optax optimizer.
      retreats: whether it recovers by itself from a step into non-finite numbers.
    """

    name: str
    make: Callable[[], optax.GradientTransformation]
    retreats: bool = False


@dataclasses.dataclass(frozen=True)
class ScipyCompetitor(Competitor):
    """SciPy's L-BFGS-B, which runs outside JAX; `make` is not used.

    Attributes:
      memory_size: `maxcor`.
    """

    name: str = "SciPy"
    make: Callable[[], optax.GradientTransformation] = optax.identity
    memory_size: int = 5


def adam(learning_rate: float = 0.03) -> optax.GradientTransformation:
    """ADAM with the paper's learning rate."""
    return optax.adam(learning_rate)


def rmsprop(learning_rate: float = 0.01) -> optax.GradientTransformation:
    """RMSProp in PyTorch's form (decay 0.99, ε outside the root), at the paper's learning rate."""
    return optax.rmsprop(learning_rate, decay=0.99, eps=1e-8, eps_in_sqrt=False)


def lbfgs_constant(
    step_size: float = 1.0, *, memory_size: int = 5
) -> optax.GradientTransformationExtraArgs:
    """L-BFGS-B, the paper's baseline: L-BFGS with a constant step size, on our direction code."""
    # Not `constant_policy`, whose network would be computed.
    return lbfgs_pi(lambda _: jnp.asarray(step_size), memory_size=memory_size, guard=None)


def lbfgs_backtracking(
    *, c1: float = 0.25, c2: float = 0.5, max_halvings: int = 40, memory_size: int = 5
) -> optax.GradientTransformationExtraArgs:
    """L-BFGS-BTLS: our direction code, and optax's backtracking from t = 1.

    Each trial costs an evaluation of f; the accepted one yields the gradient too, which the next
    step reads with `optax.value_and_grad_from_state`.

    Args:
      c1: share of the predicted decrease that a step must achieve.
      c2: factor by which t shrinks.
      max_halvings: how often it may.
      memory_size: m.
    """
    return optax.chain(
        lbfgs_constant(memory_size=memory_size),
        optax.scale_by_backtracking_linesearch(
            max_backtracking_steps=max_halvings,
            slope_rtol=c1,
            decrease_factor=c2,
            increase_factor=math.inf,  # start from max_learning_rate = 1 every time
            store_grad=True,
        ),
    )


def pairs_for(policy: AnyPolicy, memory_size: MemorySize) -> MemorySize:
    """`memory_size`, or None, which leaves it to the policy, where that is for a dense H."""
    chosen = as_policy(policy)
    return None if isinstance(chosen, General) and chosen.is_for_a_dense_h else memory_size


def policy_competitor(
    name: str, policy: AnyPolicy, *, memory_size: int = 5, guard: Guard | None = None
) -> Competitor:
    """L-BFGS-π with a policy; without the guard by default, as in the paper."""
    memory = pairs_for(policy, memory_size)
    return Competitor(
        name,
        lambda: lbfgs_pi(policy, memory_size=memory, guard=guard),
        retreats=guard is not None,
    )


def baselines(memory_size: int = 5) -> dict[str, Competitor]:
    """By name: the paper's four, `optax.lbfgs` with its zoom line search, Prodigy and SciPy.

    All that keep pairs keep `memory_size` of them; the paper has 5.
    """
    m = memory_size
    competitors = (
        Competitor("ADAM", adam),
        Competitor("RMSProp", rmsprop),
        Competitor("L-BFGS-B", lambda: lbfgs_constant(memory_size=m)),
        Competitor("L-BFGS-BTLS", lambda: lbfgs_backtracking(memory_size=m)),
        Competitor("optax.lbfgs", lambda: optax.lbfgs(memory_size=m)),
        Competitor("Prodigy", optax.contrib.prodigy),
        ScipyCompetitor(memory_size=m),
    )
    return {competitor.name: competitor for competitor in competitors}
