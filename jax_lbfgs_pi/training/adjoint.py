"""The θ-gradient of an unroll whose inner gradients count as constants (SPEC §4).

Backpropagation through a scan would keep the whole history of each step, 2m + 5 vectors. Here the
way forward keeps two, the iterate and its gradient, and the way back makes the history from them: a
ring buffer is undone by writing the pair that stood there before. Nothing evaluates the task again.

The policy takes no part in the way back. Its Jacobians at all K steps are found in one batch
between the two, which matters most where a solver computes them (clip layer `cvx`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_lbfgs_pi import linalg, trees
from jax_lbfgs_pi.history import History, Products
from jax_lbfgs_pi.policy import FromProducts, Policy, StepPolicy, log_features
from jax_lbfgs_pi.state import ScaleByLBFGSPiState
from jax_lbfgs_pi.step import Proposal, propose, take
from jax_lbfgs_pi.trees import Params
from jax_lbfgs_pi.unroll import InnerState, Objective, UnrollTrajectory


class _Step(NamedTuple):
    """What is kept of a step; stacked over k = 0, ..., K - 1.

    Attributes:
      params: x_k.
      grads: g_k.
      small: the optimizer's state before the step, without the vectors.
      features: what the policy read.
      tau: the log-step it returned.
    """

    params: Params
    grads: Params
    small: ScaleByLBFGSPiState
    features: Float[Array, "16"]
    tau: Float[Array, ""]


def unroll_and_grad(
    policy: Policy,
    fun: Objective,
    inner: InnerState,
    num_steps: int,
    loss: Callable[[Float[Array, " K"]], Float[Array, ""]],
) -> tuple[Float[Array, ""], InnerState, UnrollTrajectory, Any]:
    """Unrolls L-BFGS-π without guard, and differentiates a loss of the values with respect to θ.

    Args:
      policy: the policy; its clip layer decides how the clip is differentiated.
      fun: the objective, from parameters to a scalar.
      inner: where to start; its optimizer state is that of `lbfgs_pi(guard=None)`.
      num_steps: K, static.
      loss: from f(x_1), ..., f(x_K) to a scalar.

    Returns:
      The loss, the state at x_K, the trajectory, and the gradient, a pytree like `policy.params`.
    """
    deployed = policy.with_clip_layer("clip").network
    start, *rest_of_chain = inner.opt_state
    inner = inner._replace(opt_state=start)
    evaluate = jax.value_and_grad(fun)
    paper = FromProducts(policy)

    def forward(state: InnerState, _: None) -> tuple[InnerState, tuple[_Step, UnrollTrajectory]]:
        proposal = propose(paper, state.grads, state.opt_state, state.params, state.value)
        features = log_features(proposal.products)
        tau: Any = deployed.apply(policy.params, features)
        params, opt_state = _move(state.params, proposal, tau)
        value, grads = evaluate(params)
        step = _Step(state.params, state.grads, _without_vectors(state.opt_state), features, tau)
        seen = UnrollTrajectory(value, linalg.norm(grads), opt_state.step_size)
        return InnerState(params, value, grads, opt_state), (step, seen)

    end, (steps, trajectory) = jax.lax.scan(forward, inner, length=num_steps)
    value, d_loss = jax.value_and_grad(loss)(trajectory.value)
    by_theta, by_features = jax.vmap(jax.grad(policy.network.apply, (0, 1)), (None, 0))(
        policy.params, steps.features
    )
    d_tau = _backward(paper, inner, end, steps, by_features, d_loss)
    grads = jax.tree.map(lambda leaf: jnp.tensordot(d_tau, leaf, 1), by_theta)
    end = end._replace(opt_state=(end.opt_state, *rest_of_chain))
    return value, end, trajectory, grads


def _move(
    params: Params, proposal: Proposal, tau: Float[Array, ""]
) -> tuple[Params, ScaleByLBFGSPiState]:
    updates, opt_state = take(proposal, jnp.exp(tau))
    return trees.subtract(params, updates), opt_state


def _without_vectors(state: ScaleByLBFGSPiState) -> ScaleByLBFGSPiState:
    history = state.history._replace(s=(), y=())
    return state._replace(prev_params=(), prev_grads=(), history=history)


class _HandedOn(NamedTuple):
    """What a step hands on to the next and θ acts on; also the loss's derivatives by these."""

    params: Params
    prev_params: Params
    s: Params
    products: Products
    history_grads: Float[Array, "2 m"]


