"""The derivative of a solution: by the implicit function theorem, whatever led there."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg
from jaxtyping import Array

from jax_lbfgs_pi import linalg, trees
from jax_lbfgs_pi.trees import Params

MOST_DENSE = 100
"""Up to so many variables the Hessian is formed, and beyond it is only multiplied with."""
MOST_PRODUCTS = 1000
"""The conjugate gradients of one derivative make at most so many Hessian-vector products,"""
NUM_ROUNDS, NUM_PROBES = 4, 4
"""after so many rounds of scaling, with so many products each."""


def differentiable(
    run: Callable[[Callable[[Params], Any], Params], Any],
    fun: Callable[[Params], Any],
    x0: Params,
    *,
    has_aux: bool,
) -> Any:
    """`run(fun, x0)`, with derivatives with respect to all that `fun` closes over.

    At a minimum x of f(·, θ) the gradient is 0, so `H dx = -(∂²f/∂x∂θ) dθ`. Up to 100 variables H
    is formed, by n Hessian-vector products, and inverted where it is not 0; beyond, the system is
    solved by conjugate gradients, which ask for a positive definite H. Forward and reverse mode,
    and higher derivatives. What is no function of x alone (the trajectory, the gradient norm) has
    the derivative 0, and so has everything with respect to x0 and to the options: the minimum does
    not depend on them.

    Raises:
      NotImplementedError: from a derivative within `jax.shard_map`.

    Args:
      run: from an objective and a start to a result with fields `params`, `value` and `aux`.
      fun: the objective, from parameters to a scalar, or to a pair with auxiliary output.
      x0: the start.
      has_aux: whether `fun` returns a pair.
    """
    objective, theta = jax.closure_convert(fun, x0)
    solve, options = jax.closure_convert(
        lambda x0, *theta: run(lambda x: objective(x, *theta), x0), x0, *theta
    )

    @jax.custom_jvp
    def solution(x0: Params, theta: list, options: list) -> Any:
        return solve(x0, *theta, *options)

    @solution.defjvp
    def solution_jvp(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
        if linalg.varying_axes((primals, tangents)):
            raise NotImplementedError(
                "A minimum has no derivatives within jax.shard_map: call minimize outside, on "
                "sharded arrays; or with check_vma=False if each shard has a problem of its own."
            )
        result = solution(*primals)
        (_, theta, _), (_, d_theta, _) = primals, tangents
        dx = _minimum_jvp(objective, has_aux, result.params, theta, d_theta)
        start, along = (result.params, *theta), (dx, *d_theta)
        _, d_out = jax.jvp(objective, start, along)
        d_value, d_aux = d_out if has_aux else (d_out, None)
        return result, jax.tree.map(_no_tangent, result)._replace(
            params=dx, value=d_value, aux=d_aux
        )

    return solution(x0, theta, options)


def _minimum_jvp(
    objective: Callable[..., Any], has_aux: bool, x: Params, theta: list, d_theta: list
) -> Params:
    if not jax.tree.leaves(x):
        return x
    gradient = jax.grad(objective, has_aux=has_aux)
    dtype = trees.scalar_dtype(x)

    def wide(tree: Params) -> Params:
        return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)

    def like_x(tree: Params) -> Params:
        return jax.tree.map(lambda leaf, p: leaf.astype(p.dtype), tree, x)

    def grads(x: Params, theta: list) -> Params:
        return gradient(x, *theta)[0] if has_aux else gradient(x, *theta)

    def hessian_product(v: Params) -> Params:
        return wide(jax.jvp(lambda x: grads(x, theta), (x,), (like_x(v),))[1])

    _, change = jax.jvp(lambda theta: grads(x, theta), (theta,), (d_theta,))
    # JAX transposes a solve only if every leaf of b depends on what it differentiates by.
    change = wide(change)
    nothing = 0.0 * sum(jnp.sum(leaf) for leaf in jax.tree.leaves(change))
    b = jax.tree.map(lambda leaf: nothing - leaf, change)
    small = 1 <= trees.size(x) <= MOST_DENSE and linalg.can_be_raveled(x)
    solve = _solve_dense if small else _solve_by_products
    return like_x(jax.lax.custom_linear_solve(hessian_product, b, solve, symmetric=True))


def _solve_dense(product: Callable[[Params], Params], b: Params) -> Params:
    """By the matrix itself, scaled to a diagonal of 1 and -1, so whatever the units of x are."""
    flat = linalg.ravel(b, trees.scalar_dtype(b))

    def column(unit: Array) -> Array:
        return linalg.ravel(product(linalg.unravel(unit, b)), flat.dtype)

    columns = jax.lax.map(column, jnp.eye(flat.size, dtype=flat.dtype))
    size = jnp.abs(jnp.diagonal(columns))
    scale = 1.0 / jnp.sqrt(linalg.divisor(size))
    scaled = scale[:, None] * (0.5 * (columns + columns.T)) * scale[None, :]
    values, vectors = jnp.linalg.eigh(scaled)
    # Where f is flat x is not determined, and stays.
    least = jnp.finfo(flat.dtype).eps * jnp.max(jnp.abs(values))
    bends = jnp.abs(values) > least
    inverse = jnp.where(bends, 1.0 / jnp.where(bends, values, 1.0), 0.0)
    along = inverse * linalg.matvec(vectors.T, scale * flat)
    return linalg.unravel(scale * linalg.matvec(vectors, along), b)


def _solve_by_products(product: Callable[[Params], Params], b: Params) -> Params:
    """By conjugate gradients, in units of x that make the rows of the matrix alike in length."""
    leaves, structure = jax.tree.flatten(b)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    probes = [
        jax.random.normal(key, (NUM_PROBES, *leaf.shape), leaf.dtype)
        for key, leaf in zip(keys, leaves, strict=True)
    ]

    def times(a: Params, b: Params) -> Params:
        return jax.tree.map(jnp.multiply, a, b)

    def scaled(scale: Params, v: Params) -> Params:
        return times(scale, product(times(scale, v)))

    def even_out(scale: Params, _: None) -> tuple[Params, None]:
        # Ruiz's scaling, with the rows' lengths as random vectors see them.
        rows = jax.lax.map(lambda v: scaled(scale, v), structure.unflatten(probes))
        lengths = jax.tree.map(lambda leaf: jnp.sqrt(jnp.mean(leaf**2, axis=0)), rows)
        return jax.tree.map(lambda s, r: s / jnp.sqrt(linalg.divisor(r)), scale, lengths), None

    ones = jax.tree.map(jnp.ones_like, b)
    scale, _ = jax.lax.scan(even_out, ones, length=NUM_ROUNDS)
    eps = float(jnp.finfo(leaves[0].dtype).eps)
    most = min(10 * trees.size(b), MOST_PRODUCTS)
    found = cg(lambda v: scaled(scale, v), times(scale, b), tol=eps**0.75, maxiter=most)[0]
    return times(scale, found)


def _no_tangent(x: Any) -> Any:
    if jnp.issubdtype(jnp.result_type(x), jnp.inexact):
        return jnp.zeros_like(x)
    return np.zeros(jnp.shape(x), jax.dtypes.float0)
