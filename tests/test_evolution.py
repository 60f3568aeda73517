"""Evolution strategies: the losses by plain loops, moves by hand, and training that goes on."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.bench import policy_entrant
from jax_lbfgs_pi.policy import OF_A_DENSE_H, General, Rule, init_general
from jax_lbfgs_pi.suite.families import FAMILIES
from jax_lbfgs_pi.training.evolution import SOFTNESS, begin, evolve
from jax_lbfgs_pi.training.evolution_config import EvolutionConfig
from jax_lbfgs_pi.training.evolution_run import evolve_in
from jax_lbfgs_pi.training.population import (
    LEAST_GAP,
    best_values,
    log_budgets,
    log_gaps,
    losses_on,
    of_family,
)
from tests import oracles

SMALL = EvolutionConfig(
    generations=4,
    families=("rosenbrock-chain-2", "curve-power-law"),
    families_per_generation=1,
    tasks_per_family=3,
    num_pairs=2,
    num_evals=15,
    memory_sizes=(3, 5),
)


@pytest.mark.parametrize("with_value", [True, False])
def test_best_values_are_the_least_so_far_of_a_plain_loop(with_value):
    x0 = np.array([-1.2, 1.0, 0.7])
    evaluate = jax.jit(jax.value_and_grad(oracles.rosenbrock))
    points, accepted = oracles.safeguarded(
        lambda x: jax.tree.map(np.asarray, evaluate(jnp.array(x))), x0, 25, 3, with_value
    )
    assert not accepted.all()
    expected = np.minimum.accumulate([float(evaluate(jnp.array(x))[0]) for x in points])
    curve = best_values(
        Rule(), oracles.rosenbrock, jnp.array(x0), 25, memory_size=3, with_value=with_value
    )
    np.testing.assert_allclose(curve, expected, rtol=1e-5)


def test_log_gaps_by_hand():
    curves = jnp.array([[10.0, 4.0, 1.0], [10.0, 10.0, 2.0], [10.0, jnp.inf, 1.0 + 1e-12]])
    expected = np.log10([[1, 3 / 9, LEAST_GAP], [1, 1, 1 / 9], [1, 1, LEAST_GAP]])
    np.testing.assert_allclose(log_gaps(curves), expected, rtol=1e-12)
    below = log_gaps(curves, floor=0.0)
    np.testing.assert_allclose(below[0], np.log10([1, 0.4, 0.1]), rtol=1e-12)
    np.testing.assert_array_equal(log_gaps(jnp.full((2, 3), 5.0)), 0.0)


def test_budgets_are_log_spaced_indices_of_a_curve():
    budgets = log_budgets(150)
    assert budgets[0] == 2
    assert budgets[-1] == 149
    assert np.all(np.diff(budgets) > 0)
    ratios = (budgets[8:] + 1) / (budgets[7:-1] + 1)
    np.testing.assert_allclose(ratios, ratios[0], rtol=0.06)


def test_the_loss_of_a_family_is_that_of_its_problems_one_by_one():
    family = FAMILIES["curve-power-law"]
    x0, data = of_family(family, 2).draw(0, 7)
    policies = [Rule(), Rule(cap=1.0), Rule(growth=2.0)]
    stacked = jax.tree.map(lambda *leaves: jnp.array(leaves, float), *policies)
    losses = jax.jit(losses_on(family.loss, num_evals=20, memory_size=3))(stacked, x0, data)
    assert losses.shape == (2, 3)
    for i in range(2):
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], data)
        curves = [
            best_values(p, lambda x, d=mine: family.loss(x, d), x0[i], 20, memory_size=3)
            for p in policies
        ]
        expected = np.mean(log_gaps(jnp.stack(curves))[:, log_budgets(20)], axis=1)
        np.testing.assert_allclose(losses[i], expected, rtol=1e-3, atol=1e-3)
    again = of_family(family, 2).draw(0, 7)
    np.testing.assert_array_equal(again[0], x0)
    assert not np.array_equal(of_family(family, 2).draw(0, 8)[0], x0)


def test_a_move_is_adams_along_the_mean_sign_of_antithetic_differences():
    """The first generation, made again from its parts, one lane at a time."""
    _, state = evolve(dataclasses.replace(SMALL, generations=1))
    start = init_general(jax.random.key(SMALL.seed), Rule())
    weights, unravel = ravel_pytree(jax.tree.map(jnp.asarray, start.params))
    rng = np.random.default_rng((SMALL.seed, 0))
    (name,) = rng.permutation(SMALL.families)[:1]
    noise = rng.normal(size=(SMALL.num_pairs, weights.size))
    x0, data = of_family(FAMILIES[name], 3).draw(SMALL.seed, SMALL.families.index(name))
    moves = [SMALL.sigma * e for e in noise] + [-SMALL.sigma * e for e in noise]
    moves += [np.zeros_like(weights), -np.asarray(weights)]
    lanes = [General(params=unravel(weights + move), base=Rule()) for move in moves]
    losses = []

    @jax.jit
    def run(policy, x0, data):
        loss = lambda x: FAMILIES[name].loss(x, data)  # noqa: E731
        return best_values(policy, loss, x0, 15, memory_size=3)

    for i in range(3):
        mine = jax.tree.map(lambda leaf, i=i: leaf[i], data)
        curves = [run(policy, x0[i], mine) for policy in lanes]
        losses.append(np.mean(log_gaps(jnp.stack(curves))[:, log_budgets(15)], axis=1))
    differences = np.array(losses)[:, :2] - np.array(losses)[:, 2:4]
    signs = differences / (np.abs(differences) + SOFTNESS)
    gradient = np.mean(signs, axis=0) @ noise / SMALL.num_pairs
    adam = optax.adam(SMALL.learning_rate)
    updates, _ = adam.update(jnp.asarray(gradient), adam.init(weights))
    np.testing.assert_allclose(state.weights, weights + updates, atol=1e-3 * SMALL.learning_rate)
    assert np.max(np.abs(updates)) > 0.5 * SMALL.learning_rate


def test_training_goes_on_to_the_bit():
    states, records = [], []

    def note(record, state):
        records.append(record)
        states.append(state)

    policy, end = evolve(SMALL, on_generation=note)
    assert [record.generation for record in records] == [0, 1, 2, 3]
    assert {name for record in records for name in record.families} <= set(SMALL.families)
    assert not np.array_equal(states[0].weights, end.weights)
    resumed, again = evolve(SMALL, state=states[1])
    np.testing.assert_array_equal(again.weights, end.weights)
    jax.tree.map(np.testing.assert_array_equal, resumed.params, policy.params)
    # Without a residual, so before the first move, it is as good as its base.
    np.testing.assert_allclose(records[0].loss, records[0].base_loss, atol=1e-2)


@pytest.mark.slow
def test_a_training_in_a_folder_goes_on_where_it_was_stopped(tmp_path):
    whole, log = evolve_in(tmp_path / "whole", SMALL, save_every=1, keep_every=2)

    class Stop(Exception):
        pass

    def stop(record):
        if record.generation == 2:
            raise Stop

    with pytest.raises(Stop):
        evolve_in(tmp_path / "parts", SMALL, save_every=2, on_generation=stop)
    seen = []
    resumed, again = evolve_in(tmp_path / "parts", SMALL, save_every=2, on_generation=seen.append)
    assert [record.generation for record in seen] == [2, 3]  # what was not saved is done again
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)
    assert [row["loss"] for row in again] == [row["loss"] for row in log]
    kept = sorted(path.name for path in (tmp_path / "whole" / "policies").iterdir())
    assert kept == ["00002.safetensors", "00004.safetensors"]
    last = lp.load_policy(tmp_path / "whole" / "policies" / kept[-1])
    jax.tree.map(np.testing.assert_array_equal, last.params, whole.params)
    with pytest.raises(ValueError, match="holds a training of other settings"):
        evolve_in(tmp_path / "parts", dataclasses.replace(SMALL, sigma=0.5))


def test_a_training_begins_with_a_policy_if_it_is_given_one(tmp_path):
    first, _ = evolve_in(tmp_path / "a", dataclasses.replace(SMALL, generations=2))
    tiny = dataclasses.replace(SMALL, generations=1, learning_rate=1e-9)
    second, _ = evolve_in(tmp_path / "b", tiny, start=first)
    same = functools.partial(np.testing.assert_allclose, atol=1e-8)
    jax.tree.map(same, second.params, first.params)
    assert any(np.any(leaf != 0) for leaf in jax.tree.leaves(first.params["answer"]))


def test_bad_settings():
    with pytest.raises(ValueError, match="generations must be an integer of at least 1, but got 0"):
        EvolutionConfig(generations=0)
    with pytest.raises(ValueError, match="memory_sizes must be positive"):
        EvolutionConfig(memory_sizes=(None, 0))
    with pytest.raises(ValueError, match=r"None, or \("):
        EvolutionConfig(memory_sizes=("dense", 10))
    with pytest.raises(ValueError, match="Unknown family 'quadratic-160'"):
        EvolutionConfig(families=("quadratic-160",), memory_sizes=("dense",))
    with pytest.raises(ValueError, match="Unknown family 'nothing'"):
        EvolutionConfig(families=("nothing",))


@pytest.mark.parametrize(
    "memory_sizes", [pytest.param((3, 5), marks=pytest.mark.slow), (None,), ("dense",)]
)
def test_what_is_trained_is_a_policy(memory_sizes, tmp_path):
    policy, _ = evolve(dataclasses.replace(SMALL, generations=1, memory_sizes=memory_sizes))
    loaded = lp.load_policy(lp.save_policy(policy, tmp_path / "mine"))
    solve = functools.partial(
        lp.minimize, oracles.rosenbrock, jnp.zeros(3), policy=loaded, tol=1e-6
    )
    dense = memory_sizes == ("dense",)
    result = solve()
    assert int(result.status) == lp.Status.CONVERGED
    if dense:
        for other in ("full", 5):
            with pytest.raises(ValueError, match="This policy is for a dense H alone"):
                solve(memory_size=other)
        assert policy_entrant(tmp_path / "mine.safetensors", memory_size=5).make().init(
            jnp.zeros(3)
        )[0].history.matrix.shape == (3, 3)


def test_a_training_begins_with_a_policy_that_answers_the_same():
    dense = dataclasses.replace(SMALL, memory_sizes=("dense",))
    untrained = init_general(jax.random.key(5), Rule(), OF_A_DENSE_H)
    weights, _ = ravel_pytree(untrained.params)
    np.testing.assert_array_equal(begin(dense, untrained).weights, weights)
    with pytest.raises(ValueError, match="answers tau, omega, phi, but this training is of one"):
        begin(SMALL, untrained)
