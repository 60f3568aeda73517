"""Coils of a stellarator: python -m examples.coils.

Four coils, 16 with their mirror images, shaped by 33 Fourier coefficients each, shall make a field
without a component through a given surface; they shall be short and not too sharply bent. It is the
second stage of stellarator design (Zhu et al., 2018), for which L-BFGS with many pairs is what most
use.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jax_lbfgs_pi as lp
from benchmarks.solvers import Problem
from examples.beside import everyone, keep, race

COILS, ORDER, PERIODS = 4, 5, 2
LONGEST, SHARPEST = 4.5, 4.0  # of a coil, and of its curvature; the major radius is 1


def surface(num):
    """A rotating ellipse: points and normals (times area) on half a period, shape `(num², 3)`."""

    def point(angles):
        theta, phi = angles
        turned = theta - PERIODS * phi
        r = 1 + 0.17 * jnp.cos(theta) + 0.05 * jnp.cos(turned)
        z = 0.17 * jnp.sin(theta) - 0.05 * jnp.sin(turned)
        return jnp.stack([r * jnp.cos(phi), r * jnp.sin(phi), z])

    theta = 2 * jnp.pi * jnp.arange(num) / num
    phi = jnp.pi / PERIODS * (jnp.arange(num) + 0.5) / num
    angles = jnp.stack(jnp.meshgrid(theta, phi), -1).reshape(-1, 2)
    along = jax.vmap(jax.jacfwd(point))(angles)
    return jax.vmap(point)(angles), jnp.cross(along[..., 0], along[..., 1])


def start():
    """Circles around the surface, and equal currents."""
    phi = np.pi / PERIODS * (np.arange(COILS) + 0.5) / COILS
    outward = np.stack([np.cos(phi), np.sin(phi), 0 * phi], 1)
    waves = np.zeros((COILS, 2 * ORDER + 1, 3))
    waves[:, 0], waves[:, 1] = outward, 0.5 * outward
    waves[:, ORDER + 1, 2] = 0.5
    return {"waves": jnp.asarray(waves), "currents": jnp.ones(COILS - 1)}


def shapes(waves, num):
    """Points of the coils, and their first and second derivatives; each `(COILS, num, 3)`."""
    angles = 2 * jnp.pi * jnp.arange(num) / num
    k = jnp.arange(1, ORDER + 1)
    cos, sin = jnp.cos(angles[:, None] * k), jnp.sin(angles[:, None] * k)
    ones, zeros = jnp.ones((num, 1)), jnp.zeros((num, 1))
    bases = (
        jnp.concatenate([ones, cos, sin], 1),
        jnp.concatenate([zeros, -k * sin, k * cos], 1),
        jnp.concatenate([zeros, -(k**2) * cos, -(k**2) * sin], 1),
    )
    return [jnp.einsum("tw,cwd->ctd", basis, waves) for basis in bases]


def all_coils(points, tangents, currents):
    """The coils and their images: mirrored with the current reversed, and turned by a period."""
    flip = jnp.array([1.0, -1.0, -1.0])
    out = []
    for period in range(PERIODS):
        angle = 2 * jnp.pi * period / PERIODS
        c, s = jnp.cos(angle), jnp.sin(angle)
        turn = jnp.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        for sign, mirror in ((1.0, jnp.ones(3)), (-1.0, flip)):
            out.append(((points * mirror) @ turn.T, (tangents * mirror) @ turn.T, sign * currents))
    return [jnp.concatenate(parts) for parts in zip(*out, strict=True)]


def field(at, points, tangents, currents):
    """Biot and Savart's, up to a constant, shape `(len(at), 3)`."""
    apart = at[:, None, None] - points
    cubes = jnp.sum(apart**2, -1) ** -1.5
    turning = jnp.cross(tangents[None], apart)
    return jnp.einsum("pctd,pct,c->pd", turning, cubes, currents) / points.shape[1]


def loss(params, data, num=64):
    """The share of the field that goes through the surface, and penalties."""
    points, tangents, bends = shapes(params["waves"], num)
    currents = jnp.concatenate([jnp.ones(1), params["currents"]])  # the first sets the scale
    b = field(data["at"], *all_coils(points, tangents, currents))
    area = jnp.linalg.norm(data["normal"], axis=1)
    through = jnp.sum(b * data["normal"], 1) ** 2 / jnp.sum(b**2, 1) / area
    flux = jnp.sum(through) / jnp.sum(area)
    speed = jnp.linalg.norm(tangents, axis=2)
    length = 2 * jnp.pi * jnp.mean(speed, 1)
    curvature = jnp.linalg.norm(jnp.cross(tangents, bends), axis=2) / speed**3
    long = jnp.sum(jnp.maximum(length - LONGEST, 0.0) ** 2)
    sharp = jnp.mean(jnp.maximum(curvature - SHARPEST, 0.0) ** 2 * speed)
    even = jnp.mean(jnp.var(speed, axis=1))  # or the parametrisation could slide
    return flux + 0.01 * long + 1e-2 * sharp + 1e-4 * even


@jax.jit
def design(params, data):
    """What you would write."""
    return lp.minimize(loss, params, (data,), max_iters=2000)


def draw(before, after, data):
    """The coils before and after, and the surface."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    for i, (title, params) in enumerate((("at the start", before), ("designed", after))):
        axes = figure.add_subplot(1, 2, i + 1, projection="3d")
        points, tangents, _ = shapes(params["waves"], 128)
        currents = jnp.concatenate([jnp.ones(1), params["currents"]])
        for j, coil in enumerate(all_coils(points, tangents, currents)[0]):
            colour = "#0072B2" if j < COILS else "0.6"
            axes.plot(*np.concatenate([coil, coil[:1]]).T, color=colour, linewidth=1.5)
        axes.scatter(*np.asarray(data["at"]).T, s=1, color="#D55E00")
        axes.set_title(title)
        axes.set_axis_off()
        axes.set_aspect("equal")
        axes.set_box_aspect(None, zoom=1.55)
    return figure


def main(num=16, budget=1000, seconds=30.0):
    """The design, and the race."""
    jax.config.update("jax_enable_x64", True)
    at, normal = surface(num)
    data, x0 = {"at": at, "normal": normal}, start()
    result = design(x0, data)
    through = np.sqrt([float(loss(p, data)) for p in (x0, result.params)])
    print(f"root of the loss: {through[0]:.1e}, then {through[1]:.1e};", end=" ")
    print(f"{result.num_evals} evaluations, {lp.Status(int(result.status)).name}")
    keep(draw(x0, result.params, data), "coils")
    makers = everyone(20)
    title = "Coils, n = 135, to 1e-4 of the reduction"
    problem = Problem(loss, x0, data)
    return race(title, problem, makers, budget=budget, level=1e-4, seconds=seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=16)
    parser.add_argument("--budget", type=int, default=1000)
    args = parser.parse_args()
    main(args.points, args.budget)
