"""A mean over many examples, some at a time, so that they stay in a CPU's caches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from jax_lbfgs_pi.trees import Params

MeanLoss = Callable[[Params, Any], Float[Array, ""]]


def mean_in_chunks(mean_loss: MeanLoss, params: Params, data: Any, size: int) -> Float[Array, ""]:
    """`mean_loss(params, data)`, and its gradient, from `size` examples at a time.

    Asked for its gradient, it takes values and gradients of a chunk together and adds them up, so
    that nothing is kept from one chunk for later.

    Args:
      mean_loss: the mean over the examples that it is given; closes over no traced values.
      params: what it is differentiated by.
      data: pytree of arrays whose first axis is over examples.
      size: of a chunk; the last has what remains.

    Returns:
      The mean over all.

    Raises:
      ValueError: if it is differentiated by `data`.
    """

    @jax.custom_jvp
    def mean(params: Params, data: Any) -> Float[Array, ""]:
        return _weighted_sum(mean_loss, params, data, size)

    def rule(primals: tuple, tangents: tuple) -> tuple[Float[Array, ""], Float[Array, ""]]:
        (params, data), (of_params, of_data) = primals, map(jax.tree.leaves, tangents)
        if not all(isinstance(leaf, SymbolicZero) for leaf in of_data):
            raise ValueError(
                "A mean in chunks has no derivative by its data: differentiate by params alone."
            )
        value, gradient = _weighted_sum(jax.value_and_grad(mean_loss), params, data, size)
        pairs = zip(jax.tree.leaves(gradient), of_params, strict=True)
        parts = [jnp.sum(g * t) for g, t in pairs if not isinstance(t, SymbolicZero)]
        return value, sum(parts, start=jnp.zeros_like(value))

    mean.defjvp(rule, symbolic_zeros=True)
    return mean(params, data)


def _weighted_sum(
    function: Callable[[Params, Any], Any], params: Params, data: Any, size: int
) -> Any:
    """Σ over chunks of `function` of one, times its share of the examples; a pytree as its own."""
    num = len(jax.tree.leaves(data)[0])
    count = num // size

    def add(total: Any, chunk: Any) -> tuple[Any, None]:
        share = len(jax.tree.leaves(chunk)[0]) / num
        return jax.tree.map(lambda t, x: t + share * x, total, function(params, chunk)), None

    chunks = jax.tree.map(lambda x: x[: count * size].reshape(count, size, *x.shape[1:]), data)
    rest = jax.tree.map(lambda x: x[count * size :], data)
    shapes = jax.eval_shape(function, params, jax.tree.map(lambda x: x[:1], data))
    total = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    total, _ = jax.lax.scan(add, total, chunks)
    return add(total, rest)[0] if num % size else total
