"""What a learned policy reads: numbers free of the units of f and x, and of rotations.

Logarithms of ratios and cosines, each scaled to be of order 1. Under f → c f, x → b x + a and
rotations none of them changes; n and the numbers of steps and of pairs are read through logarithms.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_lbfgs_pi.policy.observation import InnerProducts, Observation

MOST_PARAMS, MOST_STEPS, MOST_PAIRS = 256, 150, 20
"""More of these are read as so many: no policy has been trained on more."""

NUM_BEFORE = 18
NUM_AFTER = 5


def before_direction(
    seen: Observation, base_gamma: Float[Array, ""]
) -> Float[Array, f"{NUM_BEFORE}"]:
    """What is known before the direction is: how the last step went, and what the window holds."""
    r = seen.slope_ratio()
    step, pair = seen.step, seen.pair
    predicted = -seen.start_slope
    # Before the first pair t has a unit, and the model nothing to be wrong about.
    scaled = seen.count > 1
    reduction = _ratio(seen.prev_value - seen.value, predicted)
    # sᵀBs / sᵀy, B the last inverse of H; above 1 where the model was too steep.
    steepness = jnp.where(scaled, _ratio(seen.step_size * predicted, step.sy), 0.0)
    newest = seen.curvatures[0]
    there = seen.curvatures > 0
    num_there = jnp.maximum(jnp.sum(there), 1)
    logs = jnp.where(there, _log_ratio(seen.curvatures, newest), 0.0)
    spread = jnp.sum(jnp.abs(logs)) / num_there
    return jnp.stack(
        [
            jnp.clip(r, -2.0, 2.0),
            jnp.exp(-jnp.abs(r) * 4.0),
            _log_ratio(pair.long_scaling(), pair.short_scaling()) / 3.0,
            _log_ratio(base_gamma, pair.short_scaling()) / 3.0,
            jnp.where(scaled, _squash(jnp.log(_positive(seen.step_size))), 0.0),
            jnp.minimum(seen.rejections, 4) / 2.0,
            _log_ratio(seen.gg, seen.prev_gg) / 3.0,
            jnp.where(seen.has_values, jnp.clip(reduction, -1.0, 2.0), 0.5),
            jnp.where(seen.has_values, 0.0, 1.0),
            _log_ratio(steepness, jnp.ones_like(r)) / 2.0,
            jnp.where(step.sy > 0, 0.0, 1.0),
            _cosine(seen.end_slope, seen.gg, step.ss),
            _cosine(step.sy, step.ss, step.yy),
            jnp.sum(logs) / num_there / 2.0,
            spread / 2.0,
            jnp.log1p(jnp.minimum(seen.num_pairs, MOST_PAIRS).astype(r.dtype)) / 3.0,
            jnp.full_like(r, jnp.log(min(seen.num_params, MOST_PARAMS)) / 5.0 - 1.0),
            jnp.log1p(jnp.minimum(seen.count, MOST_STEPS).astype(r.dtype)) / 3.0 - 1.0,
        ]
    ).astype(r.dtype)


def after_direction(
    seen: Observation, products: InnerProducts, base_step: Float[Array, ""]
) -> Float[Array, f"{NUM_AFTER}"]:
    """What the direction adds: its angles, its length, and the decrease that it promises."""
    descent = -products.dg
    return jnp.stack(
        [
            _log_ratio(_cosine(descent, products.dd, products.gg), jnp.ones_like(descent)) / 2.0,
            _log_ratio(products.dd, seen.last_ss) / 3.0,
            _cosine(products.dy, products.dd, products.yy),
            _log_ratio(descent, jnp.abs(seen.start_slope)) / 3.0,
            jnp.where(seen.count > 0, _squash(jnp.log(_positive(base_step))), 0.0),
        ]
    )


def _positive(x: Array) -> Array:
    return jnp.where(x > 0, x, 1.0)


def _ratio(a: Array, b: Array) -> Array:
    usable = b != 0
    return jnp.where(usable, a / jnp.where(usable, b, 1.0), 0.0)


def _squash(x: Array) -> Array:
    return 3.0 * jnp.tanh(x / 3.0)


def _log_ratio(a: Array, b: Array) -> Array:
    """ln(a / b), at most 9 in size; 0 where one of them is not positive."""
    usable = (a > 0) & (b > 0)
    log = jnp.log(jnp.where(usable, a, 1.0)) - jnp.log(jnp.where(usable, b, 1.0))
    return 9.0 * jnp.tanh(jnp.where(usable, log, 0.0) / 9.0)


def _cosine(product: Array, square_a: Array, square_b: Array) -> Array:
    size = jnp.sqrt(square_a) * jnp.sqrt(square_b)
    return jnp.clip(_ratio(product, size), -1.0, 1.0)
