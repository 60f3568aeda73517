import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats

from jax_lbfgs_pi.suite.families import FAMILIES, LARGE
from jax_lbfgs_pi.suite.families.base import log_uniform, reflections, rotate, rotate_back
from jax_lbfgs_pi.suite.families.likelihoods import normal_energy

NUM = 20
# One of each module in `make test`; all in `make test-slow`, as each is compiled for itself.
FEW = {
    "contraction-4",
    "quadratic-10", "curve-exponentials", "rosenbrock-chain-6", "powell-blocks-4", "penalty-10",
    "classifier-tanh", "classifier-wide-sigmoid", "network-ode", "completion", "logistic-10",
    "double-wells-20", "morse-4", "weibull", "gaussian-process",
}  # fmt: skip
each_family = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in FEW else pytest.mark.slow) for n in FAMILIES]
)


def test_the_few_are_families():
    assert set(FAMILIES) >= FEW
    assert len(FAMILIES) >= 50


# Compiling takes most of the time.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@functools.cache
def evaluator(name):
    """Values and slopes of twenty problems: all tests of a family share one compilation."""
    return jax.jit(jax.vmap(jax.value_and_grad(FAMILIES[name].loss)), compiler_options=QUICK)


@functools.cache
def draws(name):
    """Twenty problems, and their values and slopes at x0, made once for all tests."""
    family = FAMILIES[name]
    # Quick to compile, unlike draws from the default keys.
    keys = jax.random.split(jax.random.key(0, impl="unsafe_rbg"), NUM)
    x0, data = jax.jit(jax.vmap(family.sample), compiler_options=QUICK)(keys)
    f, g = evaluator(name)(x0, data)
    return np.asarray(x0), jax.tree.map(np.asarray, data), np.asarray(f), np.asarray(g)


def one(name, i=0):
    x0, data, f, _ = draws(name)
    return x0[i], jax.tree.map(lambda leaf: leaf[i], data), f[i]


@each_family
def test_draws_are_finite_and_differ(name):
    x0, data, f, g = draws(name)
    assert x0.shape == g.shape == (NUM, x0.shape[1])
    assert 2 <= x0.shape[1] <= 400
    assert x0.dtype == f.dtype == np.float64
    assert np.isfinite(x0).all()
    assert np.isfinite(f).all()
    assert np.isfinite(g).all()
    assert (np.linalg.norm(g, axis=1) > 0).all()
    assert len(set(f)) == NUM
    assert len({row.tobytes() for row in x0}) == NUM
    stacked = np.concatenate([leaf.reshape(NUM, -1) for leaf in jax.tree.leaves(data)], axis=1)
    assert len({row.tobytes() for row in stacked}) == NUM  # not the starting points alone


@each_family
def test_gradients_are_those_of_finite_differences(name):
    x0, data, _, g = draws(name)
    rng = np.random.default_rng(0)
    # Relative to each variable, as the families differ in the variables' sizes.
    direction = rng.normal(size=x0.shape) * (np.abs(x0) + 1e-3 * np.abs(x0).max(1, keepdims=True))
    h = 1e-4

    def along(t):
        return np.asarray(evaluator(name)(x0 + t * direction, data)[0])

    slope = (8 * (along(h) - along(-h)) - along(2 * h) + along(-2 * h)) / (12 * h)
    size = np.linalg.norm(g * direction, axis=1)
    np.testing.assert_allclose(slope, np.sum(g * direction, axis=1), atol=1e-5 * size.max())
    np.testing.assert_array_less(np.abs(slope - np.sum(g * direction, axis=1)), 1e-3 * size)


@pytest.mark.parametrize(
    "name", ["scaled-quartic-10", "powell-blocks-16", "morse-5", "weibull", "gaussian-process"]
)
def test_single_precision_is_finite_too(name):
    x0, data, f, _ = draws(name)

    def narrow(leaf):
        return leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf

    value, slope = evaluator(name)(narrow(x0), jax.tree.map(narrow, data))
    assert value.dtype == slope.dtype == np.float32
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(value, f, rtol=1e-2, atol=1e-2)


@each_family
def test_scipy_lowers_draws(name):
    x0, data, f, _ = draws(name)
    for i in range(3):

        def function(x, i=i):
            rows = x0.copy()
            rows[i] = x
            value, slope = evaluator(name)(rows, data)
            return float(value[i]), np.asarray(slope[i])

        with np.errstate(all="ignore"):
            result = scipy.optimize.minimize(
                function, x0[i], jac=True, method="L-BFGS-B", options={"maxiter": 10}
            )
        assert result.fun < f[i]


@pytest.mark.parametrize("name", ["rosenbrock-chain-2", "curve-michaelis-menten"])
def test_the_default_keys_work_and_a_key_is_a_problem(name):
    family = FAMILIES[name]
    keys = jax.random.split(jax.random.key(3), 2)
    x0, data = jax.jit(jax.vmap(family.sample))(keys)
    alone, own = jax.jit(family.sample)(keys[1])
    np.testing.assert_allclose(alone, x0[1], rtol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[1], rtol=1e-10), own, data)


def test_names_are_those_of_the_families():
    assert all(family.name == name for name, family in FAMILIES.items())
    assert len(FAMILIES) >= 45
    starts = {n: jax.eval_shape(f.sample, jax.random.key(0))[0] for n, f in FAMILIES.items()}
    assert {name for name, x0 in starts.items() if x0.size > 60} == set(LARGE)


