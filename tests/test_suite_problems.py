import functools
import importlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jax_lbfgs_pi.suite import REGISTRY
from tests.marks import some_of

# fmt: off
MODULES = {
    name: importlib.import_module(f"jax_lbfgs_pi.suite.{name}")
    for name in [
        "least_squares", "curve_fits", "extended", "andrei", "chains",
        "multimodal", "bbob", "lattice", "clusters",
    ]
}
# fmt: on
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def formula_of(kind):
    """The decorated function: residuals for a sum of squares."""
    return next((getattr(m, kind) for m in MODULES.values() if hasattr(m, kind)), None)


NAMES = [n for n in REGISTRY.names() if formula_of(REGISTRY.kind(n))]
KINDS = list(dict.fromkeys(map(REGISTRY.kind, NAMES)))


@functools.cache
def value_and_grad(loss):
    return jax.jit(jax.value_and_grad(loss), compiler_options=QUICK)


def evaluate(problem, x):
    f, g = value_and_grad(problem.loss)(jnp.asarray(x), problem.data)
    return float(f), np.asarray(g)


def test_there_are_many_kinds():
    assert len(KINDS) >= 90
    assert len(NAMES) == len(set(NAMES)) >= 200


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_and_match_differences(kind):
    for name in REGISTRY.names([kind]):
        problem = REGISTRY.make(name)
        x0 = problem.x0
        assert x0.dtype == np.float64
        assert name.split("@")[0] == f"{kind}-{x0.size}"
        f, g = evaluate(problem, x0)
        assert np.isfinite(f), name
        assert np.all(np.isfinite(g)), name
        assert np.any(g != 0), name

        step = np.random.default_rng(0).normal(size=x0.shape) * np.maximum(np.abs(x0), 1)
        h = 1e-9 if kind == "griewank_rosenbrock" else 1e-6  # its ripples are short
        ahead, behind = evaluate(problem, x0 + h * step)[0], evaluate(problem, x0 - h * step)[0]
        rounding = 1e-14 * max(abs(ahead), abs(behind)) / h
        allowed = 1e-5 * np.linalg.norm(g * step) + rounding
        assert abs((ahead - behind) / (2 * h) - g @ step) <= allowed, name


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=pytest.mark.slow if i % 3 else ()) for i, k in enumerate(KINDS)],
)
def test_single_precision_stays_single_in_batches(kind):
    problem = REGISTRY.make(REGISTRY.names([kind])[0])
    single = functools.partial(jnp.asarray, dtype=jnp.float32)
    x = single(np.stack([problem.x0] * 2))
    data = jax.tree.map(single, problem.data)
    batched = jax.vmap(jax.value_and_grad(problem.loss), (0, None))
    f, g = jax.jit(batched, compiler_options=QUICK)(x, data)
    assert f.dtype == g.dtype == jnp.float32
    assert np.all(np.isfinite(g))
    expected = evaluate(problem, problem.x0)[0]
    np.testing.assert_allclose(f, expected, rtol=2e-3, atol=1e-4)


def test_starts_near_the_first_are_reproducible():
    first, again = REGISTRY.make("wood-4@near1"), REGISTRY.make("wood-4@near1")
    np.testing.assert_array_equal(first.x0, again.x0)
    assert np.any(first.x0 != REGISTRY.make("wood-4@near2").x0)
    np.testing.assert_array_equal(REGISTRY.make("wood-4@10x").x0, [-30, -10, -30, -10])


# --- published values at the start ----------------------------------------------------------------

# fmt: off
AT_START = {
    "rosenbrock-2": 24.2, "freudenstein_roth-2": 400.5, "powell_badly_scaled-2": 1.135262,
    "brown_badly_scaled-2": 9.999980e11, "beale-2": 14.203125, "jennrich_sampson-2": 4171.306,
    "helical_valley-3": 2500.0, "bard-3": 41.68170, "gaussian-3": 3.888107e-6,
    "meyer-3": 1.693608e9, "gulf-3": 12.11070, "box_3d-3": 1031.154, "powell_singular-4": 215.0,
    "wood-4": 19192.0, "kowalik_osborne-4": 5.313172e-3, "brown_dennis-4": 7.926693e6,
    "osborne_1-5": 0.8790260, "biggs_exp6-6": 0.7790700, "osborne_2-11": 2.093420,
    "watson-6": 30.0, "chebyquad-8": 0.03861770, "brown_almost_linear-10": 273.2480,
}
# fmt: on


