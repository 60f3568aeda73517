"""Media found from what they do: a diffusion coefficient, layers of a film, a spectrum."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_lbfgs_pi.suite.instances import Parts, add_instances

_CELLS, _LAYERS, _PEAKS = 64, 16, 6


def diffuse(
    logs: Float[Array, " cells"], sources: Float[Array, "nodes sources"]
) -> Float[Array, "nodes sources"]:
    """-(a u')' = q on [0, 1], u = 0 at its ends, by differences; a = exp(logs) in each cell."""
    cells = logs.shape[0]
    a = jnp.exp(logs) * cells**2
    A = jnp.diag(a[:-1] + a[1:]) - jnp.diag(a[1:-1], 1) - jnp.diag(a[1:-1], -1)
    return jnp.linalg.solve(A, sources)


def diffusion_loss(params: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
    """Misfit over noise, plus what keeps the coefficient smooth."""
    misfit = (diffuse(params, data["sources"]) - data["seen"]) / data["noise"]
    return 0.5 * jnp.mean(misfit**2) + data["smooth"] * jnp.sum(jnp.diff(params) ** 2)


def reflectance(
    thicknesses: Float[Array, " layers"],
    indices: Float[Array, " layers"],
    wavelengths: Float[Array, " num"],
    substrate: Array,
) -> Float[Array, " num"]:
    """What layers on a substrate reflect at normal incidence, by characteristic matrices.

    The matrices are [[a, ib], [ic, d]] with real a, b, c, d.
    """

    def layer(m: tuple[Array, ...], one: tuple[Array, Array]) -> tuple[tuple[Array, ...], None]:
        a, b, c, d = m
        thickness, index = one
        phase = 2.0 * jnp.pi * index * thickness / wavelengths
        cos, sin = jnp.cos(phase), jnp.sin(phase)
        a, b = a * cos - b * index * sin, a * sin / index + b * cos
        c, d = c * cos + d * index * sin, d * cos - c * sin / index
        return (a, b, c, d), None

    ones, zeros = jnp.ones_like(wavelengths), jnp.zeros_like(wavelengths)
    (a, b, c, d), _ = jax.lax.scan(layer, (ones, zeros, zeros, ones), (thicknesses, indices))
    re, im = d * substrate, b * substrate
    return ((a - re) ** 2 + (im - c) ** 2) / ((a + re) ** 2 + (im + c) ** 2)


def film_loss(params: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
    """Mean square distance from the reflectance wanted; params are logarithms of thicknesses."""
    r = reflectance(jnp.exp(params), data["indices"], data["wavelengths"], data["substrate"])
    return jnp.mean((r - data["wanted"]) ** 2)


def spectrum(params: Float[Array, " n"], t: Float[Array, " num"]) -> Float[Array, " num"]:
    """Gaussian peaks (heights, centers, logarithms of widths) over a constant."""
    heights, centers, logs = params[:-1].reshape(3, _PEAKS)
    z = (t[:, None] - centers[None, :]) * jnp.exp(-logs)[None, :]
    return jnp.exp(-0.5 * z * z) @ heights + params[-1]


def spectrum_loss(params: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
    """Half the sum of squares."""
    return 0.5 * jnp.sum((spectrum(params, data["t"]) - data["y"]) ** 2)


def _diffusion(index: int) -> Parts:
    rng = np.random.default_rng((71, index))
    cells, nodes = (np.arange(_CELLS) + 0.5) / _CELLS, np.arange(1, _CELLS) / _CELLS
    truth = np.where(np.abs(cells - rng.uniform(0.3, 0.7)) < 0.15, rng.uniform(0.5, 1.5), 0.0)
    truth = truth + 0.3 * np.sin(2 * np.pi * cells * (1 + index % 3))
    sources = np.stack([np.ones_like(nodes), np.sin(2 * np.pi * nodes)], axis=1)
    clean = np.asarray(diffuse(jnp.asarray(truth), jnp.asarray(sources)), float)
    noise = 0.01 * clean.std()
    data = {
        "sources": sources,
        "seen": clean + noise * rng.normal(size=clean.shape),
        "noise": np.array(noise),
        "smooth": np.array(1e-3),
    }
    return diffusion_loss, 0.5 * rng.normal(size=_CELLS), data


def _film(index: int) -> Parts:
    rng = np.random.default_rng((72, index))
    wavelengths = 1.0 / np.linspace(1 / 0.8, 1 / 0.4, 60)  # micrometres, even in frequency
    low, high = np.sort(rng.uniform(0.45, 0.75, size=2))
    indices = np.where(np.arange(_LAYERS) % 2 == 0, 2.3, 1.45)
    data = {
        "wavelengths": wavelengths,
        "wanted": ((wavelengths > low) & (wavelengths < high + 0.05)).astype(float),
        "indices": indices,
        "substrate": np.array(1.52),
    }
    quarter = 0.25 * 0.55 / indices
    return film_loss, np.log(quarter) + 0.3 * rng.normal(size=_LAYERS), data


def _spectrum(index: int) -> Parts:
    rng = np.random.default_rng((73, index))
    t = np.linspace(0.0, 10.0, 150)
    centers = np.linspace(1.0, 9.0, _PEAKS) + 0.3 * rng.normal(size=_PEAKS)
    heights, logs = rng.uniform(0.3, 3.0, size=_PEAKS), np.log(rng.uniform(0.2, 0.8, size=_PEAKS))
    truth = np.concatenate([heights, centers, logs, [0.5]])
    y = np.asarray(spectrum(jnp.asarray(truth), jnp.asarray(t)), float)
    y = y + 0.02 * rng.normal(size=150)
    spread = np.repeat([0.5, 0.2, 0.3], _PEAKS)
    x0 = truth + np.append(spread, 0.3) * rng.normal(size=truth.size)
    return spectrum_loss, x0, {"t": t, "y": y}


add_instances("diffusion-identification", 4, _diffusion, "a coefficient from two experiments")
add_instances("film-design", 4, _film, "Macleod, Thin-Film Optical Filters")
add_instances("curve-spectrum", 4, _spectrum, "six peaks, synthetic")
