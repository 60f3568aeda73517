"""Programs of few numbers are one kernel, and compute what they computed before."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.linalg import kernels, one_kernel

ASKED = kernels.ASKED[0] <= jax.__version_info__[:2] <= kernels.ASKED[1]
ASKED &= jax.default_backend() == "cpu"
asked = pytest.mark.skipif(not ASKED, reason="a CPU's compiler alone is asked, before JAX 0.12")


def quotients(x, tree):
    """Of a vector and a tree: several outputs, an integer among them."""
    s = jnp.sum(x**2)
    return {"x": x / (1.0 + s), "norm": jnp.sqrt(s)}, tree["n"] + 1, tree["a"] * s


def arguments():
    return jnp.array([1.0, -2.0, 3.0]), {"n": jnp.int32(4), "a": jnp.array(0.5)}


def bodies(compiled):
    """The instructions of each loop's body, as text."""
    text = compiled.as_text()
    names = re.findall(r"body=%([\w.\-]+)", text)
    return [re.search(rf"\n%{re.escape(name)} .*?\n}}", text, re.DOTALL)[0] for name in names]


@pytest.mark.parametrize("transform", [jax.jit, lambda f: f], ids=["jit", "eager"])
def test_the_values_are_those_of_the_function(transform):
    for ours, theirs in zip(
        jax.tree.leaves(transform(one_kernel(quotients))(*arguments())),
        jax.tree.leaves(quotients(*arguments())),
        strict=True,
    ):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-15)


def test_derivatives_and_batches_are_those_of_the_function():
    x, tree = arguments()
    form = one_kernel(quotients)

    def total(function):
        return lambda x: jnp.sum(function(x, tree)[0]["x"] ** 2) * function(x, tree)[2]

    for derivative in (jax.grad, jax.jacfwd, jax.hessian):
        ours, theirs = (jax.jit(derivative(total(f)))(x) for f in (form, quotients))
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    xs = jnp.stack([x, 2 * x, -x])
    out = jax.jit(jax.vmap(form, (0, None)))(xs, tree)
    assert list(out[1]) == [5, 5, 5]
    for i, row in enumerate(xs):
        np.testing.assert_allclose(out[0]["x"][i], quotients(row, tree)[0]["x"], rtol=1e-15)


def test_many_numbers_and_other_dtypes_are_left_alone():
    form = one_kernel(lambda x: 2 * x)
    for x, small in (
        (jnp.ones(kernels.FEW), True),
        (jnp.ones(kernels.FEW + 1), False),
        (jnp.ones(3, jnp.bfloat16), False),
        (jnp.ones(3, jnp.float32), True),
    ):
        assert ("xla_cpu_small_call" in jax.jit(form).lower(x).as_text()) == (small and ASKED)


@asked
@pytest.mark.parametrize("memory_size", [None, 5, "dense"])
def test_a_turn_of_minimize_is_a_few_kernels(memory_size):
    """A step is one, and what follows another; the rest is the objective and the trajectory."""

    def solve(x0):
        return lp.minimize(
            lambda x: jnp.sum((x - 1.0) ** 4), x0, memory_size=memory_size, max_iters=9
        )

    compiled = jax.jit(solve).lower(jnp.zeros(10)).compile()
    (body,) = bodies(compiled)
    assert len(re.findall(r" call\(", body)) == 2
    assert len(re.findall(r" fusion\(", body)) <= 20  # each operation by itself: 120
    # Where it is not compiled at all nothing is one kernel; there are as many roundings.
    with jax.disable_jit():
        plain = lp.minimize(
            lambda x: jnp.sum((x - 1.0) ** 4), jnp.zeros(10), memory_size=memory_size, max_iters=3
        )
    ours = compiled(jnp.zeros(10)).trajectory.value[:4]
    np.testing.assert_allclose(ours, plain.trajectory.value, rtol=1e-9)