@pytest.mark.parametrize("name", AT_START)
def test_values_at_the_start_are_the_published_ones(name):
    problem = REGISTRY.make(name)
    np.testing.assert_allclose(evaluate(problem, problem.x0)[0], AT_START[name], rtol=2e-6)


# --- formulas as loops ----------------------------------------------------------------------------


def loop_watson(x):
    n, total = len(x), x[0] ** 2 + (x[1] - x[0] ** 2 - 1) ** 2
    for i in range(1, 30):
        t = i / 29
        slope = sum((j - 1) * x[j - 1] * t ** (j - 2) for j in range(2, n + 1))
        value = sum(x[j - 1] * t ** (j - 1) for j in range(1, n + 1))
        total += (slope - value**2 - 1) ** 2
    return total


def loop_chebyquad(x):
    n, total = len(x), 0.0
    for i in range(1, n + 1):
        # The starts lie in [0, 1], where the shifted polynomials are cosines.
        mean = sum(math.cos(i * math.acos(2 * t - 1)) for t in x) / n
        total += (mean - (0 if i % 2 else -1 / (i * i - 1))) ** 2
    return total


def loop_discrete_integral_equation(x):
    n, total = len(x), 0.0
    h = 1 / (n + 1)
    for i in range(1, n + 1):
        s = 0.0
        for j in range(1, n + 1):
            cube = (x[j - 1] + j * h + 1) ** 3
            s += (1 - i * h) * j * h * cube if j <= i else i * h * (1 - j * h) * cube
        total += (x[i - 1] + h * s / 2) ** 2
    return total


def loop_broyden_banded(x):
    n, total = len(x), 0.0
    for i in range(n):
        near = [j for j in range(max(0, i - 5), min(n - 1, i + 1) + 1) if j != i]
        total += (x[i] * (2 + 5 * x[i] ** 2) + 1 - sum(x[j] * (1 + x[j]) for j in near)) ** 2
    return total


def loop_broyden_tridiagonal(x):
    total, x = 0.0, [0.0, *x, 0.0]
    for i in range(1, len(x) - 1):
        total += ((3 - 2 * x[i]) * x[i] - x[i - 1] - 2 * x[i + 1] + 1) ** 2
    return total


def loop_penalty_2(x):
    n = len(x)
    total = (x[0] - 0.2) ** 2 + (sum((n - j) * x[j] ** 2 for j in range(n)) - 1) ** 2
    for i in range(2, n + 1):
        y = math.exp(i / 10) + math.exp((i - 1) / 10)
        total += 1e-5 * (math.exp(x[i - 1] / 10) + math.exp(x[i - 2] / 10) - y) ** 2
    for i in range(n + 1, 2 * n):
        total += 1e-5 * (math.exp(x[i - n] / 10) - math.exp(-1 / 10)) ** 2
    return total


def loop_gulf(x):
    total = 0.0
    for i in range(1, 100):
        t = i / 100
        y = 25 + (-50 * math.log(t)) ** (2 / 3)
        total += (math.exp(-(abs(y - x[1]) ** x[2]) / x[0]) - t) ** 2
    return total


def loop_biggs_exp6(x):
    total, e = 0.0, math.exp
    for i in range(1, 14):
        t = i / 10
        y = e(-t) - 5 * e(-10 * t) + 3 * e(-4 * t)
        fit = x[2] * e(-t * x[0]) - x[3] * e(-t * x[1]) + x[5] * e(-t * x[4])
        total += (fit - y) ** 2
    return total


def loop_trigonometric(x):
    n, cosines = len(x), sum(math.cos(t) for t in x)
    return sum((n - cosines + i * (1 - math.cos(t)) - math.sin(t)) ** 2 for i, t in enumerate(x, 1))


def loop_variably_dimensioned(x):
    s = sum(i * (t - 1) for i, t in enumerate(x, 1))
    return sum((t - 1) ** 2 for t in x) + s**2 + s**4


def loop_chained_wood(x):
    total = 0.0
    for i in range(1, len(x) - 2, 2):
        a, b, c, d = x[i - 1 : i + 3]
        total += 100 * (a**2 - b) ** 2 + (a - 1) ** 2 + 90 * (c**2 - d) ** 2 + (c - 1) ** 2
        total += 10 * (b + d - 2) ** 2 + (b - d) ** 2 / 10
    return total


def enneper_height(a, b):
    # The plane's points are (u + uv² - u³/3, -v - u²v + v³/3); the height there is u² - v².
    def gap(w):
        u, v = w
        return [u + u * v**2 - u**3 / 3 - a, -v - u**2 * v + v**3 / 3 - b]

    u, v = scipy.optimize.fsolve(gap, [a, -b], xtol=1e-13)
    return u**2 - v**2


