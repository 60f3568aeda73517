"""Far past convergence, where squares are subnormal: 0 on a CPU, and numbers on a GPU."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi import linalg
from tests.marks import some_of
from tests.subnormal import evaluate

STEPS = 140
X0 = {"w": np.array([[1.0, -2.0], [0.5, 3.0]]), "b": np.array(0.3)}


def loss(x):
    scales = jnp.array([[1.0, 5.0], [10.0, 2.0]])
    return 0.5 * jnp.sum(scales * x["w"] ** 2) + jnp.log(jnp.cosh(x["b"]))


def test_the_oracle_keeps_what_jax_flushes():
    def f(x):
        return jnp.sum(x * x), 1.0 / x[0], x @ x

    x = np.array([3e-160, 1e-200])
    total, inverse, product = evaluate(jax.make_jaxpr(f)(x), x)
    np.testing.assert_array_equal([total, product], 3e-160**2)
    assert 0 < total < np.finfo(float).tiny
    assert inverse == 1 / 3e-160
    x = np.array([1.5, -2.0])
    np.testing.assert_allclose(evaluate(jax.make_jaxpr(f)(x), x), f(x), rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_number_is_positive_if_it_can_be_divided_by(dtype):
    tiny, top = np.finfo(dtype).tiny, np.finfo(dtype).max
    x = np.array([-top, -tiny, -tiny / 2, 0.0, tiny / 8, tiny, 1.0, top, np.inf, np.nan], dtype)
    positive, nonzero = (
        evaluate(jax.make_jaxpr(f)(x), x)[0] for f in (linalg.positive, linalg.nonzero)
    )
    np.testing.assert_array_equal(positive, [False] * 5 + [True] * 4 + [False])
    np.testing.assert_array_equal(nonzero, [True] * 2 + [False] * 3 + [True] * 4 + [False])


@pytest.mark.parametrize(
    ("memory_size", "guard"),
    some_of([(10, None), ("full", lp.Guard()), ("dense", None)], quick=(1,)),
)
def test_steps_past_convergence_stay_finite(memory_size, guard):
    tx = lp.lbfgs_pi("unit", memory_size=memory_size, guard=guard)
    flat, structure = jax.tree.flatten((X0, tx.init(jax.tree.map(jnp.asarray, X0))))

    def step(*flat):
        x, state = structure.unflatten(flat)
        value, grads = jax.value_and_grad(loss)(x)
        updates, state = tx.update(grads, state, x, value=value)
        return [*jax.tree.leaves((optax.apply_updates(x, updates), state)), optax.tree.norm(grads)]

    program = jax.make_jaxpr(step)(*flat)
    flat, norms = [np.asarray(leaf) for leaf in flat], []
    with np.errstate(all="ignore"):
        for _ in range(STEPS):
            *flat, norm = evaluate(program, *flat)
            norms.append(float(norm))
    assert np.isfinite(norms).all()
    assert norms[-1] < 2e-154  # whose square is below the least normal number
    assert all(np.isfinite(leaf).all() for leaf in flat[: len(X0)])
