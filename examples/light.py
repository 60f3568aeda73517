"""Inverse design through a simulator of light: python -m examples.light.

Six spots of light fall on five thin phase plates, 20 mm apart, and shall leave as the six lowest
Hermite-Gauss modes (a multi-plane light converter: Labroille et al., 2014). Light is propagated
between the plates by its angular spectrum; the unknowns are 5 × 64 × 64 phases.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jax_lbfgs_pi as lp
from benchmarks.solvers import Problem
from examples.beside import everyone, keep, race

PLATES, DISTANCE, WAVELENGTH, PITCH = 5, 20e-3, 1.55e-6, 10e-6  # metres
WAIST_IN, WAIST_OUT = 45e-6, 90e-6
ORDERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))


def grid(pixels):
    """The coordinates of the pixels, in metres."""
    line = (jnp.arange(pixels) - pixels / 2) * PITCH
    return jnp.meshgrid(line, line, indexing="ij")


def _unit(fields):
    return fields / jnp.sqrt(jnp.sum(jnp.abs(fields) ** 2, (1, 2), keepdims=True))


def spots(pixels):
    """What comes in: shape `(6, pixels, pixels)`, of power 1."""
    x, y = grid(pixels)
    places = [(0.3 * (i - 0.5), 0.27 * (j - 1)) for i in range(2) for j in range(3)]
    side = pixels * PITCH
    made = [jnp.exp(-((x - a * side) ** 2 + (y - b * side) ** 2) / WAIST_IN**2) for a, b in places]
    return _unit(jnp.stack(made))


def modes(pixels):
    """What is wanted: Hermite-Gauss modes, likewise."""
    hermite = (lambda z: jnp.ones_like(z), lambda z: 2 * z, lambda z: 4 * z**2 - 2)
    x, y = (jnp.sqrt(2.0) * c / WAIST_OUT for c in grid(pixels))
    made = [hermite[i](x) * hermite[j](y) * jnp.exp(-(x**2 + y**2) / 2) for i, j in ORDERS]
    return _unit(jnp.stack(made))


def travel(fields):
    """Through DISTANCE of empty space."""
    frequency = jnp.fft.fftfreq(fields.shape[-1], PITCH)
    squares = frequency[:, None] ** 2 + frequency**2
    phase = 2 * jnp.pi * DISTANCE * jnp.sqrt(1 / WAVELENGTH**2 - squares)
    return jnp.fft.ifft2(jnp.fft.fft2(fields) * jnp.exp(1j * phase))


def through(phases, fields):
    """Through the plates, to the plane where the modes are wanted."""
    fields = travel(fields)
    for plate in phases:
        fields = travel(fields * jnp.exp(1j * plate))
    return fields


def loss(phases, data):
    """One less the share of the power that leaves in the right mode, averaged."""
    overlaps = jnp.sum(jnp.conj(data["modes"]) * through(phases, data["spots"]), (1, 2))
    return 1 - jnp.mean(jnp.abs(overlaps) ** 2)


@jax.jit
def design(phases, data):
    """What you would write."""
    return lp.minimize(loss, phases, (data,), max_iters=300)


def draw(phases, data):
    """Light in, light out and the plates."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    grid = figure.subplots(3, len(ORDERS))
    out = through(phases, data["spots"])
    for i, column in enumerate(grid.T):
        column[0].imshow(np.abs(data["spots"][i]), cmap="magma")
        column[1].imshow(np.abs(out[i]), cmap="magma")
        if i < PLATES:
            column[2].imshow(np.mod(phases[i], 2 * np.pi), cmap="twilight")
        for axes in column:
            axes.set_xticks([])
            axes.set_yticks([])
    for axes, label in zip(grid[:, 0], ("in", "out", "plates"), strict=True):
        axes.set_ylabel(label)
    figure.delaxes(grid[2, -1])
    return figure


def main(pixels=64, budget=300, seconds=30.0):
    """The design, and the race."""
    jax.config.update("jax_enable_x64", True)
    data = {"spots": spots(pixels), "modes": modes(pixels)}
    x0 = jnp.zeros((PLATES, pixels, pixels))
    result = design(x0, data)
    print(
        f"power in the right modes: {1 - loss(x0, data):.1%}, then {1 - result.value:.1%};", end=" "
    )
    print(f"{result.num_evals} evaluations, {lp.Status(int(result.status)).name}")
    keep(draw(result.params, data), "light")
    title = f"Light, n = {x0.size:,}, to 1e-2 of the reduction"
    problem = Problem(loss, x0, data)
    return race(
        title, problem, everyone(10, bfgs=False), budget=budget, level=1e-2, seconds=seconds
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--budget", type=int, default=300)
    args = parser.parse_args()
    main(args.pixels, args.budget)