def loop_minimal_surface(x):
    m = math.isqrt(len(x))
    h, v = 1 / (m + 1), np.zeros((m + 2, m + 2))
    for i in range(m + 2):
        for j in range(m + 2):
            inside = 0 < i <= m and 0 < j <= m
            at = (-0.5 + i * h, -0.5 + j * h)
            v[i, j] = x[(i - 1) * m + j - 1] if inside else enneper_height(*at)
    area = 0.0
    for i in range(m + 1):
        for j in range(m + 1):
            corners = [(i, j), (i + 1, j), (i, j + 1), (i + 1, j + 1)]
            p = [np.array([r * h, c * h, v[r, c]]) for r, c in corners]
            # This split is along the other diagonal of two: the area of p0 p1 p2 and p3 p1 p2.
            area += np.linalg.norm(np.cross(p[1] - p[0], p[2] - p[0])) / 2
            area += np.linalg.norm(np.cross(p[1] - p[3], p[2] - p[3])) / 2
    return area


def loop_torsion(x):
    m = math.isqrt(len(x))
    h, v = 1 / (m + 1), np.pad(np.reshape(x, (m, m)), 1)
    total = -5 * h * h * v.sum()
    for i in range(m + 1):
        for j in range(m + 1):
            # Linear on two triangles in each cell.
            lower = ((v[i + 1, j] - v[i, j]) / h) ** 2 + ((v[i, j + 1] - v[i, j]) / h) ** 2
            right = (v[i + 1, j + 1] - v[i, j + 1]) / h
            top = (v[i + 1, j + 1] - v[i + 1, j]) / h
            total += h * h / 4 * (lower + right**2 + top**2)
    return total


def loop_lennard_jones(x):
    points, total = np.reshape(x, (-1, 3)), 0.0
    for i in range(len(points)):
        for j in range(i):
            r = math.dist(points[i], points[j])
            total += 4 * (r**-12 - r**-6)
    return total


LOOPS = {name[5:]: loop for name, loop in list(globals().items()) if name.startswith("loop_")}


@pytest.mark.parametrize("kind", LOOPS)
def test_formulas_are_those_of_explicit_loops(kind):
    problem = REGISTRY.make(REGISTRY.names([kind])[0])
    noise = 0.05 * np.random.default_rng(1).uniform(-1, 1, size=problem.x0.shape)
    for x in (problem.x0, problem.x0 + noise):
        np.testing.assert_allclose(evaluate(problem, x)[0], LOOPS[kind](list(x)), rtol=1e-9)


# --- minima ---------------------------------------------------------------------------------------


def icosahedron():
    g = (1 + 5**0.5) / 2
    corners = [(0, a, b * g) for a in (-1, 1) for b in (-1, 1)]
    corners += [(a, b * g, 0) for a in (-1, 1) for b in (-1, 1)]
    corners += [(b * g, 0, a) for a in (-1, 1) for b in (-1, 1)]
    return np.array([(0.0, 0.0, 0.0), *corners])


def cluster(n):
    """Points near the best known cluster of Lennard-Jones or Morse."""
    if n == 39:
        return (icosahedron() * 0.56).ravel()
    if n == 60:  # two icosahedra in each other along an axis of five, and one more at the waist
        turns = 2 * np.pi * np.arange(5) / 5
        rings = [
            np.stack([0.95 * np.cos(turns + t), 0.95 * np.sin(turns + t), np.full(5, z)], axis=1)
            for t, z in ((0, 0.0), (np.pi / 5, 1.0), (np.pi / 5, -1.0))
        ]
        axis = [(0, 0, z) for z in (-1.55, -0.56, 0.56, 1.55)]
        waist = [(1.5 * math.cos(np.pi / 5), 1.5 * math.sin(np.pi / 5), 0)]
        return np.concatenate([axis, *rings, waist]).ravel()
    if n == 114:  # a truncated octahedron of the face-centred cubic lattice
        lattice = np.array([p for p in np.ndindex(9, 9, 9) if sum(p) % 2]) - 4
        nearest = np.argsort(np.sum(lattice**2, axis=1), kind="stable")[:38]
        return 0.78 * lattice[nearest].ravel()
    return REGISTRY.make("lennard_jones-15").x0


def near_best(kind):
    """0.01 off the minimizer of a function of BBOB."""

    def start(n):
        return REGISTRY.make(f"{kind}-{n}").data["best"] + 0.01

    return start


