"""When a run ends, and what its end is called: scalars in, a status out."""

import enum
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from jax_lbfgs_pi import linalg, trees
from jax_lbfgs_pi.trees import Params

NORMS = ("2", "max")
MOST_LOST = 1e-3
"""A guarded run converges where no more than this share of f's fall is lost again."""


class Status(enum.IntEnum):
    """Why a run ended.

    Where several tests hold at once, this is the order in which they count: CONVERGED,
    TARGET_REACHED, SMALL_CHANGE, NON_FINITE, UNBOUNDED, STALLED, MAX_EVALS, MAX_ITERS, STOPPED.

    Attributes:
      RUNNING: it has not.
      CONVERGED: the gradient norm met the test, at an accepted point with finite f: the one that is
        returned. With a guard f must not be far above the least that was accepted there (by 1e-3
        of its fall, and half of its digits), as it is on a plateau that a step led up to.
      MAX_ITERS: the iterations are used up.
      NON_FINITE: f or its gradient is not finite, and there is nothing to go back to.
      MAX_EVALS: the evaluations are used up.
      STALLED: neither f nor the gradient norm fell any more: mostly the last bits of f are reached.
      SMALL_CHANGE: f hardly changed from one accepted point to the next.
      TARGET_REACHED: f is at most the target.
      UNBOUNDED: f went to -inf, or so far down that nothing can be computed there.
      STOPPED: the callback said so.
    """

    RUNNING = 0
    CONVERGED = 1
    MAX_ITERS = 2
    NON_FINITE = 3
    MAX_EVALS = 4
    STALLED = 5
    SMALL_CHANGE = 6
    TARGET_REACHED = 7
    UNBOUNDED = 8
    STOPPED = 9


SUCCESSES = (Status.CONVERGED, Status.TARGET_REACHED, Status.SMALL_CHANGE)
"""The ends that a test of the user's brought about."""


@struct.dataclass
class Stopping:
    """The tests that end a run; each number may be traced, and mapped over.

    What is None is not tested, but for `gtol`, of which 0 says so.

    Attributes:
      gtol: CONVERGED where the gradient norm is below this, in the units of f per x; None is the
        square root of the parameters' machine epsilon, 1.5e-8 in float64 and 3.5e-4 in float32.
      rel_gtol: CONVERGED also where it is below this share of the norm at the start.
      ftol: SMALL_CHANGE where `|f_k - f_{k-1}| <= ftol max(|f_k|, |f_{k-1}|)` at accepted points.
      target: TARGET_REACHED where f is at most this.
      patience: STALLED after so many evaluations in which neither the least f fell, by more than
        four rounding errors, nor the least gradient norm by a tenth.
      norm: "2" or "max", of the gradient; static.
    """

    gtol: Any = None
    rel_gtol: Any = None
    ftol: Any = None
    target: Any = None
    patience: Any = 50
    norm: str = struct.field(pytree_node=False, default="2")


def as_stopping(tol: Any, params: Params) -> Stopping:
    """The tests that `tol` stands for: None, a number or a `Stopping`; with a `gtol`.

    Raises:
      TypeError: if `tol` is none of these.
      ValueError: if a test's number is negative or NaN, or its norm unknown.
    """
    if isinstance(tol, Stopping):
        stopping = tol
    else:
        try:
            trees.check_number("tol", tol, sign="not negative")
        except TypeError:
            tests = "Stopping(gtol=1e-6, norm='max')"
            message = f"tol must be a number, or tests by name as {tests}, but got {tol!r}."
            raise TypeError(message) from None
        stopping = Stopping(gtol=tol)
    if stopping.norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}, but got {stopping.norm!r}.")
    for name in ("gtol", "rel_gtol", "ftol", "target", "patience"):
        sign = "" if name == "target" else "not negative"
        trees.check_number(name, getattr(stopping, name), sign=sign)
    if stopping.gtol is None:
        dtypes = [leaf.dtype for leaf in jax.tree.leaves(params)] or [jnp.result_type(float)]
        eps = max(float(jnp.finfo(dtype).eps) for dtype in dtypes)
        stopping = stopping.replace(gtol=eps**0.5)  # type: ignore[attr-defined]
    return stopping


def gradient_norm(stopping: Stopping, grads: Params) -> Float[Array, ""]:
    """The norm that the tests of the gradient speak of."""
    return linalg.norm(grads) if stopping.norm == "2" else linalg.max_norm(grads)


class Limits(NamedTuple):
    """What a run may cost, and what its optimizer can do; static.

    Attributes:
      max_iters: the greatest number of steps.
      max_evals: the greatest number of evaluations; None for no limit.
      retreats: whether the optimizer recovers from a step into non-finite numbers.
    """

    max_iters: int
    max_evals: int | None
    retreats: bool


class Point(NamedTuple):
    """An evaluated point, as the tests see it; scalars.

    Attributes:
      value: f.
      grad_norm: the gradient norm.
      accepted: whether the optimizer goes on from here; false where f is not finite.
      num_iters: steps taken to it.
      num_evals: evaluations made so far.
    """

    value: Float[Array, ""]
    grad_norm: Float[Array, ""]
    accepted: Bool[Array, ""]
    num_iters: Int[Array, ""]
    num_evals: Int[Array, ""]