def test_reflections_are_orthogonal():
    normals = reflections(jax.random.key(1), 7)
    Q = jax.vmap(lambda x: rotate(normals, x))(jnp.eye(7))
    np.testing.assert_allclose(Q @ Q.T, np.eye(7), atol=1e-14)
    assert np.abs(Q - np.diag(np.diag(Q))).max() > 0.1
    x = jax.random.normal(jax.random.key(2), (7,))
    np.testing.assert_allclose(rotate_back(normals, rotate(normals, x)), x, rtol=1e-12)


def test_log_uniform_draws():
    draw = np.log10(log_uniform(jax.random.key(0), 1e-3, 1e5, (4000,)))
    assert draw.min() >= -3
    assert draw.max() <= 5
    assert abs(draw.mean() - 1) < 0.1
    assert abs(draw.std() - 8 / np.sqrt(12)) < 0.1


def test_quadratics_have_the_spectrum_they_say():
    x0, data, f = one("quadratic-10", 2)
    H = np.asarray(jax.hessian(FAMILIES["quadratic-10"].loss)(x0, data))
    np.testing.assert_allclose(np.linalg.eigvalsh(H), np.sort(data["eigenvalues"]), rtol=1e-6)
    step = x0 - data["center"]
    np.testing.assert_allclose(0.5 * step @ H @ step + data["least"], f, rtol=1e-10)
    least = draws("quadratic-10")[1]["least"]
    assert 0 < np.sum(least == 0) < NUM
    spread = draws("quadratic-40")[1]["eigenvalues"]
    spread = np.log10(spread.max(1) / spread.min(1))
    assert spread.min() < 2
    assert 5 < spread.max() <= 8


def test_rosenbrock_chain_against_a_loop():
    x, data, f = one("rosenbrock-chain-6")
    total = 0.0
    for i in range(5):
        total += data["steep"][i] * (x[i + 1] - data["bend"][i] * x[i] ** 2) ** 2
        total += (x[i] - data["target"][i]) ** 2
    np.testing.assert_allclose(f, total, rtol=1e-12)


def test_morse_cluster_against_a_loop():
    x, data, f = one("morse-5")
    points, total = x.reshape(5, 3), 0.0
    for i in range(5):
        for j in range(5):
            if i != j:
                r = np.linalg.norm(points[i] - points[j])
                rise = np.exp(-data["stiffness"] * (r / data["bond"] - 1))
                total += 0.5 * data["depths"][i, j] * ((rise - 1) ** 2 - 1)
    np.testing.assert_allclose(f, total, rtol=1e-6)


def test_gamma_and_negative_binomial_and_student_against_scipy():
    """Up to what does not depend on x."""

    def offsets(name, log_likelihood):
        x0, data, _ = one(name)
        points = [x0, x0 + 0.1, x0 - np.linspace(0, 0.3, x0.size)]
        loss = FAMILIES[name].loss
        values = [float(loss(x, data)) - 0.5e-3 * x @ x for x in points]
        return np.array(
            [v + np.mean(log_likelihood(x, data)) for v, x in zip(values, points, strict=True)]
        )

    def gamma(x, data):
        shape, mean = np.exp(x[0]), np.exp(data["X"] @ x[1:])
        return scipy.stats.gamma.logpdf(np.exp(data["logs"]), shape, scale=mean / shape)

    def counts(x, data):
        size, mean = np.exp(x[0]), np.exp(data["X"] @ x[1:])
        return scipy.stats.nbinom.logpmf(data["counts"], size, size / (size + mean))

    def student(x, data):
        r = data["y"] - data["X"] @ x[2:]
        return scipy.stats.t.logpdf(r, np.exp(x[1]), scale=np.exp(x[0]))

    for name, log_likelihood in [
        ("gamma", gamma), ("negative-binomial", counts), ("student-t", student),
    ]:  # fmt: skip
        shift = offsets(name, log_likelihood)
        np.testing.assert_allclose(shift, shift[0], rtol=1e-9, err_msg=name)


def test_normal_energy_and_its_derivatives():
    rng = np.random.default_rng(0)
    B, y = rng.normal(size=(6, 6)), rng.normal(size=6)
    K = B @ B.T + np.eye(6)
    expected = -scipy.stats.multivariate_normal.logpdf(y, np.zeros(6), K) - 3 * np.log(2 * np.pi)
    np.testing.assert_allclose(normal_energy(K, y), expected, rtol=1e-12)

    def plain(K, y):
        return 0.5 * y @ jnp.linalg.solve(K, y) + 0.5 * jnp.linalg.slogdet(K)[1]

    slopes = [jax.grad(f, (0, 1))(K, y) for f in (normal_energy, plain)]
    for mine, theirs in zip(*slopes, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10)


def test_the_network_solves_its_equation():
    """The residual that the loss squares, with derivatives by finite differences."""
    x, data, f = one("network-ode")

    def u(t):
        inner = np.tanh(t[:, None] * x[:10] + x[10:20])
        return inner @ x[20:30] + x[30]

    t, h = data["t"], 1e-4
    curvature = (u(t + h) - 2 * u(t) + u(t - h)) / h**2
    r = -curvature + data["linear"] * u(t) + data["cubic"] * u(t) ** 3 - data["force"]
    ends = u(t)[[0, -1]] - data["ends"]
    np.testing.assert_allclose(f, np.mean(r**2) + data["weight"] * ends @ ends, rtol=1e-4)
