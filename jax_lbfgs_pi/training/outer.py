"""One outer step: unroll, backpropagate, move θ (paper §5)."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from jax_lbfgs_pi import trees
from jax_lbfgs_pi.policy import AnyPolicy, Policy, StepSizePolicy
from jax_lbfgs_pi.tasks.base import Task
from jax_lbfgs_pi.training.adjoint import unroll_and_grad
from jax_lbfgs_pi.training.config import LOSSES, OPTIMIZERS, MetaTrainConfig
from jax_lbfgs_pi.transform import lbfgs_pi
from jax_lbfgs_pi.unroll import InnerState, UnrollTrajectory, init_inner, unroll


class OuterState(NamedTuple):
    """θ, and the state of the outer optimizer.

    Attributes:
      theta: the policy network's variables.
      opt_state: its optimizer's.
    """

    theta: Any
    opt_state: Any


class OuterInfo(NamedTuple):
    """What one outer step saw, for each of its B tasks; each of shape `(B,)`.

    Attributes:
      loss: the loss over the unroll.
      last_value: f(x_K).
      grad_norm: the gradient norm at x_K.
      counted: whether the task's unroll was fit to move θ: loss and θ-gradient finite, and not
        diverged (`MetaTrainConfig.divergence_factor`).
    """

    loss: Float[Array, " B"]
    last_value: Float[Array, " B"]
    grad_norm: Float[Array, " B"]
    counted: Bool[Array, " B"]


class OuterStep(NamedTuple):
    """The compiled parts of meta-training, for tasks of one shape.

    Attributes:
      init: `theta -> OuterState`.
      start: `(data, x0) -> InnerState`, over a leading axis of B tasks.
      step: `(OuterState, InnerState, data, alive, start_value) -> (OuterState, InnerState,
        OuterInfo)`; tasks that are not `alive` have no say in θ; `start_value` is f(x0) of each.
    """

    init: Callable[..., OuterState]
    start: Callable[..., InnerState]
    step: Callable[..., tuple[OuterState, InnerState, OuterInfo]]


def outer_loss_and_grad(
    theta: Any,
    inner: InnerState,
    data: Any,
    *,
    network: StepSizePolicy,
    task: Task,
    config: MetaTrainConfig,
) -> tuple[Float[Array, ""], InnerState, UnrollTrajectory, Any]:
    """The loss of one unroll on one task, and its θ-gradient.

    Returns:
      The loss, the state at x_K, the trajectory to it, and the gradient, a pytree like `theta`.
    """
    objective, loss = partial(_objective, task, data), LOSSES[config.loss]
    policy = Policy(theta, network)
    if not config.keep_memory:
        inner = inner._replace(opt_state=_optimizer(policy, config).init(inner.params))
    if config.freeze_grads:
        return unroll_and_grad(policy, objective, inner, config.unroll_length, loss)

    def loss_of(theta: Any) -> tuple[Array, tuple[InnerState, UnrollTrajectory]]:
        tx = _optimizer(Policy(theta, network), config)
        end, trajectory = unroll(
            tx, objective, inner, config.unroll_length, freeze_grads=False, remat=config.remat
        )
        return loss(trajectory.value), (end, trajectory)

    (value, (end, trajectory)), grads = jax.value_and_grad(loss_of, has_aux=True)(theta)
    return value, end, trajectory, grads


def _optimizer(policy: AnyPolicy, config: MetaTrainConfig) -> optax.GradientTransformation:
    # The guard is a deployment matter: its selects would only slow the backward pass down.
    return lbfgs_pi(policy, memory_size=config.memory_size, guard=None)


def _clip_by_norm(grads: Any, limit: float) -> Any:
    clipped, _ = optax.clip_by_global_norm(limit).update(grads, optax.EmptyState())
    return clipped


def _objective(task: Task, data: Any, params: trees.Params) -> Array:
    return task.loss(params, data)


def make_outer_step(task: Task, network: StepSizePolicy, config: MetaTrainConfig) -> OuterStep:
    """Compiles the parts of meta-training for one task and one policy architecture."""
    optimizer = OPTIMIZERS[config.optimizer](config.learning_rate)
    loss_and_grad = partial(outer_loss_and_grad, network=network, task=task, config=config)

    def over_tasks(fun: Callable[..., Any], in_axes: Any) -> Callable[..., Any]:
        if config.tasks_per_step > 1:
            return jax.vmap(fun, in_axes)

        # One task at a time: a batch axis of length one would only slow down its matmuls.
        def single(*args: Any) -> Any:
            axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
            pairs = zip(args, axes, strict=True)
            squeezed = [
                a if ax is None else jax.tree.map(lambda leaf: leaf[0], a) for a, ax in pairs
            ]
            return jax.tree.map(lambda leaf: leaf[None], fun(*squeezed))

        return single

    def init(theta: Any) -> OuterState:
        return OuterState(theta, optimizer.init(theta))

    def start(data: Any, x0: trees.Params) -> InnerState:
        # The policy plays no part before the first step.
        tx = _optimizer(lambda products: products.gg, config)
        return over_tasks(lambda d, x: init_inner(tx, partial(_objective, task, d), x), 0)(data, x0)

    def step(
        outer: OuterState,
        inner: InnerState,
        data: Any,
        alive: Bool[Array, " B"],
        start_value: Float[Array, " B"],
    ) -> tuple[OuterState, InnerState, OuterInfo]:
        loss, end, trajectory, grads = over_tasks(loss_and_grad, (None, 0, 0))(
            outer.theta, inner, data
        )
        # The squares too must be finite: the optimizer of θ keeps a running mean of them, which an
        # infinity would never leave.
        squares = jax.vmap(lambda g: optax.tree.norm(g, squared=True))(grads)
        mean_value = jnp.mean(trajectory.value, axis=1)
        diverged = mean_value > config.divergence_factor * jnp.abs(start_value)
        counted = jnp.isfinite(loss) & jnp.isfinite(squares) & ~diverged
        weights = (counted & alive).astype(loss.dtype)
        total = jnp.sum(weights)

        def mean(leaf: Array) -> Array:
            mask = weights.reshape(-1, *(1,) * (leaf.ndim - 1))
            return jnp.sum(jnp.where(mask > 0, leaf, 0.0), axis=0) / jnp.maximum(total, 1.0)

        if math.isfinite(config.max_grad_norm):
            grads = jax.vmap(lambda g: _clip_by_norm(g, config.max_grad_norm))(grads)
        updates, opt_state = optimizer.update(
            jax.tree.map(mean, grads), outer.opt_state, outer.theta
        )
        moved = OuterState(optax.apply_updates(outer.theta, updates), opt_state)
        info = OuterInfo(loss, trajectory.value[:, -1], trajectory.grad_norm[:, -1], counted)
        return trees.where(total > 0, moved, outer), end, info

    return OuterStep(init, jax.jit(start), jax.jit(step))
