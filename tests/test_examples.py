"""The examples run, at small size, and do what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import roots_legendre

from benchmarks.solvers import ours
from examples import beside, coils, disasters, gaussian_process, light, logistic_regression, spectra
from examples import physics_informed as pinn
from tests.marks import some_of

NAMES = list(pinn.OPTIMIZERS)


@pytest.fixture(autouse=True)
def _few_solvers_and_no_files(monkeypatch, tmp_path):
    monkeypatch.setattr(beside, "FIGURES", tmp_path)
    for example in (coils, disasters, gaussian_process, light, logistic_regression, pinn, spectra):
        monkeypatch.setattr(example, "everyone", lambda m, **others: {"L-BFGS-π": ours()})
    with jax.numpy_rank_promotion("allow"):  # they are written as users write
        yield


def solved(outcomes):
    """The share that reached the target, in the one race that was run."""
    (outcome,) = outcomes.values()
    return np.mean(outcome.solved["L-BFGS-π"].reached)


def test_the_right_hand_side_is_that_of_the_solution(monkeypatch):
    """By hand: -Δu + u³ of the solution; and a network that is the solution has no loss."""
    x = jnp.array([0.3, 0.6])
    a = jnp.sin(2 * jnp.pi * x[0]) * jnp.sin(jnp.pi * x[1])
    wave = jnp.sin(3 * jnp.pi * x[1])
    b = x[0] * (1 - x[0]) * wave
    expected = 5 * jnp.pi**2 * a + 9 * jnp.pi**2 * b + 2 * wave + (a + b) ** 3
    assert jnp.allclose(pinn.residual(pinn.solution, x), expected, rtol=1e-12)
    monkeypatch.setattr(pinn, "field", lambda params, x: pinn.solution(x))
    assert pinn.loss(None, x[None]) == 0.0
    assert pinn.error(None) == 0.0


@pytest.mark.parametrize("name", some_of(NAMES, quick=(NAMES.index("dense"),)))
def test_physics_informed(name, monkeypatch, capsys):
    monkeypatch.setattr(pinn, "WIDTHS", (2, 6, 6, 1))
    monkeypatch.setattr(pinn, "OPTIMIZERS", {name: pinn.OPTIMIZERS[name]})
    (_, (_, (told, last, wrong, _))), (_, outcome) = pinn.main(40, 50, 1, seconds=0.0).items()
    assert told == name
    assert name in capsys.readouterr().out
    points = jax.random.uniform(jax.random.key(100), (50, 2))
    before = pinn.loss(pinn.init(jax.random.key(0)), points)
    assert last < before
    assert 0 < wrong < 2
    assert outcome.solved["L-BFGS-π"].value < before


def test_spectra(capsys):
    """The noise is what is left."""
    assert solved(spectra.main(12, seconds=0.0)) >= 0.95
    assert float(capsys.readouterr().out.split("median residual ")[1][:5]) < 0.06


@pytest.mark.slow
def test_gaussian_process(capsys):
    """The likelihood is SciPy's density of the data."""
    from scipy.stats import multivariate_normal

    (train, _), params = gaussian_process.diabetes(12), gaussian_process.starts(1)
    params = jax.tree.map(lambda a: a[0], params)
    factor = gaussian_process.factor_of(params, train["x"])
    density = multivariate_normal(cov=np.asarray(factor @ factor.T)).logpdf(train["y"])
    expected = -density / 12 - 0.5 * np.log(2 * np.pi)
    assert np.isclose(gaussian_process.loss(params, train), expected, rtol=1e-9)
    assert solved(gaussian_process.main(4, 30, seconds=0.0)) >= 0.25
    assert "within two deviations" in capsys.readouterr().out


def test_the_field_of_a_coil_is_that_on_the_axis_of_a_circle():
    """2 π r² / (r² + z²)^(3/2) for μ₀ I / 4π = 1, here over 2 π; and images are where they are."""
    angle = 2 * np.pi * np.arange(64) / 64
    circle = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)[None]
    along = np.stack([-np.sin(angle), np.cos(angle), 0 * angle], 1)[None]
    b = coils.field(np.array([[0.0, 0.0, 0.5]]), circle, along, np.ones(1))
    assert np.allclose(b, [[0.0, 0.0, 1.25**-1.5]], atol=1e-12)
    points, tangents, _ = coils.shapes(coils.start()["waves"], 8)
    everywhere, _, currents = coils.all_coils(points, tangents, np.ones(4))
    assert np.allclose(everywhere[4:8], points * np.array([1, -1, -1]))
    assert np.allclose(everywhere[8:12], points * np.array([-1, -1, 1]), atol=1e-12)
    assert list(currents[::4]) == [1, -1, 1, -1]