def in_valley(n):
    scale = max(1.0, n**0.5 / 8)
    return 0.5 / scale * REGISTRY.make(f"griewank_rosenbrock-{n}").data["basis"].sum(axis=0) + 1e-3


GOOD_STARTS = {
    "freudenstein_roth": lambda n: [5.1, 3.9],
    "jennrich_sampson": lambda n: [0.25, 0.25],
    "biggs_exp6": lambda n: [1.1, 9.0, 1.1, 5.1, 3.9, 2.9],
    "trigonometric": lambda n: np.full(n, 0.01 / n),
    "hiebert": lambda n: np.resize([10.001, 4999.0], n),
    "chebyshev_rosenbrock": lambda n: np.full(n, 1 - 1e-4),
    "styblinski_tang": lambda n: np.full(n, -3.0),
    "griewank": lambda n: np.full(n, 0.1),
    "levy": lambda n: np.full(n, 1.1),
    "griewank_rosenbrock": in_valley,
    "ellipsoid": near_best("ellipsoid"),
    "rotated_ellipsoid": near_best("rotated_ellipsoid"),
    "rastrigin": near_best("rastrigin"),
    "lennard_jones": cluster,
    "morse": cluster,
}
# fmt: off
PUBLISHED = {
    "jennrich_sampson-2": 124.362, "bard-3": 8.21487e-3, "gaussian-3": 1.12793e-8,
    "meyer-3": 87.9458, "kowalik_osborne-4": 3.07505e-4, "brown_dennis-4": 85822.2,
    "osborne_1-5": 5.46489e-5, "osborne_2-11": 4.01377e-2, "watson-6": 2.28767e-3,
    "watson-9": 1.39976e-6, "watson-12": 4.72238e-10, "penalty_1-4": 2.24997e-5,
    "penalty_1-10": 7.08765e-5, "penalty_2-4": 9.37629e-6, "penalty_2-10": 2.93660e-4,
    "chebyquad-8": 3.51687e-3, "chebyquad-10": 6.50395e-3, "lennard_jones-15": -9.103852,
    "lennard_jones-39": -44.326801, "lennard_jones-60": -77.177043,
    "lennard_jones-114": -173.928427, "morse-15": -9.044930, "morse-39": -42.439863,
    "thomson-36": 49.165253058, "thomson-96": 412.261274651,
}
# fmt: on
SMALLEST = [REGISTRY.names([kind])[0] for kind in KINDS]
KNOWN = [n for n in SMALLEST if REGISTRY.make(n).minimum is not None]
KNOWN += [n for n in PUBLISHED if n not in KNOWN]

RESIDUALS = [m for key, m in MODULES.items() if key in ("least_squares", "curve_fits", "extended")]


def least_value(problem, start):
    """What SciPy finds, and the least value on its way there."""
    seen = []
    if any(hasattr(m, problem.kind) for m in RESIDUALS):
        r = functools.partial(formula_of(problem.kind), data=problem.data)
        compiled = jax.jit(lambda x: (r(x), jax.jacfwd(r)(x)), compiler_options=QUICK)

        def residuals(x):
            seen.append(float(np.sum(np.asarray(compiled(x)[0]) ** 2)))
            return np.asarray(compiled(x)[0])

        tolerances = dict.fromkeys(("ftol", "xtol", "gtol"), 1e-15)
        result = scipy.optimize.least_squares(
            residuals,
            start,
            lambda x: np.asarray(compiled(x)[1]),
            x_scale="jac",
            max_nfev=1000,
            **tolerances,
        )
        return 2 * result.cost, min(seen)

    def both(x):
        f, g = evaluate(problem, x)
        seen.append(f)
        return f, g

    options = {"maxiter": 3000, "maxfun": 4000, "ftol": 1e-16, "gtol": 1e-9}
    result = scipy.optimize.minimize(both, start, jac=True, method="L-BFGS-B", options=options)
    return result.fun, min(seen)


@pytest.mark.parametrize("name", some_of(KNOWN, quick=range(0, len(KNOWN), 4)))
def test_minima_are_reached_from_a_good_start(name):
    problem = REGISTRY.make(name)
    start = GOOD_STARTS.get(problem.kind, lambda n: problem.x0)(problem.x0.size)
    found, least = least_value(problem, np.asarray(start, np.float64))
    expected = problem.minimum
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9 if expected == 0 else 0)
    assert least >= expected - 1e-9 * abs(expected) - 1e-14


@pytest.mark.parametrize("name", PUBLISHED)
def test_minima_are_the_published_ones_with_more_digits(name):
    np.testing.assert_allclose(REGISTRY.make(name).minimum, PUBLISHED[name], rtol=4e-6)
