import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import sklearn.metrics
from jax.flatten_util import ravel_pytree

from jax_lbfgs_pi.suite import (
    dynamics,
    gaussian_process,
    generalized_linear,
    image_networks,
    inverse_design,
    matrix_factors,
    physics_informed,
)
from jax_lbfgs_pi.suite.problem import REGISTRY

NUM = {
    "digits-relu": 5, "digits-tanh": 5, "digits-sigmoid": 5,
    "logistic-cancer": 4, "logistic-cancer-raw": 4, "softmax-wine": 4, "poisson-diabetes": 4,
    "gp-diabetes": 4, "gp-sine": 4,
    "pinn-poisson": 4, "pinn-burgers": 4, "pinn-wave": 4,
    "matrix-factorisation": 4, "matrix-completion": 4,
    "control-pendulum": 4, "control-fishing": 4, "ode-epidemic": 4, "ode-lotka-volterra": 4,
    "diffusion-identification": 4, "film-design": 4, "curve-spectrum": 4,
}  # fmt: skip
IMAGES = {"mnist-1x20": 10, "mnist-2x400": 10, "mnist-4x800": 3, "cifar-cnn": 5}


def check(problem, rtol=1e-3):
    """Finite at x0, and the slope along a direction that of finite differences."""
    for leaf in jax.tree.leaves((problem.x0, problem.data)):
        assert isinstance(leaf, np.ndarray)
        assert leaf.dtype in (np.float64, np.int32)
    assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(problem.x0))
    f, g = jax.jit(jax.value_and_grad(problem.loss))(problem.x0, problem.data)
    g = ravel_pytree(g)[0]
    x0, unravel = ravel_pytree(problem.x0)
    assert np.isfinite(f)
    assert np.isfinite(g).all()
    rng = np.random.default_rng(0)
    # Relative to each variable, as in some problems they differ in size.
    direction = rng.normal(size=x0.size) * (np.abs(x0) + 1e-2 * np.abs(x0).max())
    data = jax.tree.map(jnp.asarray, problem.data)  # inside, as in a run, an array of JAX
    loss, h = jax.jit(lambda x: problem.loss(unravel(x), data)), 1e-5
    slope = (loss(x0 + h * direction) - loss(x0 - h * direction)) / (2 * h)
    np.testing.assert_allclose(slope, g @ direction, rtol=rtol, atol=1e-5 * abs(f))


@pytest.mark.parametrize("kind", NUM)
def test_bundled_problems(kind):
    names = REGISTRY.names([kind])
    assert names == [f"{kind}-{i}" for i in range(NUM[kind])]
    first, last = REGISTRY.make(names[0]), REGISTRY.make(names[-1])
    check(first)
    assert (ravel_pytree(first.x0)[0] != ravel_pytree(last.x0)[0]).all()
    again = REGISTRY.make(names[0])
    jax.tree.map(np.testing.assert_array_equal, (again.x0, again.data), (first.x0, first.data))
    assert first.loss == last.loss  # one compilation serves the kind, where shapes agree


@pytest.mark.parametrize("kind", ["mnist-1x20", "mnist-2x400"])
def test_mnist_problems(kind, mnist_dir):
    names = REGISTRY.names([kind])
    assert len(names) == IMAGES[kind]
    first, last = REGISTRY.make(names[0]), REGISTRY.make(names[-1])
    assert first.data["images"].shape == (1000, 28, 28, 1)
    assert not np.array_equal(first.data["labels"], last.data["labels"])
    if kind == "mnist-1x20":
        check(first)


def test_cifar_problems(cifar_dir):
    problem = REGISTRY.make("cifar-cnn-4")
    assert problem.data["images"].shape == (100, 32, 32, 3)
    check(problem, rtol=1e-2)  # kinks of its ReLUs lie within the differences