def test_the_surface_has_the_area_of_a_torus(monkeypatch):
    """Its normals, of a round one: 4 π² R r; half a period of two is a quarter."""
    _, normal = coils.surface(24)
    nodes, weights = roots_legendre(40)
    phi, w = np.pi / 4 * (nodes + 1), np.pi / 4 * weights
    theta = 2 * np.pi * np.arange(40) / 40

    def point(t, p):
        r = 1 + 0.17 * np.cos(t) + 0.05 * np.cos(t - 2 * p)
        return np.array([r * np.cos(p), r * np.sin(p), 0.17 * np.sin(t) - 0.05 * np.sin(t - 2 * p)])

    e = 1e-5
    t, p = np.meshgrid(theta, phi, indexing="ij")
    cross = np.cross(
        (point(t + e, p) - point(t - e, p)) / (2 * e),
        (point(t, p + e) - point(t, p - e)) / (2 * e),
        axis=0,
    )
    area = np.sum(np.linalg.norm(cross, axis=0) * w) * 2 * np.pi / 40
    ours = np.sum(np.linalg.norm(normal, axis=1)) * (2 * np.pi / 24) * (np.pi / 2 / 24)
    assert np.isclose(ours, area, rtol=1e-3)


@pytest.mark.slow
def test_coils(monkeypatch, capsys):
    monkeypatch.setattr(coils, "ORDER", 2)
    assert solved(coils.main(6, budget=60, seconds=0.0)) == 1
    assert "evaluations" in capsys.readouterr().out


def test_light_keeps_its_power_and_spreads_as_a_gaussian_beam():
    """w(z)² = w₀² (1 + (z / z_R)²), z_R = π w₀² / λ."""
    x, y = light.grid(96)
    beam = jnp.exp(-(x**2 + y**2) / 90e-6**2)[None]
    far = light.travel(beam)
    assert np.isclose(jnp.sum(jnp.abs(far) ** 2), jnp.sum(beam**2), rtol=1e-12)
    power = jnp.abs(far[0]) ** 2
    width = 2 * jnp.sqrt(jnp.sum(power * x**2) / jnp.sum(power))
    rayleigh = np.pi * 90e-6**2 / light.WAVELENGTH
    assert np.isclose(width, 90e-6 * np.sqrt(1 + (light.DISTANCE / rayleigh) ** 2), rtol=1e-3)


@pytest.mark.slow
def test_light(capsys):
    modes = light.modes(48).reshape(6, -1)
    assert np.allclose(modes @ modes.T, np.eye(6), atol=1e-3)
    assert solved(light.main(24, budget=40, seconds=0.0)) == 1
    assert "power in the right modes" in capsys.readouterr().out


@pytest.mark.slow
def test_disasters(capsys):
    """All starts of three end at one maximum; 188 disasters are those of the years with a count."""
    assert disasters.COUNTS[disasters.COUNTS >= 0].sum() == 188
    assert solved(disasters.main(3, 40, seconds=0.0)) >= 0.95
    assert "at the best" in capsys.readouterr().out


def test_laplace_is_exact_for_a_gaussian(monkeypatch):
    scales = jnp.array([1.0, 10.0])
    monkeypatch.setattr(disasters, "loss", lambda x, data: 0.5 * jnp.sum((x["z"] / scales) ** 2))
    draws, log_weights = disasters.laplace({"z": jnp.zeros(2)}, None, 4000)
    assert np.allclose(log_weights, log_weights[0])
    assert np.allclose(np.std(draws["z"], axis=0), scales, rtol=0.05)


def test_the_classifier_has_scikit_learns_objective_and_coefficients():
    names = ("iris", "breast cancer")
    for name, X, y in logistic_regression.datasets():
        if name not in names:
            continue
        ours = logistic_regression.LBFGSPiClassifier(tol=1e-10).fit(X, y)
        theirs = logistic_regression.LogisticRegression(tol=1e-10, max_iter=10_000).fit(X, y)
        least, found = (logistic_regression.objective(m, X, y) for m in (theirs, ours))
        assert abs(found - least) < 1e-8 * least
        assert np.allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-4)


@pytest.mark.slow
def test_whole_fits_and_a_race_of_the_classifier():
    outcomes = logistic_regression.main(0.0, ("iris",))
    _, (name, apart, *seconds) = outcomes.pop("whole fits, to 1e-8 of the objective")
    assert name == "iris"
    assert apart < 1e-8
    assert min(seconds) > 0
    assert solved(outcomes) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_classifier_is_scikit_learns_by_its_own_checks():
    from sklearn.utils.estimator_checks import check_estimator

    results = check_estimator(logistic_regression.LBFGSPiClassifier(), on_skip=None, on_fail=None)
    failed = [r for r in results if r["status"] not in ("passed", "skipped")]
    assert not failed, failed
    assert len(results) > 40
