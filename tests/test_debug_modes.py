"""JAX's debugging modes are there to find the user's faults, and meet none of ours."""

import contextlib
import itertools

import jax
import jax.numpy as jnp
import optax
import pytest

import jax_lbfgs_pi as lp
from tests.marks import some_of


def mode(name, value):
    @contextlib.contextmanager
    def context():
        before = getattr(jax.config, name)
        jax.config.update(name, value)
        try:
            yield
        finally:
            jax.config.update(name, before)

    return context


MODES = {
    "debug_nans": mode("jax_debug_nans", True),
    "debug_infs": mode("jax_debug_infs", True),
    "checking_leaks": jax.checking_leaks,
    "disable_jit": jax.disable_jit,
    "strict promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "strict ranks": lambda: jax.numpy_rank_promotion("raise"),
}
OPTIONS = {
    "default": {},
    "window": {"memory_size": 20},
    "dense": {"memory_size": "dense"},
    "paper's": {"policy": "paper-mnist"},
}


def f(p):
    wide = p["b"].dtype
    a = p["a"].astype(wide)
    return jnp.sum((a - 1.0) ** 2 * jnp.array([[1.0, 3.0]], wide)) + (p["b"] - 2.0) ** 2


def start(dtype_a, dtype_b):
    return {"a": jnp.zeros((1, 2), dtype_a), "b": jnp.zeros((), dtype_b)}


STARTS = {
    "float64": (jnp.float64, jnp.float64),
    "mixed": (jnp.bfloat16, jnp.float32),  # and float32 beside a float64 that x64 makes the default
}


def loop(options, p, num_steps, compiled):
    tx = lp.lbfgs_pi(**options)

    def step(p, state):
        value, grads = jax.value_and_grad(f)(p)
        updates, state = tx.update(grads, state, p, value=value)
        return optax.apply_updates(p, updates), state

    step = jax.jit(step) if compiled else step
    state = tx.init(p)
    for _ in range(num_steps):
        p, state = step(p, state)
    return f(p)


@pytest.mark.parametrize("dtypes", ["float64", pytest.param("mixed", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("options", "name"),
    some_of(itertools.product(OPTIONS, MODES), quick=(0, 1, 2, 3, 4, 5, 10)),
)
def test_the_transformation_under(name, options, dtypes):
    p = start(*STARTS[dtypes])
    with MODES[name]():
        assert loop(OPTIONS[options], p, 20, compiled=name not in ("disable_jit",)) < 2e-2


@pytest.mark.parametrize("dtypes", ["mixed"])
@pytest.mark.parametrize(
    ("memory", "name"), some_of(itertools.product([20, "full"], MODES), quick=(0, 2, 10))
)
def test_minimize_under(name, memory, dtypes):
    p = start(*STARTS[dtypes])
    options = {"max_iters": 4 if name == "disable_jit" else 30, "memory_size": memory}
    tol = lp.Stopping(gtol=1e-2, rel_gtol=1e-9, ftol=1e-12, target=-1.0)
    with MODES[name]():
        result = lp.minimize(f, p, tol=tol, **options)
        assert float(result.value) < 2e-2
        mapped = jax.vmap(lambda b: lp.minimize(f, {**p, "b": b}, tol=tol, **options))
        assert mapped(jnp.arange(2.0, dtype=p["b"].dtype)).value.shape == (2,)


@pytest.mark.parametrize("name", ["debug_nans", "debug_infs"])
def test_updates_that_are_not_compiled_under(name):
    with MODES[name]():
        assert loop({}, start(jnp.float64, jnp.float64), 8, compiled=False) < 1e-2
