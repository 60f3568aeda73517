"""The seven equations: a loss of squared residuals, and the error of the solution.

Boundary and initial values are built into the fields where that is possible, as Urbán et al. (2025)
do; what is left of them is a term of the loss.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from benchmarks.physics import references
from benchmarks.physics.networks import derivatives, init, mlp

PI = np.pi


class Equation(NamedTuple):
    """A problem of the benchmark.

    Attributes:
      name: what it is called.
      widths: of the network's layers, inputs and outputs among them.
      loss: `(params, points) -> f`.
      points: where the residuals are taken.
      field: `(params, points) -> u`, what is compared with the reference.
      reference: a function without arguments to points and u there.
    """

    name: str
    widths: tuple[int, ...]
    loss: Callable[[Any, Any], Any]
    points: Any
    field: Callable[[Any, Any], Any]
    reference: Callable[[], tuple[np.ndarray, np.ndarray]]

    def start(self, seed: int) -> Any:
        """The network's first weights."""
        return init(np.random.default_rng(seed), *self.widths)

    def error(self, params: Any) -> float:
        """The relative L2 error of the solution."""
        points, u = self.reference()
        return float(np.linalg.norm(self.field(params, points) - u) / np.linalg.norm(u))


def inside(low, high, num=2000, seed=0):
    """Points in a box, at random."""
    return np.random.default_rng(seed).uniform(low, high, size=(num, len(low)))


def squares(*residuals):
    """The sum of the mean squares."""
    return sum(jnp.mean(r**2) for r in residuals)


# --- Poisson and Helmholtz ------------------------------------------------------------------------


def poisson_solution(p):
    """Zero on the edge of the unit square."""
    x, y = p[:, 0], p[:, 1]
    return jnp.sin(2 * PI * x) * jnp.sin(PI * y) + 0.5 * jnp.sin(PI * x) * jnp.sin(3 * PI * y)


def poisson_field(params, p):
    x, y = p[:, 0], p[:, 1]
    return x * (1 - x) * y * (1 - y) * mlp(params, 2 * p - 1)[:, 0]


def poisson_loss(params, p):
    """-Δu = q."""
    u = functools.partial(poisson_field, params)
    x, y = p[:, 0], p[:, 1]
    q = 5 * PI**2 * jnp.sin(2 * PI * x) * jnp.sin(PI * y)
    q += 5 * PI**2 * jnp.sin(PI * x) * jnp.sin(3 * PI * y)
    return squares(derivatives(u, p, 0, 2)[2] + derivatives(u, p, 1, 2)[2] + q)


def helmholtz_solution(p):
    return jnp.sin(PI * p[:, 0]) * jnp.sin(4 * PI * p[:, 1])


def helmholtz_field(params, p):
    return (1 - p[:, 0] ** 2) * (1 - p[:, 1] ** 2) * mlp(params, p)[:, 0]


def helmholtz_loss(params, p):
    """Δu + u = q on [-1, 1]² (Wang, Teng & Perdikaris 2021)."""
    u = functools.partial(helmholtz_field, params)
    q = (1 - 17 * PI**2) * helmholtz_solution(p)
    return squares(derivatives(u, p, 0, 2)[2] + derivatives(u, p, 1, 2)[2] + u(p) - q)


# --- in time and one dimension: points are (t, x) -------------------------------------------------


def burgers_field(params, p):
    t, x = p[:, 0], p[:, 1]
    return -jnp.sin(PI * x) + t * (1 - x**2) * mlp(params, p)[:, 0]


def burgers_loss(params, p):
    """∂u/∂t + u ∂u/∂x = ν ∂²u/∂x², ν = 0.01/π (Raissi, Perdikaris & Karniadakis 2019)."""
    u = functools.partial(burgers_field, params)
    _, u_t = derivatives(u, p, 0, 1)
    u, u_x, u_xx = derivatives(u, p, 1, 2)
    return squares(u_t + u * u_x - 0.01 / PI * u_xx)


def periodic(params, p):
    """A network of t, cos πx and sin πx."""
    t, x = p[:, 0], p[:, 1]
    features = jnp.stack([2 * t - 1, jnp.cos(PI * x), jnp.sin(PI * x)], axis=1)
    return mlp(params, features)[:, 0]


def allen_cahn_field(params, p):
    t, x = p[:, 0], p[:, 1]
    return x**2 * jnp.cos(PI * x) + t * periodic(params, p)


def allen_cahn_loss(params, p):
    """∂u/∂t = 1e-4 ∂²u/∂x² + 5 (u - u³), periodic (Raissi, Perdikaris & Karniadakis 2019)."""
    u = functools.partial(allen_cahn_field, params)
    _, u_t = derivatives(u, p, 0, 1)
    u, _, u_xx = derivatives(u, p, 1, 2)
    return squares(u_t - 1e-4 * u_xx - 5 * (u - u**3))


