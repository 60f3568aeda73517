"""The derivative of a solution: by the implicit function theorem, whatever led there."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg

from jax_lbfgs_pi import trees
from jax_lbfgs_pi.trees import Params

MOST_PRODUCTS = 1000
"""The conjugate gradients of one derivative make at most so many Hessian-vector products."""


def differentiable(
    run: Callable[[Callable[[Params], Any], Params], Any],
    fun: Callable[[Params], Any],
    x0: Params,
    *,
    has_aux: bool,
) -> Any:
    """`run(fun, x0)`, with derivatives with respect to all that `fun` closes over.

    At a minimum x of f(·, θ) the gradient is 0, so `H dx = -(∂²f/∂x∂θ) dθ`. The system is solved by
    conjugate gradients on Hessian-vector products, which asks for a positive definite H. Forward
    and reverse mode, and higher derivatives. What is no function of x alone (the trajectory, the
    gradient norm) has the derivative 0, and so has everything with respect to x0 and to the
    options: the minimum does not depend on them.

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
    gradient = jax.grad(objective, has_aux=has_aux)

    def grads(x: Params, theta: list) -> Params:
        return gradient(x, *theta)[0] if has_aux else gradient(x, *theta)

    def hessian_product(v: Params) -> Params:
        return jax.jvp(lambda x: grads(x, theta), (x,), (v,))[1]

    _, change = jax.jvp(lambda theta: grads(x, theta), (theta,), (d_theta,))
    tol = float(jnp.finfo(trees.scalar_dtype(x)).eps) ** 0.75
    most = min(10 * trees.size(x), MOST_PRODUCTS)

    def solve(product: Callable[[Params], Params], b: Params) -> Params:
        return cg(product, b, tol=tol, maxiter=most)[0]

    # JAX transposes a solve only if every leaf of b depends on what it differentiates by.
    nothing = 0.0 * sum(jnp.sum(leaf) for leaf in jax.tree.leaves(change))
    b = jax.tree.map(lambda leaf: (nothing - leaf).astype(leaf.dtype), change)
    return jax.lax.custom_linear_solve(hessian_product, b, solve, symmetric=True)


def _no_tangent(x: Any) -> Any:
    if jnp.issubdtype(jnp.result_type(x), jnp.inexact):
        return jnp.zeros_like(x)
    return np.zeros(jnp.shape(x), jax.dtypes.float0)
