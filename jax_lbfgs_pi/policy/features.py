"""What a learned policy reads: numbers free of the units of f and x, and of rotations.

Logarithms of ratios and cosines, each scaled to be of order 1. Under f → c f, x → b x + a and
rotations none of them changes. n is read through its logarithm, the number k of steps through
4 / (4 + k).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_lbfgs_pi import linalg
from jax_lbfgs_pi.policy.observation import InnerProducts, Observation
from jax_lbfgs_pi.policy.protocol import Scaling

MOST_PARAMS, MOST_PAIRS = 256, 20
"""More of these are read as so many: no policy has been trained on more."""

NUM_BEFORE = 20
NUM_AFTER = 5
MOST_LOG = 9.0
"""Ratios beyond e^±9 are read as that."""


def before_direction(
    seen: Observation, base: Scaling, *, of_a_matrix: bool
) -> Float[Array, f"{NUM_BEFORE}"]:
    """What is known before the direction is: how the last step went, and what the window holds.

    A policy for a dense H, which holds no pairs, has `of_a_matrix`: in place of their extremes and
    of the gradient in their span are the base's τ and φ, and `yᵀHy / sᵀy`.
    """
    r = seen.slope_ratio()
    step, short = seen.step, seen.short_scaling()
    count, rejections, num_pairs = (
        x.astype(r.dtype) for x in (seen.count, seen.rejections, seen.num_pairs)
    )
    predicted = -seen.start_slope
    # Before the first pair t has a unit, and the model nothing to be wrong about.
    scaled = seen.count > 1
    reduction = _ratio(seen.prev_value - seen.value, predicted)
    one = jnp.ones_like(r)
    long_log, base_log, fall_log, steep_log, step_log, bend_log, *held = _logs(
        (seen.long_scaling(), short),
        (base.gamma, short),
        (seen.gg, seen.prev_gg),
        # sᵀBs / sᵀy, B the last inverse of H; above 1 where the model was too steep.
        (jnp.where(scaled, seen.step_size * predicted, 0.0), step.sy),
        (jnp.where(scaled, seen.step_size, 0.0), one),
        (seen.curvature_ratio(), one),
        *(_of_a_matrix(seen, base) if of_a_matrix else _of_pairs(seen, base.gamma)),
    )
    if of_a_matrix:
        h_log, tau_log = held
        of_memory = h_log / 3.0, tau_log, jnp.clip(base.phi, -1.0, 2.0)
    else:
        of_memory = tuple(log / 3.0 for log in held)
    return jnp.stack(
        [
            jnp.clip(r, -2.0, 2.0),
            jnp.exp(-jnp.abs(r) * 4.0),
            long_log / 3.0,
            base_log / 3.0,
            step_log / 2.0,
            jnp.minimum(rejections, 4.0) / 2.0,
            fall_log / 3.0,
            jnp.where(seen.has_values, jnp.clip(reduction, -1.0, 2.0), 0.5),
            jnp.where(seen.has_values, 0.0, 1.0),
            steep_log / 2.0,
            jnp.where(linalg.positive(step.sy), 0.0, 1.0),
            _cosine(seen.end_slope, seen.gg, step.ss),
            _cosine(step.sy, step.ss, step.yy),
            of_memory[1],
            of_memory[2],
            jnp.minimum(num_pairs, float(MOST_PAIRS)) / 10.0,
            jnp.full_like(r, jnp.log(min(seen.num_params, MOST_PARAMS)) / 5.0 - 1.0),
            4.0 / (4.0 + count),
            of_memory[0],
            bend_log / 2.0,
        ]
    ).astype(r.dtype)


def after_direction(
    seen: Observation, products: InnerProducts, base_step: Float[Array, ""]
) -> Float[Array, f"{NUM_AFTER}"]:
    """What the direction adds: its angles, its length, and the decrease that it promises."""
    descent = -products.dg
    angle = _cosine(descent, products.dd, products.gg)
    one = jnp.ones_like(descent)
    angle_log, length_log, slope_log, step_log = _logs(
        (angle, one),
        (products.dd, seen.last_ss),
        (descent, jnp.abs(seen.start_slope)),
        (jnp.where(seen.count > 0, base_step, 0.0), one),
    )
    bend = _cosine(products.dy, products.dd, products.yy)
    return jnp.stack([angle_log / 2.0, length_log / 3.0, bend, slope_log / 3.0, step_log / 2.0])


def _of_pairs(seen: Observation, gamma: Array) -> tuple[tuple[Array, Array], ...]:
    """How much of the gradient lies where the pairs should have left none; their extremes."""
    newest = seen.curvature
    flatnesses = _ratio(jnp.ones_like(newest), seen.curvatures)
    greatest = (jnp.max(x, initial=0.0) for x in (seen.curvatures, flatnesses))
    most, flattest = linalg.materialize(tuple(greatest))
    one = jnp.ones_like(newest)
    return (seen.in_span, gamma * seen.gg), (most, newest), (flattest * newest, one)


def _of_a_matrix(seen: Observation, base: Scaling) -> tuple[tuple[Array, Array], ...]:
    one = jnp.ones_like(seen.gg)
    return (jnp.asarray(seen.h, one.dtype), one), (jnp.asarray(base.tau, one.dtype), one)


def _ratio(a: Array, b: Array) -> Array:
    usable = linalg.nonzero(b)
    return jnp.where(usable, a / jnp.where(usable, b, 1.0), 0.0)


def _logs(*ratios: tuple[Array, Array]) -> Array:
    """The logarithms of several ratios, as one array: in a batch one loop instead of many."""
    return _log_ratio(jnp.stack([a for a, _ in ratios]), jnp.stack([b for _, b in ratios]))


def _log_ratio(a: Array, b: Array) -> Array:
    """ln(a / b), at most 9 in size; 0 where one of them is not positive."""
    usable = linalg.positive(a) & linalg.positive(b)
    ratio = jnp.where(usable, a / jnp.where(usable, b, 1.0), 1.0)
    most = jnp.exp(jnp.asarray(MOST_LOG, ratio.dtype))
    return jnp.log(jnp.clip(ratio, 1.0 / most, most))


def _cosine(product: Array, square_a: Array, square_b: Array) -> Array:
    size = linalg.root(square_a) * linalg.root(square_b)
    return jnp.clip(_ratio(product, size), -1.0, 1.0)
