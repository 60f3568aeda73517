"""The learned residual: what it may change, what it reads, and what changes nothing."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import General, Rule, Scaling, features, general, init_general
from tests import oracles
from tests.marks import some_of

X0 = np.array([-1.2, 1.0, 0.7, -0.4, 1.5])


def random_general(seed, size=0.3):
    """A learned policy with weights of some size everywhere."""
    policy = init_general(jax.random.key(seed), Rule())
    leaves, tree = jax.tree.flatten(policy.params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    moved = [
        leaf + size * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return General(params=jax.tree.unflatten(tree, moved), base=Rule())


@functools.partial(jax.jit, static_argnums=(1, 3, 4))
def trajectory(policy, fun, x0, num_steps=40, with_value=True):
    """The points at which f is evaluated."""
    tx = lp.lbfgs_pi(policy, memory_size=4)

    def step(carry, _):
        x, state = carry
        value, grads = jax.value_and_grad(fun)(x)
        updates, state = tx.update(grads, state, x, **({"value": value} if with_value else {}))
        return (optax.apply_updates(x, updates), state), (x, state[0].num_retreats)

    return jax.lax.scan(step, (x0, tx.init(x0)), length=num_steps)[1]


def test_without_weights_it_is_its_base():
    for seed in range(2):
        start = init_general(jax.random.key(seed), Rule(cap=3.0))
        for with_value in (True, False):
            args = (oracles.rosenbrock, jnp.array(X0), 40, with_value)
            points, _ = trajectory(start, *args)
            base, _ = trajectory(Rule(cap=3.0), *args)
            np.testing.assert_allclose(points, base, rtol=1e-5, atol=1e-7)
            other, _ = trajectory(random_general(seed), *args)
            assert np.max(np.abs(other - base)) > 0.1


def answers_beside_the_base(policy):
    """Ratios of γ and of t to the base's, and ω, on the same observations."""
    seen = []

    class Recorder(General):
        def scale(self, seen_now, memory):
            answer, moved = policy.scale(seen_now, memory)
            base, _ = policy.base.scale(seen_now, memory.base)
            seen.append((float(answer.gamma / base.gamma), float(answer.omega)))
            return answer, moved

        def step_size(self, seen_now, products, memory):
            t, moved = policy.step_size(seen_now, products, memory)
            base, _ = policy.base.step_size(seen_now, products, memory.base)
            seen[-1] += (float(t / base),)
            return t, moved

    recorder = Recorder(params=policy.params, base=policy.base)
    tx, x = lp.lbfgs_pi(recorder, memory_size=features.MOST_PAIRS), jnp.array(X0)
    state = tx.init(x)
    for _ in range(25):
        value, grads = jax.value_and_grad(oracles.rosenbrock)(x)
        updates, state = tx.update(grads, state, x, value=value)
        x = optax.apply_updates(x, updates)
    return np.array(seen)


def test_its_answers_stay_within_bounds_of_the_base():
    """However large the weights."""
    sizes = (1.0, 1.0, 30.0)
    seen = [answers_beside_the_base(random_general(i, size)) for i, size in enumerate(sizes)]
    gammas, omegas, steps = np.concatenate(seen).T
    widest = np.exp(general.BOUND)
    for factors in (gammas, steps):
        assert np.all((factors >= 0.999 / widest) & (factors <= 1.001 * widest))
        assert np.ptp(np.log(factors)) > general.BOUND
    least, most = general.OMEGA_BOUNDS
    assert np.all((omegas >= least) & (omegas <= most))
    assert np.ptp(np.log(omegas)) > 2.0


POLICIES = {"rule": Rule(), "learned": random_general(0)}