def test_digits_network_against_a_plain_forward_pass():
    problem = REGISTRY.make("digits-tanh-1")
    x, data = problem.x0, problem.data
    assert data["images"].shape == (300, 64)
    assert data["images"].max() == 1.0
    inner = np.tanh(data["images"] @ x["W1"] + x["b1"])
    probabilities = scipy.special.softmax(inner @ x["W2"] + x["b2"], axis=1)
    expected = sklearn.metrics.log_loss(data["labels"], probabilities, labels=range(10))
    expected += 0.5e-4 * sum(np.sum(leaf**2) for leaf in x.values())
    np.testing.assert_allclose(problem.loss(x, data), expected, rtol=1e-10)
    assert image_networks.DigitsNetwork("relu") != image_networks.DigitsNetwork("tanh")


def test_logistic_and_softmax_regression_against_scikit_learn():
    problem = REGISTRY.make("logistic-cancer-2")
    x, data = problem.x0, problem.data
    p = scipy.special.expit(data["X"] @ x)
    expected = sklearn.metrics.log_loss(data["z"] > 0, p) + 0.5e-3 * x @ x
    np.testing.assert_allclose(problem.loss(x, data), expected, rtol=1e-10)
    problem = REGISTRY.make("softmax-wine-0")
    x, data = problem.x0, problem.data
    p = scipy.special.softmax(data["X"] @ x, axis=1)
    expected = sklearn.metrics.log_loss(data["hits"].argmax(1), p) + 0.5e-4 * np.sum(x**2)
    np.testing.assert_allclose(problem.loss(x, data), expected, rtol=1e-10)
    X = generalized_linear.standardized(np.random.default_rng(0).uniform(size=(20, 3)))
    np.testing.assert_allclose(X[:, 1:].std(0), 1.0)
    np.testing.assert_allclose(X[:, 1:].mean(0), 0.0, atol=1e-12)


def test_poisson_regression_against_scipy():
    problem = REGISTRY.make("poisson-diabetes-1")
    x, data = problem.x0, problem.data
    eta = data["X"] @ x
    each = scipy.stats.poisson.logpmf(data["counts"], np.exp(eta))
    expected = -np.mean(each + scipy.special.gammaln(data["counts"] + 1)) + 0.5e-5 * x @ x
    np.testing.assert_allclose(problem.loss(x, data), expected, rtol=1e-10)


@pytest.mark.parametrize("kind", ["gp-diabetes", "gp-sine"])
def test_marginal_likelihoods_against_scipy(kind):
    problem = REGISTRY.make(f"{kind}-0")
    x, data = problem.x0, problem.data
    if kind == "gp-diabetes":
        d = data["squares"] * np.exp(-2 * x[1:-1])
        K = np.exp(2 * x[0]) * np.exp(-0.5 * d.sum(axis=2))
        np.testing.assert_allclose(
            gaussian_process.ard_kernel(x, data["squares"]),
            K + (np.exp(2 * x[-1]) + 1e-6) * np.eye(100), rtol=1e-10,
        )  # fmt: skip
    else:
        lag, s = data["lags"], np.exp(x)
        K = s[0] ** 2 * np.exp(-0.5 * (lag / s[1]) ** 2)
        waves = np.sin(np.pi * lag / s[5]) / s[4]
        K = K + s[2] ** 2 * np.exp(-0.5 * (lag / s[3]) ** 2) * np.exp(-2 * waves**2)
    K = K + (np.exp(2 * x[-1]) + 1e-6) * np.eye(len(K))
    expected = -scipy.stats.multivariate_normal.logpdf(data["y"], np.zeros(len(K)), K)
    np.testing.assert_allclose(problem.loss(x, data), expected, rtol=1e-9)


@pytest.mark.parametrize("kind", ["pinn-poisson", "pinn-burgers", "pinn-wave"])
def test_slopes_of_networks_are_those_of_finite_differences(kind):
    problem = REGISTRY.make(f"{kind}-1")
    u = functools.partial(physics_informed.network, problem.x0)
    p, h = jnp.asarray(problem.data["inside"]), 1e-4
    for axis in range(2):
        step = h * np.eye(2)[axis][None, :]
        first, second = physics_informed.slopes(u, p, axis)
        np.testing.assert_allclose(first, (u(p + step) - u(p - step)) / (2 * h), atol=1e-6)
        bend = (u(p + step) - 2 * u(p) + u(p - step)) / h**2
        np.testing.assert_allclose(second, bend, atol=1e-5)


