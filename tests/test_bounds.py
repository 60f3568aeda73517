"""Bounds by a change of variables: against SciPy's L-BFGS-B with the bounds themselves."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

import jax_lbfgs_pi as lp
from jax_lbfgs_pi import bounds
from tests import oracles
from tests.marks import some_of

LOW, HIGH = -2.0, 1.5
KINDS = {
    "above": (bounds.above(LOW), [(LOW, None)]),
    "below": (bounds.below(HIGH), [(None, HIGH)]),
    "positive": (bounds.positive(), [(0.0, None)]),
    "interval": (bounds.interval(LOW, HIGH), [(LOW, HIGH)]),
}


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None)
@given(z=st.lists(st.floats(-15, 15), min_size=1, max_size=5))
def test_forward_lies_inside_and_inverse_leads_back(name, z):
    bijection, [(low, high)] = KINDS[name]
    x = bijection.forward(jnp.array(z))
    assert low is None or np.all(x > low)
    assert high is None or np.all(x < high)
    np.testing.assert_allclose(bijection.inverse(x), z, rtol=1e-6, atol=1e-6)


@settings(deadline=None)
@given(z=st.lists(st.floats(-10, 10), min_size=1, max_size=5))
def test_the_simplex(z):
    x = bounds.simplex().forward(jnp.array(z))
    assert x.shape == (len(z) + 1,)
    assert np.all(x > 0)
    np.testing.assert_allclose(jnp.sum(x), 1.0, rtol=1e-12)
    np.testing.assert_allclose(bounds.simplex().inverse(7.0 * x), z, rtol=1e-6, atol=1e-8)


def quadratic(x, data):
    A, c = data
    return 0.5 * (x - c) @ A @ (x - c)


def quadratic_data(seed, n=5):
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(n, n)))[0]
    return basis @ np.diag(np.geomspace(1, 30, n)) @ basis.T, rng.normal(size=n)


PROBLEMS = {
    "quadratic": (quadratic, [quadratic_data(seed) for seed in range(4)]),
    "rosenbrock": (lambda x, _: oracles.rosenbrock(x), [None]),
}


@pytest.mark.parametrize(
    ("kind", "name"), some_of(itertools.product(KINDS, PROBLEMS), quick=range(0, 20, 3))
)
def test_as_low_as_scipy_on_twenty_bounded_problems(kind, name):
    fun, all_data = PROBLEMS[name]
    bijection, box = KINDS[kind]
    start = jnp.full(5, 0.3)
    value_and_grad = jax.jit(jax.value_and_grad(fun))

    @jax.jit
    def solve(z, data):
        # Without a longest step the first may end far out, where nothing leads back from.
        options = {"max_iters": 2000, "max_step": 2.0}
        result = lp.minimize(lambda z: fun(bijection.forward(z), data), z, **options)
        return fun(bijection.forward(result.params), data)

    for data in all_data:
        value = float(solve(bijection.inverse(start), data))
        reference = scipy.optimize.minimize(
            lambda x, d=data: jax.tree.map(np.asarray, value_and_grad(x, d)), np.asarray(start),
            jac=True, method="L-BFGS-B", bounds=box * 5, options={"ftol": 1e-15, "gtol": 1e-10},
        )  # fmt: skip
        f0 = float(value_and_grad(start, data)[0])
        assert value <= reference.fun + 1e-6 * (f0 - reference.fun)


def test_a_mixture_on_the_simplex_is_the_one_of_em():
    """The best shares of a mixture of known components, by expectation maximization."""
    rng = np.random.default_rng(0)
    likelihoods = rng.gamma(1.0, size=(200, 4))
    shares = np.full(4, 0.25)
    for _ in range(5000):
        joint = likelihoods * shares
        shares = np.mean(joint / joint.sum(1, keepdims=True), axis=0)
    space = bounds.simplex()
    result = lp.minimize(
        lambda z: -jnp.mean(jnp.log(likelihoods @ space.forward(z))), space.inverse(np.ones(4))
    )
    np.testing.assert_allclose(space.forward(result.params), shares, atol=2e-5)


def test_trees_of_bijections():
    space = bounds.tree(
        {"rate": bounds.positive(), "both": bounds.interval(0.0, 1.0), "free": None}
    )
    start = {
        "rate": jnp.array(2.0),
        "both": (jnp.array(0.1), jnp.array([0.5])),
        "free": jnp.ones(2),
    }
    z = space.inverse(start)
    np.testing.assert_allclose(z["rate"], np.log(2.0))
    np.testing.assert_allclose(z["both"][0], np.log(0.1 / 0.9))
    np.testing.assert_array_equal(z["free"], start["free"])
    for got, want in zip(jax.tree.leaves(space.forward(z)), jax.tree.leaves(start), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)
    target = {"rate": 3.0, "both": (0.4, 0.9), "free": -1.0}

    def f(p):
        return sum(
            jnp.sum((x - c) ** 2) for x, c in zip(*map(jax.tree.leaves, (p, target)), strict=True)
        )

    result = jax.jit(lambda z: lp.minimize(lambda z: f(space.forward(z)), z))(z)
    for got, want in zip(
        jax.tree.leaves(space.forward(result.params)), jax.tree.leaves(target), strict=True
    ):
        np.testing.assert_allclose(got, np.broadcast_to(want, np.shape(got)), atol=1e-6)


def test_trees_of_something_else():
    for leaf in ((0.0, 1.0), bounds.positive):
        with pytest.raises(TypeError, match=r"needs a Bijection, such as bounds\.positive\(\)"):
            bounds.tree({"rate": leaf, "shift": None})
    space = bounds.tree({"rate": bounds.positive(), "shift": None})
    for move in space:
        for params in ({"rate": 1.0}, [1.0, 2.0], 1.0):
            with pytest.raises(ValueError, match="must have the structure of their bounds"):
                move(params)


def test_an_interval_that_is_made_under_jit():
    found = jax.jit(lambda z: bounds.interval(0.0, 1.0).forward(z))(jnp.array(0.0))
    np.testing.assert_allclose(found, 0.5)


@pytest.mark.parametrize("box", [(0.0, np.inf), (-np.inf, 0.0), (-np.inf, np.inf)])
def test_an_interval_without_an_end(box):
    with pytest.raises(ValueError, match=r"take bounds\.above or bounds\.below"):
        bounds.interval(*box)


def test_starts_outside_and_empty_intervals():
    for bijection, x in (
        (bounds.positive(), [1.0, 0.0]),
        (bounds.interval(0.0, 1.0), 1.0),
        (bounds.below(3.0), 4.0),
        (bounds.simplex(), [0.5, 0.5, 0.0]),
    ):
        with pytest.raises(ValueError, match="A start must lie"):
            bijection.inverse(x)
    with pytest.raises(ValueError, match="low < high"):
        bounds.interval(1.0, 1.0)
