"""A mean over many examples, some at a time, so that they stay in a CPU's caches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
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

    @jax.custom_vjp
    def mean(params: Params, data: Any) -> Float[Array, ""]:
        return _weighted_sum(mean_loss, params, data, size)

    def forward(params: Any, data: Any) -> tuple[Float[Array, ""], Params]:
        if any(leaf.perturbed for leaf in jax.tree.leaves(data)):
            raise ValueError(
                "A mean in chunks has no derivative by its data: differentiate by params alone."
            )
        params, data = (jax.tree.map(lambda leaf: leaf.value, tree) for tree in (params, data))
        return _weighted_sum(jax.value_and_grad(mean_loss), params, data, size)

    def backward(gradient: Params, cotangent: Any) -> tuple[Params, None]:
        return jax.tree.map(lambda leaf: cotangent * leaf, gradient), None

    mean.defvjp(forward, backward, symbolic_zeros=True)
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
