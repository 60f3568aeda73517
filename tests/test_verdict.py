"""The verdict on a trained policy, by plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import Rule
from jax_lbfgs_pi.training import verdict
from tests import oracles


class Valley:
    """Rosenbrock functions with valleys of their own."""

    def init(self, key):
        return {"x": jax.random.uniform(key, (3,), minval=-1.5, maxval=1.5)}

    def loss(self, params, data):
        x = params["x"]
        return jnp.sum(data * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


TASKS = lp.TaskSet(Valley(), np.array([1.0, 10.0, 50.0]), name="valleys")


def test_curves_of_a_policy_are_those_of_its_runs():
    program = verdict.policy_program(Valley().loss, 25, memory_size=3)
    curves = verdict.curves_on(TASKS)(program, Rule())
    assert curves.shape == (3, 25)
    tx = lp.lbfgs_pi("rule", memory_size=3)

    @jax.jit
    def step(x, state, data):
        value, grads = jax.value_and_grad(Valley().loss)(x, data)
        updates, state = tx.update(grads, state, x, value=value)
        return optax.apply_updates(x, updates), state, value

    for i, curve in enumerate(curves):
        data, x0 = TASKS[i]
        x, state, values = x0, tx.init(x0), []
        for _ in range(25):
            x, state, value = step(x, state, data)
            values.append(float(value))
        # Rounding grows along a run.
        np.testing.assert_allclose(curve, np.minimum.accumulate(values), rtol=1e-4, atol=1e-12)


def test_a_search_counts_each_of_its_evaluations():
    program = verdict.search_program(Valley().loss, 40, memory_size=3)
    curves = verdict.curves_on(TASKS)(program)
    for i, curve in enumerate(curves):
        data, x0 = TASKS[i]
        (results,) = lp.race(
            TASKS.choose([i]), [lp.Competitor("zoom", lambda: optax.lbfgs(memory_size=3))],
            max_iters=39, tol=0.0,
        )  # fmt: skip
        run = results["zoom"]
        expected = [
            min(v for v, n in zip(run.value, run.num_evals, strict=True) if n <= k)
            for k in range(1, 41)
        ]
        np.testing.assert_allclose(curve, expected, rtol=1e-6, atol=1e-12)
        assert float(Valley().loss(x0, data)) == pytest.approx(curve[0])


def test_costs_and_targets_by_hand():
    curves = {
        "a": np.array([[10.0, 5.0, 1.0, 0.0], [8.0, 8.0, 8.0, 8.0]]),
        "b": np.array([[10.0, 0.05, 0.05, 0.05], [8.0, 4.0, 2.0, 1.0]]),
    }
    found = verdict.costs(curves, 1e-2)
    np.testing.assert_array_equal(found["a"], [4, np.inf])
    np.testing.assert_array_equal(found["b"], [2, 4])
    np.testing.assert_array_equal(verdict.costs(curves, 1e-6)["b"], [np.inf, 4])
    assert verdict.reachable(curves, "b") == 1e-2
    assert verdict.reachable({"a": curves["a"][:1]}, "a") == 1e-6
    assert verdict.reachable(curves, "a") == verdict.TARGETS[-1]  # it meets none on most


def test_evaluations_saved_are_a_geometric_mean():
    mine, theirs = np.array([10.0, 20.0, np.inf]), np.array([20.0, 20.0, 50.0])
    estimate = verdict.saved(mine, theirs, 100)
    assert estimate.value == pytest.approx(100 * (1 - (0.5 * 1.0 * 2.0) ** (1 / 3)))
    assert estimate.low <= estimate.value <= estimate.high
    same = verdict.saved(theirs, theirs, 100)
    assert tuple(same[:3]) == (0, 0, 0)


def curves_that_end_at(evals, k=40):
    """F = 1 until it is 0."""
    return (np.arange(1, k + 1)[None, :] < np.asarray(evals)[:, None]).astype(float)


@pytest.mark.parametrize(
    ("trained", "room", "helps", "words"),
    [
        ([10] * 30, 8, True, "50 % [50, 50] fewer evaluations than general on 30 held-out tasks"),
        ([20] * 30, 19, False, "does not help: keep general; the best of its variants"),
        ([30] * 30, 30, False, "50 % [50, 50] more evaluations than general"),
        ([10, 40] * 15, 5, False, "keep general"),  # either way, by chance
        ([10] * 29 + [99], 5, False, "solves 97% of them (general 100%), which is too few"),
    ],
)
def test_the_verdict_needs_an_interval_on_its_side_and_few_tasks_lost(trained, room, helps, words):
    curves = {
        "trained": curves_that_end_at(trained),
        "general": curves_that_end_at([20] * 30),
        "rule": curves_that_end_at([25] * 30),
    }
    variants = np.stack([curves_that_end_at([room] * 30), curves_that_end_at([99] * 30)], axis=1)
    found = verdict.judge(curves, variants, "trained", "general", 1e-6)
    assert found.helps is helps
    assert words in found.sentence
    assert ("use it" in found.sentence) is helps
    assert found.room == pytest.approx(100 * (1 - min(room, 20) / 20))
    little = "little to be had" in found.sentence
    assert little == (not helps and "too few" not in words and found.room < 3 * verdict.WORTH)


def test_the_rosenbrock_of_the_oracles_is_the_valley():
    x = np.array([0.3, -0.2, 1.1])
    assert float(Valley().loss({"x": jnp.array(x)}, 100.0)) == pytest.approx(
        float(oracles.rosenbrock(jnp.array(x)))
    )
