import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lbfgs_pi as lp
from tests import oracles


def products_of(V):
    return lp.inner_products(*(jnp.array(column) for column in V.T))


def descent_vectors(rng, n=7):
    """Random [d g s y] with dᵀg < 0."""
    V = rng.normal(size=(n, 4))
    if V[:, 0] @ V[:, 1] > 0:
        V[:, 0] *= -1
    return V


def test_features_are_the_logs_of_the_signed_gram_matrix():
    V = np.random.default_rng(0).normal(size=(7, 4))
    X = V.T @ V
    X[np.triu_indices(4, 1)] *= -1
    expected = np.log(np.maximum(X, 1e-8)).ravel()
    np.testing.assert_allclose(lp.log_features(products_of(V)), expected, rtol=1e-12)
    assert np.sum(expected > np.log(1e-8)) == 10  # four norms, and one sign of each product


def test_first_step_features_sit_at_the_floor():
    """S = y = 0 before the first step."""
    V = np.random.default_rng(1).normal(size=(5, 4))
    V[:, 2:] = 0.0
    features = np.asarray(lp.log_features(products_of(V))).reshape(4, 4)
    np.testing.assert_array_equal(features[2:], np.log(1e-8))
    np.testing.assert_array_equal(features[:, 2:], np.log(1e-8))


def test_policy_equals_the_plain_formula():
    rng = np.random.default_rng(2)
    inside = 0
    for seed in range(20):
        policy = lp.init_policy(jax.random.key(seed))
        V = rng.normal(size=(6, 4)) * 10.0 ** rng.uniform(-2, 2, size=4)
        theta = jax.tree.map(np.asarray, policy.params)["params"]
        tau = oracles.log_step(theta, V, -3.0, 0.0)
        np.testing.assert_allclose(policy(products_of(V)), np.exp(tau), rtol=1e-10)
        inside += -3.0 < tau < 0.0
    assert inside > 3


def test_it_has_204_parameters_initialised_as_torch_does():
    policy = lp.init_policy(jax.random.key(0))
    leaves = jax.tree.leaves(policy.params)
    assert sum(leaf.size for leaf in leaves) == 204
    values = np.concatenate([np.ravel(leaf) for leaf in leaves])
    assert np.abs(values).max() <= 0.25
    # U(-1/4, 1/4) has standard deviation 1/(2√12) · 1 = 0.144, here to within 4 standard errors.
    assert abs(values.std() - 0.25 / np.sqrt(3)) < 0.02


def test_cosine_policy_returns_the_cosine():
    rng = np.random.default_rng(3)
    policy = lp.cosine_policy()
    tested = 0
    for _ in range(50):
        V = descent_vectors(rng)
        d, g = V[:, 0], V[:, 1]
        cosine = -(d @ g) / np.sqrt((d @ d) * (g @ g))
        if cosine < np.exp(-3.0):
            continue
        assert abs(float(policy(products_of(V))) - cosine) < 1e-12
        tested += 1
    assert tested > 30
    # Steepest descent: d = -g has cosine 1.
    V[:, 0] = -V[:, 1]
    assert abs(float(policy(products_of(V))) - 1.0) < 1e-12


@pytest.mark.parametrize("step_size", [1.0, 0.3, 2.0])
def test_constant_policy(step_size):
    policy = lp.constant_policy(step_size)
    for seed in range(5):
        V = np.random.default_rng(seed).normal(size=(6, 4))
        np.testing.assert_allclose(policy(products_of(V)), step_size, rtol=1e-14)


def test_a_policy_is_a_pytree_that_maps_and_differentiates():
    policies = [lp.init_policy(jax.random.key(i)) for i in range(3)]
    products = products_of(descent_vectors(np.random.default_rng(4)))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *policies)
    mapped = jax.vmap(lambda p: p(products))(stacked)
    np.testing.assert_allclose(mapped, [p(products) for p in policies], rtol=1e-14)
    gradient = jax.grad(lambda p: p(products))(policies[0])
    assert jax.tree.structure(gradient) == jax.tree.structure(policies[0])


