"""L-BFGS-π as optax gradient transformations."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from jax_lbfgs_pi import trees
from jax_lbfgs_pi.history import check_memory_size, init_history
from jax_lbfgs_pi.policy import InnerProducts
from jax_lbfgs_pi.pretrained import default_policy
from jax_lbfgs_pi.step import ScaleByLBFGSPiState, propose, take
from jax_lbfgs_pi.trees import Params

StepPolicy = Callable[[InnerProducts], Float[Array, ""]]
"""What serves as a policy: a `Policy`, or any function of `InnerProducts` to a step size."""


def scale_by_lbfgs_pi(
    policy: StepPolicy | None = None,
    *,
    memory_size: int = 5,
    guard: float | None = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """Scales a gradient g to t H g: L-BFGS's H, and a step size t = π(d, g, s, y; θ) (paper §3-4).

    One gradient per step, no line search, no control flow. The step `s` is read from the parameters
    themselves, so whatever follows in a chain may change the update.

    The guard: where the gradient or `value` is not finite, or f rose by more than `guard` times the
    decrease that the last gradient predicted, `|g_{k-1}ᵀs|`, the update goes back nine tenths of
    the last step, learns nothing from it, and gives up the oldest pair. There is nothing to take
    back at the first update: a gradient that is not finite there spoils all. The test is free of
    the scales of f and x, but for rises of some ten rounding errors of f, which are tolerated. Pass
    `value` if you have it: without, the rise is taken as `½(g_{k-1} + g_k)ᵀs`, exact on quadratics
    but too low behind a gradient clip, so none is tolerated, which costs some percent more steps.

    Args:
      policy: a `Policy`, or any function from `InnerProducts` to a scalar; None is the best shipped
        one, at present `unit`, the constant t = 1.
      memory_size: m, the number of curvature pairs kept.
      guard: the greatest tolerated rise of f, in predicted decreases; infinity guards against
        non-finite numbers alone, None against nothing (the paper's algorithm).

    Returns:
      An optax transformation whose `update(grads, state, params, *, value=None)` needs `params` and
      never needs `value`.

    Raises:
      ValueError: for `memory_size < 1` or a negative `guard`; from `update` if `params` is None, or
        if gradients and parameters differ in structure or shape.
      TypeError: from `init`, for integer or complex parameters.
    """
    check_memory_size(memory_size)
    if guard is not None and not guard >= 0:
        raise ValueError(f"guard must be None or at least 0, but got {guard!r}.")
    step_policy = default_policy if policy is None else policy

    def init(params: Params) -> ScaleByLBFGSPiState:
        history = init_history(params, memory_size)
        dtype = history.products.sy.dtype
        return ScaleByLBFGSPiState(
            count=jnp.zeros((), jnp.int32),
            num_retreats=jnp.zeros((), jnp.int32),
            prev_params=jax.tree.map(trees.zeros_like, params),
            prev_grads=jax.tree.map(trees.zeros_like, params),
            prev_value=jnp.full((), jnp.inf, dtype),
            history=history,
            history_grads=jnp.zeros((2, memory_size), dtype),
            step_size=jnp.zeros((), dtype),
            grad_norm=jnp.zeros((), dtype),
        )

    def update(
        updates: Params,
        state: Any,
        params: Params | None = None,
        *,
        value: Any = None,
        **extra_args: Any,
    ) -> tuple[Params, ScaleByLBFGSPiState]:
        del extra_args
        if params is None:
            raise ValueError(
                "lbfgs_pi reads its last step from the parameters: call "
                "update(grads, state, params) with the current params."
            )
        trees.check_same_structure(updates, params, names=("grads", "params"))
        trees.check_same_structure(state.prev_params, params, names=("state", "params"))
        proposal = propose(updates, state, params, value, guard)
        step_size = jnp.asarray(step_policy(proposal.products), state.history_grads.dtype)
        return take(proposal, step_size)

    return optax.GradientTransformationExtraArgs(init, update)


def lbfgs_pi(
    policy: StepPolicy | None = None,
    *,
    memory_size: int = 5,
    guard: float | None = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """L-BFGS with a learned step-size policy: `scale_by_lbfgs_pi`, and a change of sign.

    Args and errors are those of `scale_by_lbfgs_pi`.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> import jax_lbfgs_pi as lp
      >>> f = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> tx = lp.lbfgs_pi()
      >>> x = jnp.zeros(2)
      >>> state = tx.init(x)
      >>> for _ in range(20):
      ...     updates, state = tx.update(jax.grad(f)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> bool(jnp.allclose(x, 3.0, atol=1e-3))
      True
    """
    scale = scale_by_lbfgs_pi(policy, memory_size=memory_size, guard=guard)
    return optax.chain(scale, optax.scale(-1.0))
