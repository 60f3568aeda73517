"""Was the trial good, and where next: against cubics by their roots, and plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.acceptance import WINDOW, Trial, Values, judge, remember
from tests import oracles

GUARD = lp.Guard()
EPS = float(np.finfo(float).eps)


def values_of(*newest_first):
    """These were accepted after x0, whose f was 1e9."""
    last = [*newest_first, 1e9, *[0.0] * WINDOW][:WINDOW]
    known = len(newest_first) + 1 if newest_first else 0
    return Values(jnp.array(last), jnp.array(known, jnp.int32))


def verdict(
    value, start_slope, end_slope, values, *, finite=True, first=False, guard=GUARD, eps=EPS
):
    value = None if value is None else jnp.asarray(value, float)
    slopes = (jnp.asarray(slope, float) for slope in (start_slope, end_slope))
    trial = Trial(value, *slopes, jnp.asarray(finite), eps)
    accepted, share = judge(guard, trial, values, jnp.asarray(first))
    return bool(accepted), float(share)


def test_the_next_trial_is_the_minimum_of_the_cubic_within_limits():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(200):
        start, end = -(10.0 ** rng.uniform(-3, 3)), 10.0 ** rng.uniform(-3, 3) * rng.normal()
        rise = 10.0 ** rng.uniform(-3, 3)
        accepted, share = verdict(7.0 + rise, start, end, values_of(7.0))
        assert not accepted
        expected = oracles.cubic_minimum(7.0, 7.0 + rise, start, end)
        np.testing.assert_allclose(share, np.clip(expected, 0.1, 0.5), rtol=1e-9)
        shares.append(share)
    assert 0.1 < np.median(shares) < 0.5


@pytest.mark.parametrize("scale", [1e-150, 1.0, 1e150])
def test_the_verdict_is_free_of_the_units_of_f(scale):
    values = values_of(3.0 * scale, 4.0 * scale)
    assert verdict(3.9 * scale, -0.5 * scale, 2.0 * scale, values)[0]
    accepted, share = verdict(4.5 * scale, -0.5 * scale, 2.0 * scale, values)
    assert not accepted
    expected = np.clip(oracles.cubic_minimum(3.0, 4.5, -0.5, 2.0), 0.1, 0.5)
    np.testing.assert_allclose(share, expected, rtol=1e-12)


def test_f_may_rise_above_the_last_value_but_not_above_the_greatest_of_five():
    values = values_of(1.0, 2.0, 3.0, 5.0, 4.0)
    assert verdict(4.99, -1e-3, 2.0, values)[0]
    assert not verdict(5.0, -1.0, 2.0, values)[0]  # a share of the decrease is asked for
    assert not verdict(5.01, -1e-3, 2.0, values)[0]
    moved = remember(values, jnp.asarray(4.5), jnp.asarray(True))
    np.testing.assert_array_equal(moved.last, [4.5, 1.0, 2.0, 3.0, 5.0])
    kept = remember(values, jnp.asarray(9.0), jnp.asarray(False))
    np.testing.assert_array_equal(kept.last, values.last)
    assert int(moved.known) == int(kept.known) == WINDOW + 1


def test_f_at_the_start_counts_until_another_is_known():
    """Accepted values as a plain list, x0's among them; how often a rise is accepted tells."""
    rng, values, path, rises = np.random.default_rng(0), values_of(), [], []
    for k in range(12):
        f = 10.0 if k == 0 else float(rng.uniform(0.0, 9.0))
        if k > 0:
            greatest = max((path if k == 1 else path[1:])[-WINDOW:])
            for value in (greatest - 1e-9, greatest + 1e-9):
                assert verdict(value, -1e-12, 2.0, values)[0] == (value < greatest)
            rises.append(greatest - path[-1])
        path.append(f)
        values = remember(values, jnp.asarray(f), jnp.asarray(True))
    assert rises[:2] == [0.0, 0.0]
    assert max(rises) > 1.0


