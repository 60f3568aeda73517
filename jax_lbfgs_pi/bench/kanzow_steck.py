"""Kanzow and Steck's regularised non-monotone L-BFGS, one evaluation for each update.

C. Kanzow, D. Steck: Regularization of limited memory quasi-Newton methods for large-scale nonconvex
minimization, Mathematical Programming Computation 15 (2023) 417-444. A trial point x + d with
`(B + μ I) d = -g` is taken if f falls by a share of what the model predicts, from the largest of
the last 8 values; else μ grows. The constants are those of the authors' own experiments.

One thing differs: their μ and the first B are absolute numbers. Here μ is a multiple of the scale
of B, γ = yᵀy / sᵀy of the newest pair, so that nothing depends on the units of f or, past the first
step, of x; the first B is ‖g‖ I, so that the first trial has length 1/2.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from jax_lbfgs_pi.trees import Params

SUCCESS, HIGH_SUCCESS = 1e-4, 0.9  # c₁, c₂: least ratios of actual to predicted decrease
SHRINK, GROW = 0.5, 4.0  # σ₁, σ₂: factors of μ after high success, and after failure
FIRST_MU, LEAST_MU, MOST_MU = 1.0, 1e-4, 1e15  # of μ / γ
LEAST_PREDICTION = 1e-4  # p_min, in ‖d‖ ‖g‖: else μ grows before anything is evaluated
NUM_RECENT = 8  # the reference is f itself until so many points were accepted
LEAST_COSINE = 1e-8  # of s and y, else the pair is not kept


class KanzowSteckState(NamedTuple):
    """What is known at the last accepted point, and of the trial that was made from there.

    Attributes:
      num_updates, num_accepted: updates, and accepted points, so far.
      params, grads: the accepted point and its gradient, raveled.
      recent: f at the last accepted points, the newest last.
      s, y: the pairs as rows, the newest last, both divided by ‖s‖; zeros where there is none yet.
      gamma: γ, the scale of B.
      mu: μ / γ of the trial.
      predicted: the decrease that the model predicts for the trial.
    """

    num_updates: Int[Array, ""]
    num_accepted: Int[Array, ""]
    params: Float[Array, " n"]
    grads: Float[Array, " n"]
    recent: Float[Array, " 8"]
    s: Float[Array, "m n"]
    y: Float[Array, "m n"]
    gamma: Float[Array, ""]
    mu: Float[Array, ""]
    predicted: Float[Array, ""]


def regularised_direction(
    s: Float[Array, "m n"],
    y: Float[Array, "m n"],
    gamma: Float[Array, ""],
    mu: Float[Array, ""],
    grads: Float[Array, " n"],
) -> Float[Array, " n"]:
    """The solution d of `(B + μγ I) d = -g`, B the L-BFGS matrix of the pairs from γ I."""
    # Byrd, Nocedal and Schnabel's compact form B / γ = I - W N⁻¹ Wᵀ with W = [S Y/γ], and the
    # Woodbury formula; rows of zeros count as no pair.
    y = y / gamma
    none = jnp.diag((jnp.sum(s * s, axis=1) == 0).astype(s.dtype))
    w = jnp.concatenate([s, y])
    gram = w @ w.T
    m = len(s)
    ss, sy = gram[:m, :m], gram[:m, m:]
    lower = jnp.tril(sy, -1)
    middle = jnp.block([[ss + none, lower], [lower.T, -jnp.diag(jnp.diag(sy)) - none]])
    weights = jnp.linalg.solve((1.0 + mu) * middle - gram, w @ grads)
    return -(grads + weights @ w) / (gamma * (1.0 + mu))


def secant_direction(
    s: Float[Array, "m n"],
    y: Float[Array, "m n"],
    gamma: Float[Array, ""],
    mu: Float[Array, ""],
    grads: Float[Array, " n"],
) -> Float[Array, " n"]:
    """-g times the L-BFGS inverse of the pairs (s, y + μγ s) from γ(1 + μ) I: without a solve."""
    y = y + mu * gamma * s
    sy = jnp.sum(s * y, axis=1)
    rho = jnp.where(sy > 0, 1.0 / jnp.where(sy > 0, sy, 1.0), 0.0)
    d, alphas = -grads, []
    for i in reversed(range(len(s))):
        alphas.append(rho[i] * (s[i] @ d))
        d = d - alphas[-1] * y[i]
    d = d / (gamma * (1.0 + mu))
    for i, alpha in enumerate(reversed(alphas)):
        d = d + (alpha - rho[i] * (y[i] @ d)) * s[i]
    return d


def kanzow_steck(
    memory_size: int = 5, *, secant: bool = False
) -> optax.GradientTransformationExtraArgs:
    """Regularised non-monotone L-BFGS as an optax optimizer.

    From a trial that was not good enough, the update leads to a new one from the accepted point.

    Args:
      memory_size: m, the number of pairs.
      secant: whether the pairs are regularised instead of the matrix, which needs no solve.

    Returns:
      An optimizer whose `update(grads, state, params, *, value)` needs `params` and `value`.

    Raises:
      ValueError: for `memory_size < 1`; from `update`, without `params` or `value`.
    """
    if memory_size < 1:
        raise ValueError(f"memory_size must be at least 1, but got {memory_size}.")
    direction = secant_direction if secant else regularised_direction

    def init(params: Params) -> KanzowSteckState:
        x = jnp.zeros_like(ravel_pytree(params)[0])
        zero, none = jnp.zeros((), x.dtype), jnp.zeros((), jnp.int32)
        pairs = jnp.zeros((memory_size, x.size), x.dtype)
        recent = jnp.zeros((NUM_RECENT,), x.dtype)
        return KanzowSteckState(none, none, x, x, recent, pairs, pairs, zero, zero, zero)

    def update(
        updates: Params,
        state: Any,
        params: Params | None = None,
        *,
        value: Any = None,
        **extra: Any,
    ) -> tuple[Params, KanzowSteckState]:
        del extra
        if params is None or value is None:
            call = "update(grads, state, params, value=f(params))"
            raise ValueError(f"kanzow_steck compares values of f: call {call}.")
        trial, unravel = ravel_pytree(params)
        grads = ravel_pytree(updates)[0]
        state = _judge(state, trial, grads, jnp.asarray(value, trial.dtype))
        state, d = _propose(state, direction)
        return unravel(state.params + d - trial), state

    return optax.GradientTransformationExtraArgs(init, update)


def _judge(past: KanzowSteckState, trial: Array, grads: Array, value: Array) -> KanzowSteckState:
    """The state after a trial point, taken or not."""
    first = past.num_updates == 0
    many = past.num_accepted >= NUM_RECENT
    decrease = jnp.where(many, jnp.max(past.recent), past.recent[-1]) - value
    finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(grads))
    success = finite & (decrease > SUCCESS * past.predicted) & ~first
    accepted = first | success

    s, y = trial - past.params, grads - past.grads
    ss, sy, yy = s @ s, s @ y, y @ y
    keep = success & (sy > LEAST_COSINE * jnp.sqrt(ss * yy))
    length, sy = jnp.sqrt(jnp.where(keep, ss, 1.0)), jnp.where(keep, sy, 1.0)
    gamma = jnp.where(keep, yy / sy, past.gamma)
    norm = jnp.linalg.norm(grads)
    gamma = jnp.where(first, jnp.where(norm > 0, norm, 1.0), gamma)
    high = decrease >= HIGH_SUCCESS * past.predicted
    mu = jnp.where(high, jnp.maximum(LEAST_MU, SHRINK * past.mu), past.mu)
    mu = jnp.where(success, mu, jnp.minimum(GROW * past.mu, MOST_MU))

    def push(rows: Array, new: Array, when: Array) -> Array:
        return jnp.where(when, jnp.concatenate([rows[1:], new[None]]), rows)

    return past._replace(
        num_updates=past.num_updates + 1,
        num_accepted=past.num_accepted + accepted,
        params=jnp.where(accepted, trial, past.params),
        grads=jnp.where(accepted, grads, past.grads),
        recent=push(past.recent, value, accepted),
        s=push(past.s, s / length, keep),
        y=push(past.y, y / length, keep),
        gamma=gamma,
        mu=jnp.where(first, FIRST_MU, mu),
    )


def _propose(state: KanzowSteckState, direction: Any) -> tuple[KanzowSteckState, Array]:
    """The next trial's step; μ grows until the model predicts enough for it."""

    def solve(mu: Array) -> tuple[Array, Array, Array]:
        d = direction(state.s, state.y, state.gamma, mu, state.grads)
        return mu, d, 0.5 * (mu * state.gamma * (d @ d) - state.grads @ d)

    def too_little(trial: tuple[Array, Array, Array]) -> Array:
        mu, d, predicted = trial
        least = LEAST_PREDICTION * jnp.linalg.norm(d) * jnp.linalg.norm(state.grads)
        return ~(predicted >= least) & (mu < MOST_MU)  # also where it is NaN

    mu, d, predicted = jax.lax.while_loop(
        too_little, lambda trial: solve(GROW * trial[0]), solve(state.mu)
    )
    return state._replace(mu=mu, predicted=predicted), d