def _handed_on(params: Params, state: ScaleByLBFGSPiState) -> _HandedOn:
    history = state.history
    return _HandedOn(params, state.prev_params, history.s, history.products, state.history_grads)


def _backward(
    paper: StepPolicy,
    inner: InnerState,
    end: InnerState,
    steps: _Step,
    by_features: Float[Array, "K 16"],
    d_loss: Float[Array, " K"],
) -> Float[Array, " K"]:
    """The derivative of the loss with respect to each log-step."""
    start: ScaleByLBFGSPiState = inner.opt_state
    num_steps = d_loss.shape[0]
    m = start.history_grads.shape[1]

    def at(stack: Params, k: Array) -> Params:
        return jax.tree.map(lambda leaf: leaf[k], stack)

    def before(stack: Params, first: Params, k: Array) -> Params:
        """What stood before step k: row k - 1, and `first` before step 0."""
        return trees.where(k == 0, first, at(stack, jnp.maximum(k - 1, 0)))

    def undo(rows: Params, slot: Array, first_rows: Params, xs: Params, first: Params, k: Array):
        """Writes the row that step k overwrote: that of step k - m, or one of `first_rows`."""
        j = jnp.maximum(k - m, 0)
        written = trees.subtract(at(xs, j), before(xs, first, j))
        row = trees.where(k < m, at(first_rows, slot), written)
        return jax.tree.map(
            lambda stack, new: jax.lax.dynamic_update_index_in_dim(stack, new, slot, 0), rows, row
        )

    def step(
        carry: tuple[Params, Params, _HandedOn, Params], k: Array
    ) -> tuple[tuple[Params, Params, _HandedOn, Params], Array]:
        s_rows, y_rows, cotangents, next_grads = carry
        params, grads, small, features, tau = at(steps, k)
        prev_params = before(steps.params, start.prev_params, k)
        prev_grads = before(steps.grads, start.prev_grads, k)

        def again(
            params: Params,
            prev_params: Params,
            s_rows: Params,
            products: Products,
            history_grads: Array,
            tau: Array,
        ) -> _HandedOn:
            history = History(s_rows, y_rows, products, small.history.head)
            state = small._replace(
                prev_params=prev_params,
                prev_grads=prev_grads,
                history=history,
                history_grads=history_grads,
            )
            proposal = propose(paper, grads, state, params)
            seen = log_features(proposal.products)
            new_params, new = _move(
                params, proposal, tau + jnp.sum(by_features[k] * (seen - features))
            )
            return _handed_on(new_params, new)

        _, vjp = jax.vjp(
            again, params, prev_params, s_rows, small.history.products, small.history_grads, tau
        )
        # f(x_{k+1}) has its own say in x_{k+1}.
        direct = jax.tree.map(
            lambda c, g: c + (d_loss[k] * g).astype(c.dtype), cotangents.params, next_grads
        )
        *earlier, d_tau = vjp(cotangents._replace(params=direct))
        slot = small.history.head
        old = start.history
        s_rows = undo(s_rows, slot, old.s, steps.params, start.prev_params, k)
        y_rows = undo(y_rows, slot, old.y, steps.grads, start.prev_grads, k)
        return (s_rows, y_rows, _HandedOn(*earlier), grads), d_tau

    last: ScaleByLBFGSPiState = end.opt_state
    zeros = trees.zeros(_handed_on(end.params, last))
    carry = (last.history.s, last.history.y, zeros, end.grads)
    _, d_tau = jax.lax.scan(step, carry, jnp.arange(num_steps), reverse=True)
    return d_tau
