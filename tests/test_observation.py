"""What a policy is shown, against vectors kept beside the optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi import history
from jax_lbfgs_pi.direction import two_loop_direction
from tests import oracles

MEMORY_SIZE = 3


class Recorder(lp.Rule):
    """The rule, which keeps what it is shown of accepted points."""

    def scale(self, seen, memory):
        SEEN.append(seen)
        return super().scale(seen, memory)


SEEN: list = []


def run(num_steps, with_value=True):
    """Points, gradients and values at the trials, whether each was accepted, and what was seen."""
    SEEN.clear()
    tx = lp.lbfgs_pi(Recorder(), memory_size=MEMORY_SIZE)
    x = jnp.array([-1.2, 1.0, 0.7, -0.4, 1.5])
    state, trials = tx.init(x), []
    for _ in range(num_steps):
        value, grads = jax.value_and_grad(oracles.rosenbrock)(x)
        count = int(state[0].count)
        updates, state = tx.update(grads, state, x, **({"value": value} if with_value else {}))
        trials.append((np.array(x), np.array(grads), float(value), int(state[0].count) > count))
        x = optax.apply_updates(x, updates)
    return trials, list(SEEN)


@pytest.mark.parametrize("with_value", [True, False])
def test_a_policy_is_shown_the_products_of_the_vectors(with_value):
    trials, seen = run(45, with_value)
    assert sum(not accepted for *_, accepted in trials) > 2
    pairs, last, rejections = [], None, 0
    for (x, g, value, accepted), shown in zip(trials, seen, strict=True):
        if not accepted:
            rejections += 1
            continue
        assert shown.num_params == 5
        assert shown.memory_size == MEMORY_SIZE
        np.testing.assert_allclose(shown.gg, g @ g)
        assert bool(shown.has_value) == with_value
        if last is not None:
            last_x, last_g, last_value = last
            s, y = x - last_x, g - last_g
            if s @ y > 0:
                pairs = [*pairs[-MEMORY_SIZE + 1 :], (s, y)]
            np.testing.assert_allclose(shown.start_slope, last_g @ s, rtol=1e-9)
            np.testing.assert_allclose(shown.end_slope, g @ s, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(shown.slope_ratio(), (g @ s) / (last_g @ s), rtol=1e-8)
            np.testing.assert_allclose(list(shown.step), [s @ s, s @ y, y @ y], rtol=1e-9)
            np.testing.assert_allclose(shown.last_ss, s @ s, rtol=1e-9)
            if with_value:
                np.testing.assert_allclose(
                    [shown.value, shown.prev_value], [value, last_value], rtol=1e-12
                )
        assert int(shown.rejections) == rejections
        assert int(shown.num_pairs) == len(pairs)
        if pairs:
            s, y = pairs[-1]
            np.testing.assert_allclose(list(shown.pair), [s @ s, s @ y, y @ y], rtol=1e-9)
            np.testing.assert_allclose(shown.curvature, (y @ y) / (s @ y), rtol=1e-9)
        curvatures = sorted((y @ y) / (s @ y) for s, y in pairs)
        there = sorted(np.array(shown.curvatures)[np.array(shown.curvatures) > 0])
        np.testing.assert_allclose(there, curvatures, rtol=1e-9)
        in_span = sum((s @ g) ** 2 / (s @ y) for s, y in pairs)
        np.testing.assert_allclose(shown.in_span, in_span, rtol=1e-7)
        last, rejections = (x, g, value), 0


def test_after_exact_steps_on_a_quadratic_nothing_is_left_in_the_span():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(6, 6))
    matrix = matrix @ matrix.T + np.eye(6)
    x = jnp.asarray(rng.normal(size=6))
    window, shares = history.init_history(x, 6), []
    for _ in range(5):
        g = matrix @ x
        d = two_loop_direction(g, window)
        s = -(d @ g) / (d @ matrix @ d) * d
        window, x = history.push(window, s, matrix @ s), x + s
        g = matrix @ x
        shares.append(float(history.in_span(window, history.pairs_vdot(window, g)) / (g @ g)))
        short = history.in_span(window, history.pairs_vdot(window, matrix @ (x - 0.1 * s)))
        assert short > 1e-3 * g @ g
    assert max(shares) < 1e-12


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_the_curvature_ratio_is_that_of_a_cubic(value):
    """Of c(t) = a t³ + b t² - t: mean curvature 3 a + 2 b from 0 to 1, at the end 6 a + 2 b."""
    _, seen = run(3)
    for a, b, expected in ((0.3, 1.0, 2.9 / 3.8), (-0.2, 1.0, 1.75), (-1.0, 2.0, 1e3)):
        cubic = {"start_slope": -1.0, "end_slope": 3 * a + 2 * b - 1, "prev_value": value}
        cubic |= {"value": value + a + b - 1, "has_values": True}
        shown = seen[-1]._replace(**{name: jnp.asarray(x) for name, x in cubic.items()})
        np.testing.assert_allclose(shown.curvature_ratio(), expected, rtol=1e-12)
        unknown = shown._replace(has_values=jnp.asarray(False))
        assert unknown.curvature_ratio() == 1.0
        rounded = shown._replace(value=jnp.asarray(1e15), prev_value=jnp.asarray(1e15))
        assert rounded.curvature_ratio() == 1.0
