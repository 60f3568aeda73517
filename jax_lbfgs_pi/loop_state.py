"""What a run of an optimizer on one problem keeps from turn to turn, and shows."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int

from jax_lbfgs_pi.stopping import Watch
from jax_lbfgs_pi.trees import Params


class Trajectory(NamedTuple):
    """Scalars along a run, each of shape `(max_iters + 1,)`, or `(max_evals,)` if that is less.

    Attributes:
      value: f(x_k).
      grad_norm: the gradient norm at x_k.
      step_size: t of the step that leaves x_k, or if x_k was rejected, of the next trial from the
        last accepted point; 0 where the run ends, NaN for optimizers that report none.
      num_evals: evaluations of f made until f(x_k) and its gradient were known.
      accepted: whether the optimizer went on from x_k; if not, x_k was a trial that it went back
        from, and its f may be far above those around it.
    """

    value: Float[Array, " k"]
    grad_norm: Float[Array, " k"]
    step_size: Float[Array, " k"]
    num_evals: Int[Array, " k"]
    accepted: Bool[Array, " k"]


class Best(NamedTuple):
    """The best accepted point: parameters, f, gradient norm and auxiliary output there."""

    params: Params
    value: Float[Array, ""]
    grad_norm: Float[Array, ""]
    aux: Any


class Progress(NamedTuple):
    """What a callback is given at each evaluated point: NumPy arrays, and a pytree of them.

    Attributes:
      params: the point.
      value: f there.
      grad_norm: the gradient norm there.
      accepted: whether the optimizer goes on from there; if not, it goes back.
      num_iters: steps taken to it.
      num_evals: evaluations made so far.
    """

    params: Params
    value: Float[Array, ""]
    grad_norm: Float[Array, ""]
    accepted: Bool[Array, ""]
    num_iters: Int[Array, ""]
    num_evals: Int[Array, ""]


Callback = Callable[[Progress], bool | None]


class LoopState(NamedTuple):
    """Where a run stands.

    Attributes:
      params: the iterate to be evaluated next.
      opt_state: the optimizer's state.
      best: the best accepted point so far.
      turn: turns of the loop so far. Under `vmap` all problems share it, and those that have ended
        stand still: so neither is the state chosen entry by entry, nor the trajectory scattered.
      num_iters: steps taken.
      num_evals: evaluations made.
      status: a `Status`.
      watch: what the tests that end the run remember.
      trajectory: the scalars so far, and zeros.
    """

    params: Params
    opt_state: Any
    best: Best
    turn: Int[Array, ""]
    num_iters: Int[Array, ""]
    num_evals: Int[Array, ""]
    status: Int[Array, ""]
    watch: Watch
    trajectory: Trajectory
