"""Whether a policy takes fewer evaluations than another on tasks that neither was trained on."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from jax_lbfgs_pi.evaluation.statistics import Estimate, bootstrap, first, tied
from jax_lbfgs_pi.loop import make_loop
from jax_lbfgs_pi.policy import StepPolicy
from jax_lbfgs_pi.stopping import Stopping
from jax_lbfgs_pi.tasks.base import TaskSet
from jax_lbfgs_pi.training.population import best_values
from jax_lbfgs_pi.transform import MemorySize

SEARCH = "optax.lbfgs"
TARGETS = (1e-6, 1e-4, 1e-2)
"""Shares of the reduction of f that may be left when a task counts as solved."""
MANY = 0.9  # the share of tasks that must be solved for a target to be asked for
AT_ONCE = 32  # tasks in one batch
WORTH = 2.0  # percent fewer evaluations from which on a policy of one's own is worth having
LOSS_ALLOWED = 0.02  # of the tasks; those not solved count in the evaluations too

Curves = Float[np.ndarray, "tasks k"]
"""The least f after 1, ..., k evaluations, on each task."""
Loss = Callable[[Any, Any], Array]
"""The objective, `(params, data) -> f`."""


Program = Callable[[Any, Any, Any], Array]
"""From a policy, and x0 and data along a leading axis of tasks, to their curves."""


def policy_program(loss: Loss, num_evals: int, *, memory_size: MemorySize) -> Program:
    """Runs a policy; those of one structure, and tasks of one shape and number, compile once."""

    def one(policy: StepPolicy, x0: Any, data: Any) -> Array:
        return best_values(policy, lambda x: loss(x, data), x0, num_evals, memory_size=memory_size)

    return _on_all(one)


def search_program(loss: Loss, num_evals: int, *, memory_size: int) -> Program:
    """Runs `optax.lbfgs`, whatever the policy; its line search counts each of its evaluations."""
    tx = optax.lbfgs(memory_size=memory_size)

    def one(_: Any, x0: Any, data: Any) -> Array:
        loop = make_loop(
            tx,
            lambda x: loss(x, data),
            max_iters=num_evals - 1,
            stopping=Stopping(gtol=0.0, patience=None),
        )
        end = jax.lax.while_loop(
            lambda state: loop.running(state) & (state.num_evals < num_evals),
            loop.body,
            loop.init(x0),
        )
        past = end.trajectory
        value = jnp.where(jnp.isfinite(past.value) & (past.num_evals > 0), past.value, jnp.inf)
        least = jnp.full(num_evals, jnp.inf, value.dtype)
        return jax.lax.cummin(least.at[past.num_evals - 1].min(value, mode="drop"))

    return _on_all(one)


def _on_all(one: Program) -> Program:
    @jax.jit
    def run(policy: Any, x0: Any, data: Any) -> Array:
        return jax.lax.map(lambda task: one(policy, *task), (x0, data), batch_size=AT_ONCE)

    return run


def curves_on(tasks: TaskSet) -> Callable[..., Curves]:
    """From a program and a policy to the curves on these tasks."""
    data, x0 = tasks.stack(range(len(tasks)))
    return lambda program, policy=None: np.asarray(program(policy, x0, data))


def costs(curves: Mapping[str, Curves], target: float) -> dict[str, Float[np.ndarray, " tasks"]]:
    """The evaluations of each until f - f* ≤ target (f₀ - f*), infinity if never.

    f* is the least that any of them found on the task.
    """
    level = levels(curves, target)[:, None]
    return {name: first_below(curve, level) for name, curve in curves.items()}


def levels(curves: Mapping[str, Curves], target: float) -> Float[np.ndarray, " tasks"]:
    """The f at which a task counts as solved."""
    least = np.min([np.min(curve, axis=1) for curve in curves.values()], axis=0)
    start = np.max([curve[:, 0] for curve in curves.values()], axis=0)
    return least + target * (start - least)


def share_first(mine: np.ndarray, theirs: np.ndarray) -> float:
    """The share of tasks on which the first of two was first, ties half."""
    return float(np.mean(first(mine, theirs) + 0.5 * tied(mine, theirs))) / 100.0


def first_below(curves: np.ndarray, level: np.ndarray) -> np.ndarray:
    """The evaluations until a curve, along the last axis, is at most its level; else infinity."""
    there = curves <= level
    return np.where(there.any(axis=-1), 1.0 + there.argmax(axis=-1), np.inf)


def reachable(curves: Mapping[str, Curves], name: str) -> float:
    """The hardest of `TARGETS` that `name` meets on most tasks; the easiest if it meets none."""
    for target in TARGETS:
        if np.mean(np.isfinite(costs(curves, target)[name])) >= MANY:
            return target
    return TARGETS[-1]


def saved(mine: np.ndarray, theirs: np.ndarray, num_evals: int) -> Estimate:
    """How many percent fewer evaluations, in the geometric mean over tasks.

    A task that was not solved counts as one of `num_evals`.

    Args:
      mine: evaluations on each task, infinity where it was not solved.
      theirs: the same of the other.
      num_evals: that each had.
    """
    ratios = np.log(np.minimum(mine, num_evals) / np.minimum(theirs, num_evals))
    mean = bootstrap(ratios, np.mean)
    value, high, low = (100.0 * -math.expm1(x) for x in mean[:3])
    return Estimate(value, low, high, mean.num_tasks)


class Verdict(NamedTuple):
    """What held-out tasks say of a trained policy.

    Attributes:
      helps: whether it takes fewer evaluations than the one that training began from: the whole
        interval on its side, at least 2 %, and not more than one task in fifty lost.
      saved: in percent, see `saved`, with its 95 % bootstrap interval.
      room: the same of the best of some perturbed policies on each task, chosen in hindsight: what
        is left to be learned, or luck.
      target: the share of the reduction of f that may be left when a task counts as solved.
      evals: to that target on each task, by name; infinity where it was not met.
      sentence: all of that for people.
    """

    helps: bool
    saved: Estimate
    room: float
    target: float
    evals: dict[str, np.ndarray]
    sentence: str


def judge(
    curves: Mapping[str, Curves],
    variants: Float[np.ndarray, "tasks lanes k"],
    trained: str,
    start: str,
    target: float,
) -> Verdict:
    """The verdict.

    Args:
      curves: of all on the held-out tasks, by name.
      variants: the curves of the perturbed policies on them.
      trained: the name of the trained policy.
      start: the name of the one that it began from.
      target: see `Verdict`.
    """
    found = costs(curves, target)
    mine, theirs = found[trained], found[start]
    num_evals = curves[start].shape[1]
    estimate = saved(mine, theirs, num_evals)
    best = np.min(first_below(variants, levels(curves, target)[:, None, None]), axis=1)
    room = saved(np.minimum(best, theirs), theirs, num_evals).value
    solved = [float(np.mean(np.isfinite(c))) for c in (mine, theirs)]
    keeps = solved[0] >= solved[1] - LOSS_ALLOWED
    helps = estimate.low > 0 and estimate.value >= WORTH and keeps
    return Verdict(
        helps=bool(helps),
        saved=estimate,
        room=room,
        target=target,
        evals=found,
        sentence=_sentence(helps, estimate, room, solved, start, len(mine)),
    )


def _sentence(
    helps: bool, estimate: Estimate, room: float, solved: Sequence[float], start: str, num: int
) -> str:
    sign, word = (1.0, "fewer") if estimate.value >= 0 else (-1.0, "more")
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    compared = (
        f"{sign * estimate.value:z.0f} % [{low:z.0f}, {high:z.0f}] {word} evaluations than {start} "
        f"on {num} held-out tasks, and solves {solved[0]:.0%} of them ({start} {solved[1]:.0%})"
    )
    if helps:
        return f"The trained policy takes {compared}: use it."
    if estimate.low > 0 and estimate.value >= WORTH:
        return f"The trained policy takes {compared}, which is too few: keep {start}."
    why = "the best of its variants on each task, known only in hindsight, would save "
    why += f"{room:z.0f} %, so " + (
        "there is little to be had"
        if room < 3 * WORTH
        else "more tasks or more generations may find some of it"
    )
    return f"The trained policy takes {compared}. It does not help: keep {start}; {why}."
