"""What the policies answer, beside the same in plain NumPy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import General, Observation, Scaling
from jax_lbfgs_pi.policy.features import after_direction, before_direction
from jax_lbfgs_pi.policy.general import OF_A_DENSE_H, OF_A_WINDOW, init_general, layers
from jax_lbfgs_pi.policy.observation import Pair, inner_products
from jax_lbfgs_pi.policy.self_scaling import UPDATES
from tests import oracles
from tests.marks import some_of

MEMORY_SIZE, NUM_PARAMS = 6, 300


def random_policy(answers):
    rng = np.random.default_rng(0)
    params = {
        name: {"kernel": rng.normal(size=shape), "bias": rng.normal(size=shape[1:])}
        for name, shape in layers(answers).items()
    }
    return General(params=params, base=lp.Rule(), answers=answers)


POLICY, DENSE_POLICY = random_policy(OF_A_WINDOW), random_policy(OF_A_DENSE_H)


def draw(seed):
    """What a step might know, of many magnitudes, and the products with its direction."""
    rng = np.random.default_rng(seed)

    def size():
        return 10.0 ** rng.uniform(-4, 4)

    pairs = rng.integers(0, MEMORY_SIZE + 1)
    curvatures = np.where(np.arange(MEMORY_SIZE) < pairs, 10.0 ** rng.uniform(-3, 3, 6), 0.0)
    step = Pair(size(), rng.normal(), size())
    seen = {
        "count": int(rng.integers(0, 5)),
        "value": rng.normal(),
        "prev_value": rng.normal(),
        "has_values": bool(rng.integers(0, 4)),
        "has_value": True,
        "gg": size(),
        "prev_gg": size(),
        "start_slope": -size() * bool(rng.integers(0, 8)),
        "end_slope": rng.normal(),
        "step": step,
        "pair": step if step.sy > 0 else Pair(0.0, 0.0, 0.0),
        "last_ss": size(),
        "step_size": size(),
        "rejections": int(rng.integers(0, 7)),
        "curvature": curvatures[0],
        "num_pairs": int(pairs),
        "curvatures": curvatures,
        "in_span": size() * bool(rng.integers(0, 8)),
    }
    products = [size() if i in (0, 4, 7, 9) else rng.normal() for i in range(10)]
    return seen, lp.InnerProducts(*products)


def observation(seen, **more):
    sizes = {"memory_size": MEMORY_SIZE, "num_params": NUM_PARAMS}
    return Observation(**jax.tree.map(jnp.asarray, seen), **sizes, **more)


def log(a, b):
    """ln(a / b) within ±9, and 0 where it has none."""
    return float(np.clip(np.log(a / b), -9, 9)) if a > 0 and b > 0 else 0.0


def cosine(product, a, b):
    return float(np.clip(product / np.sqrt(a * b), -1, 1))


def slope_ratio(o):
    return o["end_slope"] / o["start_slope"] if o["start_slope"] else 0.0


def scalings(o):
    """The short γ and the long one."""
    pair, by_length = o["pair"], np.sqrt(o["last_ss"] / o["gg"])
    return (pair.sy / pair.yy, pair.ss / pair.sy) if pair.yy else (by_length, by_length)


def curvature_ratio(o):
    """Mean curvature over that at the end, within 1e±3; 1 where it is unknown."""
    rise, slopes = o["value"] - o["prev_value"], (o["start_slope"], o["end_slope"])
    known = o["has_values"] and slopes[1] > slopes[0]
    return oracles.curvature_ratio(rise, *slopes) if known else 1.0


def before(o, gamma):
    """The features before the direction, from their description."""
    r = slope_ratio(o)
    (short, long), fall = scalings(o), -o["start_slope"]
    there = o["curvatures"][o["curvatures"] > 0]
    step, later = o["step"], o["count"] > 1
    reduction = (o["prev_value"] - o["value"]) / fall if fall else 0.0
    return [
        np.clip(r, -2, 2),
        np.exp(-4 * abs(r)),
        log(long, short) / 3,
        log(gamma, short) / 3,
        log(o["step_size"], 1) / 2 if later else 0,
        min(o["rejections"], 4) / 2,
        log(o["gg"], o["prev_gg"]) / 3,
        np.clip(reduction, -1, 2) if o["has_values"] else 0.5,
        not o["has_values"],
        log(o["step_size"] * fall, step.sy) / 2 if later else 0,
        step.sy <= 0,
        cosine(o["end_slope"], o["gg"], step.ss),
        cosine(step.sy, step.ss, step.yy),
        log(max(there, default=0), o["curvature"]) / 3,
        log(o["curvature"], min(there, default=0)) / 3,
        o["num_pairs"] / 10,
        np.log(256) / 5 - 1,  # of 300 variables
        4 / (4 + o["count"]),
        log(o["in_span"], gamma * o["gg"]) / 3,
        log(curvature_ratio(o), 1) / 2,
    ]


def after(o, p, t):
    """The features after the direction."""
    return [
        log(cosine(-p.dg, p.dd, p.gg), 1) / 2,
        log(p.dd, o["last_ss"]) / 3,
        cosine(p.dy, p.dd, p.yy),
        log(-p.dg, abs(o["start_slope"])) / 3,
        log(t, 1) / 2 if o["count"] else 0,
    ]


def layer(name, x, policy=POLICY):
    weights = policy.params[name]
    return np.asarray(x, float) @ np.asarray(weights["kernel"]) + np.asarray(weights["bias"])


def factor(out):
    """Bounded, and 1 for an answer below 0.15."""
    return np.exp(np.clip(np.sign(out) * max(abs(out) - 0.15, 0), -1.5, 1.5))


@functools.cache
def programs():
    before_jit = jax.jit(
        lambda seen, gamma: before_direction(
            observation(seen), Scaling(gamma, MEMORY_SIZE), of_a_matrix=False
        )
    )
    after_jit = jax.jit(lambda seen, p, t: after_direction(observation(seen), p, t))
    scale = jax.jit(lambda seen, memory: POLICY.scale(observation(seen), memory))
    step = jax.jit(lambda seen, p, memory: POLICY.step_size(observation(seen), p, memory))
    base = jax.jit(lambda seen, m: POLICY.base.scale(observation(seen), m)[0])
    base_step = jax.jit(lambda seen, p, m: POLICY.base.step_size(observation(seen), p, m)[0])
    return before_jit, after_jit, scale, step, base, base_step


@pytest.mark.parametrize("seed", range(4))
def test_features_are_those_of_their_description(seed):
    before_jit, after_jit, *_ = programs()
    for i in range(50):
        seen, products = draw(1000 * seed + i)
        np.testing.assert_allclose(before_jit(seen, 0.3), before(seen, 0.3), rtol=1e-9, atol=1e-12)
        expected = after(seen, products, 0.7)
        np.testing.assert_allclose(
            after_jit(seen, products, jnp.asarray(0.7)), expected, rtol=1e-9, atol=1e-12
        )


def test_answers_are_those_of_its_networks():
    _, _, scale, step, base, base_step = programs()
    changed = np.zeros(3)
    for start in range(0, 60, 6):
        memory, averages = POLICY.init(float), np.zeros(8)
        for i in range(start, start + 6):  # what it remembers goes from step to step
            seen, products = draw(i)
            by_base = base(seen, memory.base)
            features = before(seen, float(by_base.gamma))
            inputs = layer("before", [*features, *averages])
            hidden = inputs / (1 + np.abs(inputs))
            out = layer("answer", hidden)
            averages = 0.8 * averages + 0.2 * np.array(features[:8])
            answer, memory = scale(seen, memory)
            np.testing.assert_allclose(answer.gamma, by_base.gamma * factor(out[0]), rtol=1e-9)
            omega = np.clip(by_base.omega * factor(out[1]), 0.1, 3.0)
            np.testing.assert_allclose(answer.omega, omega, rtol=1e-9)
            assert answer.num_pairs == by_base.num_pairs
            t = float(base_step(seen, products, memory.base))
            inputs = layer("after", [*after(seen, products, t), *hidden])
            (size,) = layer("size", inputs / (1 + np.abs(inputs)))
            expected = t * factor(size) if seen["count"] else t
            actual, memory = step(seen, products, memory)
            np.testing.assert_allclose(actual, expected, rtol=1e-9)
            changed += factor(out[0]) != 1, factor(out[1]) != 1, factor(size) != 1
    assert min(changed) > 5


def test_products_and_scalings_are_those_of_the_vectors():
    d, g, s, y = np.random.default_rng(0).normal(size=(4, 5))
    told = {"d": d, "g": g, "s": s, "y": y}
    products = inner_products(*map(jnp.asarray, (d, g, s, y)))
    for name, value in products._asdict().items():
        np.testing.assert_allclose(value, told[name[0]] @ told[name[1]], rtol=1e-12)
    assert len(products) == 10
    nothing, bends_down = Pair(*jnp.zeros(3)), Pair(*jnp.array([1.0, -2.0, 8.0]))
    scalings = [f(nothing) for f in (Pair.short_scaling, Pair.long_scaling, Pair.curvature)]
    np.testing.assert_array_equal(scalings, [1.0, 1.0, 0.0])
    scalings = [f(bends_down) for f in (Pair.short_scaling, Pair.long_scaling, Pair.curvature)]
    np.testing.assert_allclose(scalings, [0.25, 0.5, 0.0])


def test_a_policy_to_train_begins_with_layers_of_order_one():
    params = init_general(jax.random.key(0), lp.Rule()).params
    for name in ("before", "after"):
        kernel = np.asarray(params[name]["kernel"])
        np.testing.assert_allclose(np.std(kernel) * len(kernel) ** 0.5, 1.0, rtol=0.2)


def test_answers_for_a_dense_h_are_those_of_its_networks():
    """Of a matrix it reads τ, φ and h in place of what pairs would tell."""
    scale = jax.jit(
        lambda seen, b, h: DENSE_POLICY.scale(observation(seen, b=b, h=h), DENSE_POLICY.init(float))
    )
    base = jax.jit(
        lambda seen, b, h: lp.Rule().scale(observation(seen, b=b, h=h), lp.Rule().init(float))[0]
    )
    rng, changed, beyond = np.random.default_rng(1), np.zeros(3), 0
    for i in range(100):
        seen, _ = draw(i)
        b = 10.0 ** rng.uniform(-2, 2)
        h = 10.0 ** rng.uniform(0.01, 2) / b * bool(rng.integers(0, 6))
        seen |= {"curvatures": np.zeros(0)}
        told = seen, jnp.asarray(b), jnp.asarray(h)
        by_rule = base(*told)
        features = before(seen, float(by_rule.gamma))
        features[13:15] = log(float(by_rule.tau), 1), np.clip(float(by_rule.phi), -1, 2)
        features[18] = log(h, 1) / 3
        inputs = layer("before", [*features, *np.zeros(8)], DENSE_POLICY)
        out = layer("answer", inputs / (1 + np.abs(inputs)), DENSE_POLICY)
        factors = [factor(x) for x in out]
        answer, _ = scale(*told)
        np.testing.assert_allclose(answer.tau, by_rule.tau * factors[0], rtol=1e-9)
        omega = np.clip(by_rule.omega * factors[1], 0.1, 3.0)
        np.testing.assert_allclose(answer.omega, omega, rtol=1e-9)
        phi = by_rule.phi * (factors[2] if by_rule.phi > 0 else 1.0)
        np.testing.assert_allclose(answer.phi, phi, rtol=1e-9)
        assert answer.gamma == by_rule.gamma
        changed += np.array(factors) != 1
        beyond += by_rule.phi <= 0
    assert min(changed) > 5
    assert beyond > 5


# -- the rule ------------------------------------------------------------------------------------


def rule_scale(o, cap):
    """γ, ω and the cap."""
    r = slope_ratio(o)
    if o["count"] > 0:
        factor = 1.3 if r > -0.2 else 0.5 if r < -0.5 else 1.0
        cap = max(cap * (0.25 ** o["rejections"] if o["rejections"] else factor), 1.0)
    cap, (short, long) = min(cap, 1e6), scalings(o)
    omega = np.clip(curvature_ratio(o) ** 0.5, 0.1, 2.0)
    return min(long, cap * short), omega, cap


def rule_step(o, p, dense):
    """T of any step but the first."""
    r = slope_ratio(o)
    t = min(1 / (1 - r), 4.0) if 0.9 < r < 1 else 4.0 if r >= 1 else 1.0
    fall = o["prev_value"] - o["value"]
    if (o["rejections"] or dense) and o["has_values"] and fall > 0 and p.dg < 0:
        t = min(t, 2.02 * fall / -p.dg)
    return min(t, 10 * np.sqrt(o["last_ss"] / p.dd))


@pytest.mark.parametrize("seed", range(4))
def test_the_rule_is_that_of_its_description(seed):
    rule = lp.Rule()
    scale = jax.jit(lambda seen, memory: rule.scale(observation(seen), memory))
    step = jax.jit(lambda seen, p, memory: rule.step_size(observation(seen), p, memory)[0])
    for start in range(0, 60, 6):
        memory, cap = rule.init(float), 10.0
        for i in range(start, start + 6):
            seen, products = draw(1000 * seed + i)
            gamma, omega, cap = rule_scale(seen, cap)
            answer, memory = scale(seen, memory)
            np.testing.assert_allclose(answer.gamma, gamma, rtol=1e-9)
            np.testing.assert_allclose(answer.omega, omega, rtol=1e-9)
            np.testing.assert_allclose(memory.cap, cap, rtol=1e-9)
            assert answer.num_pairs == MEMORY_SIZE
            t = step(seen, products, memory)
            np.testing.assert_allclose(t, rule_step(seen, products, dense=False), rtol=1e-9)


def test_the_first_step_goes_to_where_a_parabola_is_zero():
    rule = lp.Rule()
    step = jax.jit(lambda seen, p: rule.step_size(observation(seen), p, rule.init(float))[0])
    for i in range(20):
        seen, products = draw(i)
        seen |= {"last_ss": 0.0, "value": seen["value"] * bool(i % 4), "has_value": bool(i % 3)}
        told = seen["has_value"] and seen["value"]
        expected = 2 * abs(seen["value"] / products.dg) if told else products.dd**-0.5
        np.testing.assert_allclose(step(seen, products), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("memory_size", "fresh"),
    some_of(itertools.product((5, "full", "dense"), (True, False)), quick=(0, 3)),
)
def test_the_first_step_begins_at_x0_as_if_that_were_a_step_from_0(memory_size, fresh):
    """At most ten times as long; where f is rounding beside x0, of length 1, as where it is 0."""
    rng, policy = np.random.default_rng(0), lp.Rule()
    tx = lp.scale_by_lbfgs_pi(policy, memory_size=memory_size)
    update = jax.jit(lambda g, x, f: tx.update(g, tx.init(x), x, value=f)[0])
    later = jax.jit(lambda g, state, x, f: tx.update(g, state, x, value=f))
    seen = set()
    for far in (0.0, 1e-3, 0.05, 1.0, 1e3):
        for f in (0.0, 1e-28, -1e-3, 1.0, 1e6):
            x, g = (a / np.linalg.norm(a) for a in rng.normal(size=(2, 4)))
            x, g = jnp.asarray(far * x), jnp.asarray(g)
            length = 2 * abs(f)
            if length <= np.finfo(float).eps * far or f == 0:
                length = 1.0
            expected = min(length, 10 * far) if far else length
            seen.add((expected == 1.0, expected == 10 * far, length < 10 * far))
            if fresh:
                step = update(g, x, f)
            else:  # a gradient that was not finite moved nothing
                _, state = later(jnp.full(4, jnp.nan), tx.init(x), x, f)
                step, _ = later(g, state, x, f)
            np.testing.assert_allclose(step, expected * g, rtol=1e-9, atol=1e-40)
    assert len(seen) >= 4


@pytest.mark.parametrize("update", UPDATES)
def test_a_dense_rule_is_that_of_its_description(update):
    rule = lp.Rule(update=update)
    scale = jax.jit(lambda seen, b, h: rule.scale(observation(seen, b=b, h=h), rule.init(float))[0])
    step = jax.jit(lambda seen, p: rule.step_size(observation(seen), p, rule.init(float))[0])
    rng, first = np.random.default_rng(0), 0
    for i in range(200):
        seen, products = draw(i)
        seen |= {"curvatures": np.zeros(0)}
        if seen["pair"].yy:  # as of real pairs: b h is at least 1
            ss, sy, _ = seen["pair"]
            yy = sy**2 / ss * 10 ** rng.uniform(0.1, 3)
            seen["pair"] = Pair(ss, sy, yy)
            b = 10.0 ** rng.uniform(-2, 2)
            h = 10.0 ** rng.uniform(0.1, 2) / b * bool(rng.integers(0, 4))
            gamma = sy / yy
            known = h > 0
            first += not known
            used = (b, h) if known else (ss / sy / gamma, yy / sy * gamma)
            tau, phi = oracles.self_scaled(update, *used, NUM_PARAMS)
            tau = max(tau, used[0] ** -0.5) if seen["rejections"] else tau
            answer = scale(seen, jnp.asarray(b), jnp.asarray(h))
            np.testing.assert_allclose(answer.gamma, gamma, rtol=1e-9)
            np.testing.assert_allclose((answer.tau, answer.phi), (tau, phi), rtol=1e-6)
        expected = rule_step(seen, products, dense=True)
        np.testing.assert_allclose(step(seen, products), expected, rtol=1e-9)
    assert first > 5
