"""Arithmetic that keeps subnormal numbers, as a GPU's does and XLA's on a CPU does not.

A program is evaluated operation by operation: what computes with floats in NumPy, the rest, which
moves them or is of integers, as JAX does it.
"""

import jax
import numpy as np
from jax.extend import core

_ELEMENTWISE = {
    "mul": np.multiply, "add": np.add, "add_any": np.add, "sub": np.subtract, "div": np.divide,
    "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt, "square": np.square, "sign": np.sign,
    "gt": np.greater, "lt": np.less, "ge": np.greater_equal, "le": np.less_equal, "eq": np.equal,
    "ne": np.not_equal, "max": np.maximum, "min": np.minimum, "is_finite": np.isfinite,
    "exp": np.exp, "log": np.log,
}  # fmt: skip
_REDUCTIONS = {
    "reduce_sum": (np.sum, 0.0), "reduce_max": (np.max, -np.inf), "reduce_min": (np.min, np.inf)
}  # fmt: skip
_CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat")


def evaluate(closed, *args):
    """The results of `jax.make_jaxpr(f)(*args)`, as arrays of NumPy."""
    return _evaluate(closed.jaxpr, closed.consts, *args)


def _evaluate(jaxpr, consts, *args):
    values = dict(zip(jaxpr.constvars, map(np.asarray, consts), strict=True))
    values |= zip(jaxpr.invars, args, strict=True)

    def read(variable):
        return variable.val if isinstance(variable, core.Literal) else values[variable]

    for equation in jaxpr.eqns:
        out = _apply(equation, [np.asarray(read(v)) for v in equation.invars])
        values |= zip(equation.outvars, map(np.asarray, out), strict=True)
    return [np.asarray(read(v)) for v in jaxpr.outvars]


def _apply(equation, x):
    name, params = equation.primitive.name, equation.params
    if name in _ELEMENTWISE:
        return [_ELEMENTWISE[name](*x)]
    if name in _REDUCTIONS:
        reduce, empty = _REDUCTIONS[name]
        return [reduce(x[0], axis=tuple(params["axes"]), initial=empty)]
    if name == "integer_pow":
        return [x[0] ** float(params["y"])]
    if name == "select_n" and len(x) == 3:
        return [np.where(x[0], x[2], x[1])]
    if name == "dot_general":
        contracted, batch = params["dimension_numbers"]
        assert batch == ((), ())
        return [np.tensordot(x[0], x[1], axes=contracted)]
    if name == "cond":
        return evaluate(params["branches"][int(x[0])], *x[1:])
    if name == "optimization_barrier":
        return x
    if name in _CALLS:
        inner = params.get("jaxpr") or params["call_jaxpr"]
        return evaluate(inner, *x) if hasattr(inner, "consts") else _evaluate(inner, (), *x)
    out = equation.primitive.bind(*map(jax.numpy.asarray, x), **params)
    return out if equation.primitive.multiple_results else [out]
