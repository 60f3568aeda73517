"""K inner steps as one `lax.scan`: state in, state and trajectory out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax
from jaxtyping import Array, Float

from jax_lbfgs_pi import linalg, trees
from jax_lbfgs_pi.trees import Params

Objective = Callable[[Params], Float[Array, ""]]


class InnerState(NamedTuple):
    """Where an inner optimization stands.

    Attributes:
      params: x_k, a pytree.
      value: f(x_k), a scalar.
      grads: the gradient of f at x_k, a pytree like `params`.
      opt_state: the optax transformation's state.
    """

    params: Params
    value: Float[Array, ""]
    grads: Params
    opt_state: Any


class UnrollTrajectory(NamedTuple):
    """What happened in K steps; each of shape `(K,)`.

    Attributes:
      value: f(x_1), ..., f(x_K).
      grad_norm: the gradient norms at x_1, ..., x_K.
      step_size: t_0, ..., t_{K-1}; NaN for optimizers that report none.
    """

    value: Float[Array, " K"]
    grad_norm: Float[Array, " K"]
    step_size: Float[Array, " K"]


@jax.custom_jvp
def _value_of(value: Array, grads: Params, params: Params) -> Array:
    """`value`, with the derivative `grads` with respect to `params`, and no other."""
    del grads, params
    return value


@_value_of.defjvp
def _value_of_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    value, grads, _ = primals
    return value, linalg.vdot(grads, tangents[2]).astype(value.dtype)


def frozen_value_and_grad(fun: Objective) -> Callable[[Params], tuple[Array, Params]]:
    """`jax.value_and_grad(fun)` whose gradient is an external input (SPEC §4).

    The value still sends the gradient to the parameters, as `stop(f) + stop(g)ᵀ(x - stop(x))` does,
    so backpropagation through an unroll makes no second pass through `fun`; the gradient itself is
    a constant.
    """
    evaluate = jax.value_and_grad(fun)

    def value_and_grad(params: Params) -> tuple[Array, Params]:
        value, grads = jax.lax.stop_gradient(evaluate(jax.lax.stop_gradient(params)))
        return _value_of(value, grads, params), grads

    return value_and_grad


def init_inner(tx: optax.GradientTransformation, fun: Objective, params: Params) -> InnerState:
    """The state before the first step: one evaluation of `fun`, and an empty memory."""
    value, grads = jax.value_and_grad(fun)(params)
    return InnerState(params, value, grads, tx.init(params))


def step_size_of(opt_state: Any) -> Array:
    """The step size of the last update if the optimizer reports one as `step_size`, else NaN."""
    # optax's line searches call it `learning_rate`; the policy beneath one has another.
    searches = optax.tree.get_all_with_path(opt_state, "num_linesearch_steps")
    name = "learning_rate" if searches else "step_size"
    found = optax.tree.get_all_with_path(opt_state, name)
    return found[0][1] if found else jax.numpy.full((), jax.numpy.nan)


def unroll(
    tx: optax.GradientTransformation,
    fun: Objective,
    state: InnerState,
    num_steps: int,
    *,
    freeze_grads: bool = True,
    remat: bool = False,
) -> tuple[InnerState, UnrollTrajectory]:
    """Takes `num_steps` steps of `tx` on `fun`, one evaluation each.

    Differentiable with respect to everything that `tx` closes over, a policy above all.

    Args:
      tx: the inner optimizer; needs no line search.
      fun: the objective, from parameters to a scalar.
      state: from `init_inner`, or from an earlier unroll.
      num_steps: K, static.
      freeze_grads: whether the inner gradients count as constants (`frozen_value_and_grad`), as in
        the paper; else backpropagation goes through them too, at the cost of a Hessian-vector
        product for each step.
      remat: whether a step is computed anew in the backward pass (`jax.checkpoint`), which then
        stores the state before each step and nothing from within.

    Returns:
      The state after the last step, and the trajectory.

    Raises:
      TypeError: if `state` is no `InnerState`.
      ValueError: if `num_steps` is no integer of at least 0.
    """
    num_steps = trees.as_count("num_steps", num_steps, least=0)
    if not isinstance(state, InnerState):
        raise TypeError(
            f"unroll goes on from init_inner(tx, fun, params), but got a {type(state).__name__}."
        )
    tx = optax.with_extra_args_support(tx)
    evaluate = (frozen_value_and_grad if freeze_grads else jax.value_and_grad)(fun)

    def step(state: InnerState, _: None) -> tuple[InnerState, UnrollTrajectory]:
        updates, opt_state = tx.update(
            state.grads, state.opt_state, state.params, value=state.value
        )
        params = optax.apply_updates(state.params, updates)
        value, grads = evaluate(params)
        grad_norm = linalg.norm(grads)
        trajectory = UnrollTrajectory(value, grad_norm, step_size_of(opt_state))
        return InnerState(params, value, grads, opt_state), trajectory

    # In a scan nothing can be shared between the two passes, so CSE need not be prevented.
    body = jax.checkpoint(step, prevent_cse=False) if remat else step
    return jax.lax.scan(body, state, length=num_steps)
