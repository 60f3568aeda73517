"""Bounds by a change of variables: f of what a bijection makes of unconstrained numbers.

    space = bounds.tree({"rate": bounds.positive(), "share": bounds.interval(0.0, 1.0)})
    result = lp.minimize(lambda z: f(space.forward(z)), space.inverse(start))
    params = space.forward(result.params)

A minimum on a bound lies at infinity for the unconstrained numbers: it is approached, and not
reached, and the gradient there vanishes too. So do not let a step lead out too far: `max_step=2.0`
in `minimize` is 2 units of z. Where many bounds are active, a method that projects, such as SciPy's
L-BFGS-B, is the better choice.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jax_lbfgs_pi.trees import Params, is_traced


class Bijection(NamedTuple):
    """A map of unconstrained numbers onto a set, and back.

    Attributes:
      forward: from the unconstrained numbers into the set.
      inverse: back, from the inside of the set.
    """

    forward: Callable[[Any], Any]
    inverse: Callable[[Any], Any]


def above(low: Any) -> Bijection:
    """The numbers above `low`: `low + exp(z)`; a change of units of x - low shifts z."""
    return Bijection(
        lambda z: low + jnp.exp(z),
        lambda x: jnp.log(_inside(jnp.asarray(x) - low, f"above {low}")),
    )


def below(high: Any) -> Bijection:
    """The numbers below `high`: `high - exp(z)`, entry by entry."""
    return Bijection(
        lambda z: high - jnp.exp(z),
        lambda x: jnp.log(_inside(high - jnp.asarray(x), f"below {high}")),
    )


def positive() -> Bijection:
    """The numbers above 0: `exp(z)`, entry by entry."""
    return above(0.0)


def interval(low: Any, high: Any) -> Bijection:
    """The numbers between both: `low + (high - low) sigmoid(z)`, entry by entry.

    Raises:
      ValueError: unless `low < high`, both finite.
    """
    known = not (is_traced(low) or is_traced(high))
    # With NumPy, as under `jit` JAX would trace what is known too.
    if known and not np.all(np.less(low, high)):
        raise ValueError(f"An interval needs low < high, but got {low!r} and {high!r}.")
    if known and not np.all(np.isfinite(low) & np.isfinite(high)):
        raise ValueError(
            f"An interval needs finite bounds, but got {low!r} and {high!r}: where one is missing "
            "take bounds.above or bounds.below, where both are, None."
        )
    name = f"between {low} and {high}"

    def inverse(x: Any) -> Array:
        x = jnp.asarray(x)
        return jnp.log(_inside(x - low, name)) - jnp.log(_inside(high - x, name))

    return Bijection(lambda z: low + (high - low) * jax.nn.sigmoid(z), inverse)


def simplex() -> Bijection:
    """Positive numbers of sum 1 along the last axis: the softmax of `(z, 0)`, z one shorter.

    An x of another sum is scaled to it.
    """

    def forward(z: Any) -> Array:
        z = jnp.asarray(z)
        return jax.nn.softmax(jnp.concatenate([z, jnp.zeros_like(z[..., :1])], axis=-1), axis=-1)

    def inverse(x: Any) -> Array:
        logs = jnp.log(_inside(jnp.asarray(x), "inside the simplex"))
        return logs[..., :-1] - logs[..., -1:]

    return Bijection(forward, inverse)


def tree(bijections: Any) -> Bijection:
    """The bijection of a pytree, from one with a `Bijection`, or None, for each leaf or subtree.

    None leaves it as it is. A leaf of `bijections` serves for all leaves of the subtree there.

    Raises:
      TypeError: for a leaf that is neither.
      ValueError: from either direction, for parameters of another structure.
    """
    leaves, structure = jax.tree.flatten(bijections, is_leaf=_is_leaf)
    for leaf in leaves:
        if not _is_leaf(leaf):
            raise TypeError(
                "bounds.tree needs a Bijection, such as bounds.positive() or "
                f"bounds.interval(0, 1), or None at each leaf, but got {leaf!r}."
            )

    def apply(name: str, params: Params) -> Params:
        def one(bijection: Bijection | None, subtree: Params) -> Params:
            if bijection is None:
                return subtree
            return jax.tree.map(getattr(bijection, name), subtree)

        try:
            subtrees = structure.flatten_up_to(params)
        except (ValueError, TypeError):
            raise ValueError(
                f"The parameters must have the structure of their bounds, {structure}, or more "
                f"below it, but have {jax.tree.structure(params)}."
            ) from None
        return structure.unflatten(map(one, leaves, subtrees))

    return Bijection(lambda z: apply("forward", z), lambda x: apply("inverse", x))


def _is_leaf(x: Any) -> bool:
    return x is None or isinstance(x, Bijection)


def _inside(distance: Array, where: str) -> Array:
    if not is_traced(distance) and not jnp.all(distance > 0):
        raise ValueError(f"A start must lie {where}, but by {jnp.min(distance)} it does not.")
    return distance