@pytest.mark.parametrize(
    ("name", "with_value"), some_of(itertools.product(POLICIES, (True, False)), quick=(1, 2))
)
def test_the_trajectory_does_not_change_with_the_units_of_f_and_x_or_with_rotations(
    name, with_value
):
    """F → c f, x → b x and x → Q x, over steps in which rounding grows to 1e-10."""
    policy, fun, steps = POLICIES[name], oracles.rosenbrock, 25
    points, retreats = trajectory(policy, fun, jnp.array(X0), steps, with_value)
    assert int(retreats[-1]) > 0
    rng = np.random.default_rng(0)
    Q = jnp.asarray(np.linalg.qr(rng.normal(size=(X0.size, X0.size)))[0])
    scaled = [(c, 1.0) for c in (2.0**53, 2.0**-53, 1e16, 1e-16)]
    scaled += [(1.0, b) for b in (2.0**20, 2.0**-20, 1e6, 1e-6)]
    for c, b in scaled:
        if not with_value and b != 1.0:
            continue  # without f the first step has length 1, in whatever unit
        seen, _ = trajectory(
            policy, lambda x, c=c, b=b: c * fun(x / b), b * jnp.array(X0), steps, with_value
        )
        np.testing.assert_allclose(seen / b, points, rtol=1e-8, atol=1e-9)
    seen, _ = trajectory(policy, lambda x: fun(Q.T @ x), Q @ jnp.array(X0), steps, with_value)
    np.testing.assert_allclose(seen @ Q, points, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    "scale", some_of([1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3], quick=(0, 3, 6))
)
def test_from_far_starts_nothing_is_nan_and_no_direction_ascends(scale):
    starts = scale * jax.random.normal(jax.random.key(0), (10, 3))
    for policy in POLICIES.values():
        tx = lp.scale_by_lbfgs_pi(policy, memory_size=4)

        def run(x, tx=tx):
            def step(carry, _):
                x, state = carry
                value, grads = jax.value_and_grad(oracles.rosenbrock)(x)
                updates, new = tx.update(grads, state, x, value=value)
                accepted = new.count > state.count
                slope = -jnp.vdot(updates, grads)
                return (x - updates, new), (
                    value,
                    jnp.where(accepted, slope, 0.0),
                    new.values.last[0],
                )

            return jax.lax.scan(step, (x, tx.init(x)), length=120)[1]

        values, slopes, accepted_values = jax.jit(jax.vmap(run))(starts)
        assert np.isfinite(values).all()
        assert np.all(slopes <= 0)
        assert np.all(accepted_values[:, -1] < 1e-6 * accepted_values[:, 0])


@pytest.mark.slow
def test_features_are_finite_and_of_order_one_along_a_run():
    policy, seen = random_general(1), []

    def note(*args):
        seen.append(np.concatenate([np.ravel(a) for a in args]))

    class Noted(General):
        def step_size(self, observation, products, memory):
            t, moved = policy.step_size(observation, products, memory)
            note(
                features.before_direction(
                    observation, Scaling(jnp.asarray(1.0), 20), of_a_matrix=False
                ),
                features.after_direction(observation, products, t),
            )
            return t, moved

    tx, x = lp.lbfgs_pi(Noted(params=policy.params, base=policy.base)), jnp.array(X0)
    state = tx.init(x)
    for _ in range(60):
        value, grads = jax.value_and_grad(oracles.rosenbrock)(x)
        updates, state = tx.update(grads, state, x, value=value)
        x = optax.apply_updates(x, updates)
    table = np.array(seen)
    assert table.shape == (60, features.NUM_BEFORE + features.NUM_AFTER)
    assert np.isfinite(table).all()
    assert np.abs(table).max() < 6
    # Nearly all of them tell steps apart.
    assert np.sum(np.ptp(table, axis=0) > 0.1) >= table.shape[1] - 4


def test_it_is_saved_with_its_base(tmp_path):
    policy = General(params=random_general(2).params, base=Rule(cap=2.5, longest=3.0))
    loaded = lp.load_policy(lp.save_policy(policy, tmp_path / "mine"))
    assert isinstance(loaded, General)
    assert loaded.base == Rule(cap=2.5, longest=3.0)
    args = (oracles.rosenbrock, jnp.array(X0))
    np.testing.assert_array_equal(trajectory(loaded, *args)[0], trajectory(policy, *args)[0])
    with pytest.raises(ValueError, match="A learned policy answers"):
        policy.replace(answers=("gamma", "tau"))
    with pytest.raises(TypeError, match="based on a Rule"):
        lp.save_policy(General(params=policy.params, base=policy), tmp_path / "other")