class Watch(NamedTuple):
    """What the tests remember; scalars, all of them 0 before the first point.

    Attributes:
      start_norm: the gradient norm at the start.
      start_value: f there.
      prev_value: f at the last accepted point.
      least_value: f when it last fell.
      least_norm: the gradient norm when it last fell.
      progress: the evaluations made when either did.
      down: whether f was -inf anywhere.
    """

    start_norm: Float[Array, ""]
    start_value: Float[Array, ""]
    prev_value: Float[Array, ""]
    least_value: Float[Array, ""]
    least_norm: Float[Array, ""]
    progress: Int[Array, ""]
    down: Bool[Array, ""]


def begin_watch(value: Any, grad_norm: Any) -> Watch:
    """A watch for f and gradient norms of these dtypes."""
    f, norm = jnp.zeros((), value.dtype), jnp.zeros((), grad_norm.dtype)
    return Watch(norm, f, f, f, norm, jnp.zeros((), jnp.int32), jnp.zeros((), bool))


def look(
    stopping: Stopping, limits: Limits, watch: Watch, point: Point
) -> tuple[Int[Array, ""], Watch]:
    """The status after a point was evaluated, `RUNNING` if no test holds; and the next watch.

    Args:
      stopping: the tests.
      limits: what the run may cost.
      watch: what the tests remember.
      point: the point.
    """
    watch, prev_value = _update(watch, point), watch.prev_value
    f, norm, accepted, num_iters, num_evals = point
    first, finite = num_iters == 0, jnp.isfinite(f) & jnp.isfinite(norm)
    tests = [(num_iters == limits.max_iters, Status.MAX_ITERS)]  # the last that holds counts
    if limits.max_evals is not None:
        tests.append((num_evals >= limits.max_evals, Status.MAX_EVALS))
    if stopping.patience is not None:
        waited = (num_evals - watch.progress).astype(norm.dtype)  # as infinity is no integer
        tests.append((waited >= jnp.asarray(stopping.patience, norm.dtype), Status.STALLED))
    spent = functools.reduce(jnp.logical_or, (test for test, _ in tests))
    lowest, deep = 0.5 * float(jnp.finfo(f.dtype).min), float(jnp.finfo(norm.dtype).max) ** 0.5
    # From there on squares of lengths are out of range, and runs end for that reason alone.
    down = watch.down | (watch.least_value.astype(norm.dtype) <= -0.01 * deep)
    tests.append(((spent & down) | (accepted & (f <= lowest)), Status.UNBOUNDED))
    tests.append((~finite & (first | (not limits.retreats)), Status.NON_FINITE))
    if stopping.ftol is not None:
        size = jnp.maximum(jnp.abs(f), jnp.abs(prev_value))
        same = jnp.abs(f - prev_value) <= jnp.asarray(stopping.ftol, f.dtype) * size
        tests.append((accepted & ~first & same, Status.SMALL_CHANGE))
    if stopping.target is not None:
        reached = f <= jnp.asarray(stopping.target, f.dtype)
        tests.append((accepted & reached, Status.TARGET_REACHED))
    gtol = jnp.asarray(stopping.gtol, norm.dtype)
    if stopping.rel_gtol is not None:
        gtol = jnp.maximum(gtol, jnp.asarray(stopping.rel_gtol, norm.dtype) * watch.start_norm)
    flat = accepted & (norm < gtol)
    if limits.retreats:
        flat &= ~_far_above(f, watch)
    tests.append((flat, Status.CONVERGED))

    status = jnp.asarray(Status.RUNNING, jnp.int32)
    for test, name in tests:
        status = jnp.where(test, jnp.asarray(name, jnp.int32), status)
    return status, watch


def _far_above(f: Array, watch: Watch) -> Bool[Array, ""]:
    """Whether f is above the least so far by more than rounding and a share of what it fell by.

    A run may leave a valley for a plateau, as f need not fall at each step; no minimum is there.
    """
    least = watch.least_value
    rounding = float(jnp.finfo(f.dtype).eps) ** 0.5 * jnp.abs(least)
    return f - least > rounding + MOST_LOST * (watch.start_value - least)


def _update(watch: Watch, point: Point) -> Watch:
    f, norm, accepted, num_iters, num_evals = point
    first = num_iters == 0
    margin = 4 * float(jnp.finfo(f.dtype).eps) * jnp.abs(watch.least_value)
    lower = first | (accepted & (f < watch.least_value - margin))
    flatter = first | (accepted & (norm < 0.9 * watch.least_norm))
    return Watch(
        start_norm=jnp.where(first, norm, watch.start_norm),
        start_value=jnp.where(first, f, watch.start_value),
        prev_value=jnp.where(first | accepted, f, watch.prev_value),
        least_value=jnp.where(lower, f, watch.least_value),
        least_norm=jnp.where(flatter, norm, watch.least_norm),
        progress=jnp.where(lower | flatter, num_evals, watch.progress),
        down=watch.down | (f == -jnp.inf),
    )