def kdv_field(params, p):
    t, x = p[:, 0], p[:, 1]
    return jnp.cos(PI * x) + t * periodic(params, p)


def kdv_loss(params, p):
    """∂u/∂t + u ∂u/∂x + 0.0025 ∂³u/∂x³ = 0, periodic (Raissi, Perdikaris & Karniadakis 2019)."""
    u = functools.partial(kdv_field, params)
    _, u_t = derivatives(u, p, 0, 1)
    u, u_x, _, u_xxx = derivatives(u, p, 1, 3)
    return squares(u_t + u * u_x + 0.0025 * u_xxx)


def wave_solution(p):
    t, x = p[:, 0], p[:, 1]
    return jnp.sin(PI * x) * jnp.cos(2 * PI * t) + 0.5 * jnp.sin(4 * PI * x) * jnp.cos(8 * PI * t)


def wave_field(params, p):
    t, x = p[:, 0], p[:, 1]
    start = jnp.sin(PI * x) + 0.5 * jnp.sin(4 * PI * x)
    return start + t**2 * x * (1 - x) * mlp(params, 2 * p - 1)[:, 0]


def wave_loss(params, p):
    """∂²u/∂t² = 4 ∂²u/∂x² (Wang, Yu & Perdikaris 2022)."""
    u = functools.partial(wave_field, params)
    return squares(derivatives(u, p, 0, 2)[2] - 4 * derivatives(u, p, 1, 2)[2])


# --- Navier-Stokes --------------------------------------------------------------------------------

REYNOLDS = 100.0


def cavity_fields(params, p):
    """The stream function, zero on the walls, and the vorticity; shape `(2, num)`."""
    x, y = p[:, 0], p[:, 1]
    psi, omega = mlp(params, 2 * p - 1).T
    return jnp.stack([x * (1 - x) * y * (1 - y) * psi, 10.0 * omega])


def cavity_loss(params, points):
    """A cavity whose lid moves at 16 x² (1 - x)², stationary, in stream function and vorticity."""
    u = functools.partial(cavity_fields, params)
    p = points["inside"]
    (_, _), (psi_x, w_x), (psi_xx, w_xx) = derivatives(u, p, 0, 2)
    (_, omega), (psi_y, w_y), (psi_yy, w_yy) = derivatives(u, p, 1, 2)
    poisson = psi_xx + psi_yy + omega
    transport = psi_y * w_x - psi_x * w_y - (w_xx + w_yy) / REYNOLDS
    lid = points["lid"][:, 0]
    speed = derivatives(u, points["lid"], 1, 1)[1][0] - 16 * lid**2 * (1 - lid) ** 2
    floor = derivatives(u, points["floor"], 1, 1)[1][0]
    sides = derivatives(u, points["sides"], 0, 1)[1][0]
    return squares(poisson, transport) + 10.0 * squares(speed, floor, sides)


def cavity_points():
    ticks = np.linspace(0, 1, 100)
    return {
        "inside": inside((0, 0), (1, 1)),
        "lid": np.stack([ticks, np.ones(100)], axis=1),
        "floor": np.stack([ticks, np.zeros(100)], axis=1),
        "sides": np.stack([np.arange(100) % 2, ticks], axis=1).astype(float),
    }


def on_grid(low, high, solution):
    """An exact solution on a grid of 101 × 101 points."""

    def reference():
        points = references.grid(low, high)
        return points, np.asarray(solution(points))

    return reference


SQUARE, TIME = ((0.0, 0.0), (1.0, 1.0)), ((0.0, -1.0), (1.0, 1.0))
EQUATIONS = {
    e.name: e
    for e in (
        Equation("Poisson", (2, 24, 24, 24, 1), poisson_loss, inside(*SQUARE), poisson_field,
                 on_grid(*SQUARE, poisson_solution)),
        Equation("Helmholtz", (2, 24, 24, 24, 1), helmholtz_loss, inside((-1, -1), (1, 1)),
                 helmholtz_field, on_grid((-1, -1), (1, 1), helmholtz_solution)),
        Equation("Burgers", (2, 24, 24, 24, 1), burgers_loss, inside(*TIME), burgers_field,
                 references.burgers),
        Equation("Allen-Cahn", (3, 30, 30, 30, 1), allen_cahn_loss, inside(*TIME),
                 allen_cahn_field, references.allen_cahn),
        Equation("Korteweg-de Vries", (3, 30, 30, 30, 1), kdv_loss, inside(*TIME), kdv_field,
                 references.korteweg_de_vries),
        Equation("wave", (2, 24, 24, 24, 1), wave_loss, inside(*SQUARE), wave_field,
                 on_grid(*SQUARE, wave_solution)),
        Equation("Navier-Stokes", (2, 24, 24, 24, 2), cavity_loss, cavity_points(),
                 lambda params, p: cavity_fields(params, p)[0], references.cavity),
    )
}  # fmt: skip