def test_poisson_equation_has_the_solution_it_was_made_from(monkeypatch):
    """A loss of zero for the sum of waves in place of a network."""
    problem = REGISTRY.make("pinn-poisson-2")
    rng = np.random.default_rng((41, 2))
    rng.uniform(size=(250, 2)), rng.uniform(size=(60, 2))
    modes = rng.normal(size=(2, 2))

    def waves(params, p):
        x, y = (jnp.sin(jnp.pi * p[:, i : i + 1] * jnp.array([[1.0, 2.0]])) for i in range(2))
        return jnp.sum((x @ (modes / 4)) * y, axis=1)

    monkeypatch.setattr(physics_informed, "network", waves)
    np.testing.assert_allclose(problem.loss(problem.x0, problem.data), 0.0, atol=1e-20)


def test_matrix_factors_against_numpy():
    problem = REGISTRY.make("matrix-completion-0")
    x, data = problem.x0, problem.data
    assert 0.4 < data["mask"].mean() < 0.6
    known = data["mask"] > 0
    error = (x["U"] @ x["V"].T - data["A"])[known]
    expected = 0.5 * error @ error + 0.005 * (np.sum(x["U"] ** 2) + np.sum(x["V"] ** 2))
    np.testing.assert_allclose(matrix_factors.factor_loss(x, data), expected, rtol=1e-12)


def test_simulations_against_scipy():
    """Runge-Kutta's error is small beside what it simulates, with controls and without."""
    rng = np.random.default_rng(0)
    cases = [
        (dynamics.pendulum, np.array([0.2, 0.0]), np.array(0.1), 0.05),
        (dynamics.fishing, np.array([0.5, 0.7]), np.array([0.4, 0.2]), 0.1),
        (dynamics.epidemic, np.array([0.99, 0.01]), np.array([0.6, 0.2]), 0.5),
        (dynamics.lotka_volterra, np.array([1.2, 0.6]), np.array([1.0, 0.8, 0.9, 1.1]), 0.1),
    ]
    for field, start, constants, dt in cases:
        controls, y = 0.5 * rng.uniform(size=12), start
        mine = dynamics.simulate(field, jnp.asarray(start), jnp.asarray(controls), constants, dt)
        for i in range(12):
            result = scipy.integrate.solve_ivp(
                lambda t, y, u=controls[i], field=field, constants=constants: np.asarray(
                    field(jnp.asarray(y), jnp.asarray(u), constants)
                ),
                (0, dt), y, rtol=1e-9, atol=1e-11,
            )  # fmt: skip
            y = result.y[:, -1]
            np.testing.assert_allclose(mine[i], y, rtol=2e-5)


def test_diffusion_against_an_exact_solution():
    q = np.ones((31, 1))
    t = np.arange(1, 32) / 32
    u = inverse_design.diffuse(np.full(32, np.log(2.0)), q)[:, 0]
    np.testing.assert_allclose(u, t * (1 - t) / 4, rtol=1e-9)


def test_reflectance_against_complex_matrices():
    d, n, w = np.array([0.06, 0.1, 0.08]), np.array([2.3, 1.45, 2.3]), np.array([0.4, 0.55])
    for wavelength, r in zip(w, inverse_design.reflectance(d, n, w, np.array(1.52)), strict=True):
        M = np.eye(2, dtype=complex)
        for thickness, index in zip(d, n, strict=True):
            p = 2 * np.pi * index * thickness / wavelength
            M = M @ [[np.cos(p), 1j * np.sin(p) / index], [1j * index * np.sin(p), np.cos(p)]]
        B, C = M @ [1.0, 1.52]
        np.testing.assert_allclose(r, abs((B - C) / (B + C)) ** 2, rtol=1e-10)