def test_a_value_that_is_not_told_makes_those_before_it_useless():
    values = remember(values_of(3.0, 4.0), None, jnp.asarray(True))
    assert int(values.known) == 0
    assert int(remember(values_of(3.0, 4.0), None, jnp.asarray(False)).known) == 3
    again = remember(values, jnp.asarray(7.0), jnp.asarray(True))
    assert (float(again.last[0]), int(again.known)) == (7.0, 1)
    # Only what is known counts: not the zeros, nor what was forgotten.
    assert not verdict(7.5, -1e-3, 2.0, again)[0]
    assert verdict(-0.5, -1e-3, 2.0, values_of(-0.4))[0]
    assert not verdict(-0.3, -1e-3, 2.0, values_of(-0.4))[0]


def test_near_a_minimum_rounding_of_f_is_no_reason_to_reject_but_a_steep_slope_is():
    up = 1.0 + 3 * np.finfo(float).eps
    assert verdict(up, -1e-20, 0.5e-20, values_of(1.0))[0]
    assert not verdict(up, -1e-20, 2e-20, values_of(1.0))[0]
    for digits, accepted in ((10, True), (11, False)):
        up = 1.0 + digits * np.finfo(float).eps
        assert verdict(up, -1e-20, 0.5e-20, values_of(1.0))[0] == accepted
    # What f was computed with counts, not what x is stored in.
    half = float(jnp.finfo(jnp.float32).eps)
    assert verdict(1.0 + 1e-7, -1e-20, 0.5e-20, values_of(1.0), eps=half)[0]
    assert not verdict(1.0 + 1e-5, -1e-20, 0.5e-20, values_of(1.0), eps=half)[0]


def test_what_is_not_finite_is_rejected_and_a_fixed_share_tried_next():
    for value, start, end in ((1.0, -1.0, 0.5), (np.nan, -1.0, 0.5), (1.0, -1.0, np.nan)):
        assert verdict(value, start, end, values_of(2.0), finite=False) == (False, 0.25)
    assert verdict(0.0, -1.0, 0.0, values_of(2.0), finite=False, first=True) == (False, 0.1)
    near = GUARD._replace(blind=0.4, first_blind=0.3)
    assert verdict(0.0, -1.0, 0.0, values_of(2.0), finite=False, guard=near) == (False, 0.4)
    shares = (False, 0.3)
    assert verdict(0.0, -1.0, 0.0, values_of(2.0), finite=False, guard=near, first=True) == shares
    # Within the limits of all shares.
    far = GUARD._replace(blind=0.9)
    assert verdict(0.0, -1.0, 0.0, values_of(2.0), finite=False, guard=far) == (False, 0.5)


def test_without_values_the_slopes_decide():
    assert verdict(None, -2.0, 2.0, values_of())[0]
    assert not verdict(None, -2.0, 2.1, values_of())[0]
    assert verdict(None, -2.0, -5.0, values_of())[0]
    accepted, share = verdict(None, -2.0, 6.0, values_of())
    assert not accepted
    np.testing.assert_allclose(share, 0.25)  # where the secant is 0
    # A value that nothing can be compared with says nothing.
    assert verdict(1e9, -2.0, 1.9, values_of())[0]


def test_a_guard_of_other_constants():
    strict = lp.Guard(decrease=0.5, least=0.2, most=0.25)
    assert not verdict(0.6, -1.0, 0.0, values_of(1.0), guard=strict)[0]
    assert verdict(0.4, -1.0, 0.0, values_of(1.0), guard=strict)[0]
    assert verdict(1.05, -1.0, 1.0, values_of(1.0), guard=strict)[1] == 0.25
    assert verdict(1e6, -1.0, 0.0, values_of(1.0), guard=strict)[1] == 0.2


def test_the_first_step_may_be_asked_for_more():
    """Its length is a guess: a point far out that is hardly lower is no start for a model."""
    strict, loose = lp.Guard(first_decrease=0.1), lp.Guard(first_decrease=1e-4)
    for first, accepted in ((False, True), (True, False)):
        assert verdict(0.95, -1.0, 0.5, values_of(1.0), first=first, guard=strict)[0] == accepted
        assert verdict(0.89, -1.0, 0.5, values_of(1.0), first=first, guard=strict)[0]
        assert verdict(0.95, -1.0, 0.5, values_of(1.0), first=first, guard=loose)[0]