def test_one_compilation_serves_all_policies():
    traces = []

    @jax.jit
    def step(policy, products):
        traces.append(1)
        return policy(products)

    products = products_of(np.random.default_rng(5).normal(size=(6, 4)))
    for seed in range(3):
        step(lp.init_policy(jax.random.key(seed)), products)
    assert len(traces) == 1


def test_learned_limits_are_parameters_and_move_the_step():
    policy = lp.init_policy(jax.random.key(0), learn_limits=True, tau_max=-0.5, tau_min=-0.6)
    assert sum(leaf.size for leaf in jax.tree.leaves(policy.params)) == 206
    products = products_of(descent_vectors(np.random.default_rng(6)))
    t, gradient = jax.value_and_grad(lambda p: p(products))(policy)
    limits = gradient.params["params"]
    active = [abs(float(jnp.log(t)) - bound) < 1e-12 for bound in (-0.6, -0.5)]
    for is_active, name in zip(active, ("tau_min", "tau_max"), strict=True):
        np.testing.assert_allclose(limits[name], float(t) if is_active else 0.0, rtol=1e-12)
    assert any(active)


def test_fixed_limits_are_the_networks():
    assert lp.init_policy(jax.random.key(0)).limits == (-3.0, 0.0)
    policy = lp.init_policy(jax.random.key(0), tau_min=-2.5, tau_max=0.7)
    assert policy.limits == (-2.5, 0.7)
    assert lp.cosine_policy().limits == (-3.0, 0.0)


def test_learned_limits_are_the_parameters():
    policy = lp.cosine_policy(learn_limits=True, tau_min=-2.5, tau_max=0.75)
    assert policy.limits == (-2.5, 0.75)  # where they start
    V = np.random.default_rng(0).normal(size=(7, 4))
    V[:, 0] = -V[:, 1]  # along -g, whose cosine is 1
    W = V.copy()
    W[:, 0] += 50.0 * np.cross(V[:3, 1], V[:3, 2]) @ np.eye(3, 7)  # and almost across it
    for layer in ("implicit", "clip"):
        params = {**policy.params["params"], "tau_min": jnp.array(-1.5), "tau_max": jnp.array(-0.5)}
        moved = policy.replace(params={"params": params}).with_clip_layer(layer)
        assert moved.limits == (-1.5, -0.5)
        assert all(type(limit) is float for limit in moved.limits)
        # And they are the limits of its steps.
        np.testing.assert_allclose(moved(products_of(V)), np.exp(-0.5), rtol=1e-12)
        np.testing.assert_allclose(moved(products_of(W)), np.exp(-1.5), rtol=1e-12)


def test_limits_that_crossed_still_give_a_step():
    policy = lp.init_policy(jax.random.key(0), learn_limits=True)
    params = {**policy.params["params"], "tau_min": jnp.array(1.0), "tau_max": jnp.array(-1.0)}
    crossed = policy.replace(params={"params": params})
    products = products_of(descent_vectors(np.random.default_rng(7)))
    np.testing.assert_allclose(crossed(products), np.exp(-1.0), rtol=1e-12)


@pytest.mark.parametrize("limits", [(0.0, 0.0), (1.0, -1.0), (float("nan"), 0.0)])
def test_bad_limits(limits):
    with pytest.raises(ValueError, match="tau_min must be less than tau_max"):
        lp.init_policy(jax.random.key(0), tau_min=limits[0], tau_max=limits[1])


def test_unknown_clip_layer():
    with pytest.raises(ValueError, match="Unknown clip layer 'soft': choose one of cvx"):
        lp.init_policy(jax.random.key(0), clip_layer="soft")


@pytest.mark.parametrize("step_size", [0.0, -1.0, float("inf"), float("nan")])
def test_bad_constant(step_size):
    with pytest.raises(ValueError, match="step_size must be positive and finite"):
        lp.constant_policy(step_size)
