"""Was the trial good, and if not, where on the line next? Scalars in, scalars out.

A trial x + s is accepted if f there is below the greatest of the last accepted values by a share of
the decrease that the slope predicted (Grippo, Lampariello & Lucidi 1986); f(x0) is none of them
once another is known. Else the next trial lies
on the same line: at the minimum of the cubic through both values and slopes, within limits (Moré &
Thuente 1994). Without values the slopes alone decide.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jax_lbfgs_pi import linalg, trees

WINDOW = 5
"""So many accepted values are remembered; a trial is measured against the greatest of them. That of
x0 counts until another is known: it is mostly so far up that any step would do beside it."""


class Values(NamedTuple):
    """f at the last accepted points.

    Attributes:
      last: newest first, shape `(WINDOW,)`.
      known: how many have been accepted since f was first told, x0 among them; an int32 scalar, at
        most `WINDOW + 1`.
    """

    last: Float[Array, " w"]
    known: Int[Array, ""]


class Guard(NamedTuple):
    """When a trial is accepted, and how far back the next one lies if not.

    Attributes:
      decrease: the share of the predicted decrease that an accepted trial must achieve, below the
        greatest of the last `WINDOW` accepted values (Armijo's constant).
      least: the least share of a rejected step that is tried next.
      most: the greatest share.
      first_least: `least` of the first step, whose length is a guess.
      first_decrease: `decrease` of the first step, whose length is a guess: a point far out that is
        hardly lower is a bad one to learn from (`docs/research/30-first-trial.md`).
      blind: the share where f or its gradient is not finite, and so tells nothing of how far.
      first_blind: `blind` of the first step.
    """

    decrease: Any = 1e-4
    least: Any = 0.1
    most: Any = 0.5
    first_least: Any = 1e-3
    first_decrease: Any = 0.2
    blind: Any = 0.25
    first_blind: Any = 0.1


def check_guard(guard: Guard | None) -> None:
    """Raises unless it is a guard, with constants that can work, or None.

    Raises:
      TypeError: for anything else, or a constant that is no number.
      ValueError: unless `0 <= decrease < 1` and `0 < least <= most < 1`, at the first step too.
    """
    if guard is None:
        return
    if not isinstance(guard, Guard):
        raise TypeError(
            f"guard must be a Guard, such as Guard(decrease=1e-4), or None, but got {guard!r}."
        )
    for name, constant in guard._asdict().items():
        if constant is None:
            raise TypeError(f"{name} of a Guard must be a number, but got None.")
        trees.check_number(f"{name} of a Guard", constant, sign="not negative")
    if any(map(trees.is_traced, guard)):
        return
    shares = all(0 < least <= guard.most < 1 for least in (guard.least, guard.first_least))
    if not (shares and guard.decrease < 1 and guard.first_decrease < 1):
        raise ValueError(f"A Guard needs decrease < 1 and 0 < least <= most < 1, but got {guard}.")


class Trial(NamedTuple):
    """A trial; scalars.

    Attributes:
      value: f there; None if it is not told.
      start_slope: the slope of f along the step where it began, gᵀs.
      end_slope: the slope at the trial, g₊ᵀs.
      finite: whether f and its gradient are finite there.
      eps: the machine epsilon that f was computed with, a number.
    """

    value: Float[Array, ""] | None
    start_slope: Float[Array, ""]
    end_slope: Float[Array, ""]
    finite: Bool[Array, ""]
    eps: float


def judge(
    guard: Guard, trial: Trial, values: Values, first: Bool[Array, ""]
) -> tuple[Bool[Array, ""], Float[Array, ""]]:
    """Whether a trial is accepted, and the share of its step to try next if it is not.

    Args:
      guard: the constants.
      trial: the trial.
      values: the last accepted values.
      first: whether it is the first step.

    Returns:
      The verdict, and the share, within the guard's limits.
    """
    dtype = trial.end_slope.dtype
    guard = jax.tree.map(lambda constant: jnp.asarray(constant, dtype), guard)
    smooth = trial.end_slope <= jnp.abs(trial.start_slope)
    accepted, next_share = smooth, _secant(trial.start_slope, trial.end_slope)
    if trial.value is not None:
        decrease = jnp.where(first, guard.first_decrease, guard.decrease)
        by_value = _low_enough(decrease, trial, trial.value, values, smooth)
        rise = trial.value - values.last[0]
        at_cubic = _cubic(rise, trial.start_slope, trial.end_slope)
        known = values.known > 0
        accepted = jnp.where(known, by_value, smooth)
        next_share = jnp.where(known, at_cubic, next_share)
    least = jnp.where(first, guard.first_least, guard.least)
    blind = jnp.where(first, guard.first_blind, guard.blind)
    next_share = jnp.where(jnp.isfinite(next_share), next_share, least)
    next_share = jnp.where(trial.finite, next_share, blind)
    next_share = jnp.clip(next_share, least, guard.most).astype(dtype)
    return trial.finite & accepted, next_share


def remember(values: Values, value: Float[Array, ""] | None, accepted: Bool[Array, ""]) -> Values:
    """The last accepted values, with that of a trial before them if it was accepted.

    A value that is not told makes those before it useless: they are forgotten.
    """
    last, known = values
    if value is None:
        return Values(last, jnp.where(accepted, 0, known).astype(known.dtype))
    shifted = jnp.concatenate([jnp.asarray(value, last.dtype)[None], last[:-1]])
    more = jnp.minimum(known + 1, WINDOW + 1)
    return Values(jnp.where(accepted, shifted, last), jnp.where(accepted, more, known))


def counting(values: Values) -> Bool[Array, " w"]:
    """Which of the values count beside the last: all that are known but that of x0."""
    return jnp.arange(values.last.size, dtype=jnp.int32) < values.known - 1


def _low_enough(
    decrease: Array, trial: Trial, value: Array, values: Values, smooth: Array
) -> Bool[Array, ""]:
    last = values.last[0]
    greatest = jnp.max(jnp.where(counting(values), values.last, last))
    enough = value <= greatest + decrease * jnp.minimum(trial.start_slope, 0.0)
    # Near a minimum the last bits of f go up and down by rounding alone; there the slopes, which
    # are less affected, decide (Hager & Zhang 2005).
    rounding = 10 * trial.eps * jnp.abs(last)
    return enough | (smooth & (jnp.abs(value - last) <= rounding))


def _secant(start_slope: Array, end_slope: Array) -> Float[Array, ""]:
    """Where the slope is 0, if it is linear, as a share of the step."""
    change = start_slope - end_slope
    usable = linalg.nonzero(change)
    return jnp.where(usable, start_slope / jnp.where(usable, change, 1.0), 1.0)


def _cubic(rise: Array, start_slope: Array, end_slope: Array) -> Float[Array, ""]:
    """The minimum of the cubic with these slopes at 0 and 1, and this rise between them.

    Nocedal & Wright 2006, (3.59). NaN or infinite where it has none.
    """
    d1 = start_slope + end_slope - 3.0 * rise
    size = jnp.maximum(jnp.abs(d1), jnp.maximum(jnp.abs(start_slope), jnp.abs(end_slope)))
    size = linalg.divisor(size)
    a, b, c = d1 / size, start_slope / size, end_slope / size
    d2 = linalg.root(a * a - b * c)
    below = c - b + 2.0 * d2
    usable = linalg.nonzero(below)
    return jnp.where(usable, 1.0 - (c + d2 - a) / jnp.where(usable, below, 1.0), 0.0)