# -- the whole step, by plain loops ------------------------------------------------------------


def walled(x):
    """A Rosenbrock valley that ends at a wall, behind which f is not defined."""
    return oracles.rosenbrock(x) - 0.1 * jnp.sum(jnp.log(2.0 - x))


def quartic(x):
    return jnp.sum(jnp.arange(1.0, x.size + 1) * x**4) + 0.5 * jnp.sum(x[1:] * x[:-1])


PROBLEMS = {
    "rosenbrock": (oracles.rosenbrock, np.array([-1.2, 1.0, 0.7, -0.4, 1.5])),
    "walled": (walled, np.array([-1.2, 1.0, 0.7])),
    "quartic": (quartic, np.array([3.0, -2.0, 0.5, 1.0])),
}


@pytest.mark.parametrize("with_value", [True, False])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_rule_and_the_guard_equal_plain_loops(name, with_value):
    fun, x0 = PROBLEMS[name]
    evaluate = jax.jit(jax.value_and_grad(fun))
    points, accepted = oracles.safeguarded(
        lambda x: jax.tree.map(np.asarray, evaluate(jnp.array(x))), x0, 30, 4, with_value
    )
    assert 0 < np.sum(~accepted) < 15
    tx = lp.lbfgs_pi("rule", memory_size=4)
    x, state = jnp.array(x0), tx.init(jnp.array(x0))

    @jax.jit
    def step(x, state):
        value, grads = jax.value_and_grad(fun)(x)
        extra = {"value": value} if with_value else {}
        updates, state = tx.update(grads, state, x, **extra)
        return optax.apply_updates(x, updates), state

    for k, point in enumerate(points):
        np.testing.assert_allclose(x, point, rtol=1e-6, atol=1e-9)
        x, state = step(x, state)
        assert int(state[0].num_retreats) == np.sum(~accepted[: k + 1])
        assert int(state[0].count) == np.sum(accepted[: k + 1])


def test_a_rejected_trial_leaves_the_window_and_the_accepted_point_as_they_were():
    fun, x0 = PROBLEMS["walled"]
    tx = lp.scale_by_lbfgs_pi("rule", memory_size=4)
    x, state, seen = jnp.array(x0), tx.init(jnp.array(x0)), 0
    step = jax.jit(
        lambda x, state: (
            jax.value_and_grad(fun)(x)[0],
            tx.update(*reversed((state, jax.grad(fun)(x))), x, value=fun(x)),
        )
    )
    for _ in range(30):
        before = state
        _, (updates, state) = step(x, state)
        if int(state.num_retreats) > int(before.num_retreats):
            seen += 1
            for name in ("prev_params", "prev_grads", "values", "history", "history_grads"):
                jax.tree.map(
                    functools.partial(np.testing.assert_array_equal, err_msg=name),
                    getattr(state, name),
                    getattr(before, name),
                )
            # The next trial lies between.
            there, last = x - updates - state.prev_params, x - state.prev_params
            share = np.linalg.norm(there) / np.linalg.norm(last)
            assert 0.1 - 1e-9 <= share <= 0.5 + 1e-9 or int(state.count) == 1
            np.testing.assert_allclose(there, share * last, rtol=1e-6, atol=1e-12)
        x = x - updates
    assert seen > 1


@pytest.mark.parametrize(
    ("constants", "error", "message"),
    [
        ({"decrease": 1.0}, ValueError, "A Guard needs decrease < 1"),
        ({"decrease": -0.1}, ValueError, "decrease of a Guard must be at least 0"),
        ({"first_decrease": 2.0}, ValueError, "A Guard needs decrease < 1"),
        ({"least": 0.6}, ValueError, "0 < least <= most < 1"),
        ({"first_least": 0.0}, ValueError, "0 < least <= most < 1"),
        ({"most": 1.0}, ValueError, "0 < least <= most < 1"),
        ({"most": "half"}, TypeError, "most of a Guard must be a number"),
        ({"least": None}, TypeError, "least of a Guard must be a number, but got None"),
    ],
)
def test_guards_that_cannot_work(constants, error, message):
    with pytest.raises(error, match=message):
        lp.lbfgs_pi(guard=lp.Guard(**constants))
