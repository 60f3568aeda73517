"""Differential equations in time: controls found by shooting, and rates fitted to data."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_lbfgs_pi.suite.instances import Parts, add_instances

Field = Callable[[Array, Array, Any], Array]
"""The derivative of a state, `(state, control, constants) -> rate`."""
_NUM_CONTROLS = 100


def simulate(
    field: Field,
    start: Float[Array, " states"],
    controls: Float[Array, " steps"],
    constants: Any,
    dt: float,
) -> Float[Array, "steps states"]:
    """The states after each step of Runge-Kutta's fourth order, controls constant in a step."""

    def step(y: Array, control: Array) -> tuple[Array, Array]:
        k1 = field(y, control, constants)
        k2 = field(y + 0.5 * dt * k1, control, constants)
        k3 = field(y + 0.5 * dt * k2, control, constants)
        k4 = field(y + dt * k3, control, constants)
        y = y + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
        return y, y

    return jax.lax.scan(step, start, controls)[1]


def pendulum(state: Array, control: Array, damping: Array) -> Array:
    """Angle from rest and its rate, driven by a torque."""
    return jnp.stack([state[1], control - jnp.sin(state[0]) - damping * state[1]])


def fishing(state: Array, control: Array, catch: Array) -> Array:
    """Prey and predators, both of which are fished."""
    prey, predators = state
    return jnp.stack(
        [
            prey - prey * predators - catch[0] * prey * control,
            prey * predators - predators - catch[1] * predators * control,
        ]
    )


def epidemic(state: Array, control: Array, rates: Array) -> Array:
    """The susceptible and the infectious, with rates of infection and recovery."""
    del control
    new = rates[0] * state[0] * state[1]
    return jnp.stack([-new, new - rates[1] * state[1]])


def lotka_volterra(state: Array, control: Array, rates: Array) -> Array:
    """Prey and predators, with four rates."""
    del control
    prey, predators = state
    met = prey * predators
    return jnp.stack([rates[0] * prey - rates[1] * met, rates[2] * met - rates[3] * predators])


def pendulum_loss(params: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
    """Swinging up in five seconds: the energy spent, and the distance from standing."""
    y = simulate(pendulum, data["start"], params, data["damping"], 0.05)
    running = 1.0 + jnp.cos(y[:, 0]) + 0.1 * y[:, 1] ** 2 + data["price"] * params**2
    end = 10.0 * (1.0 + jnp.cos(y[-1, 0])) + y[-1, 1] ** 2
    return 0.05 * jnp.sum(running) + end


def fishing_loss(params: Float[Array, " n"], data: dict[str, Any]) -> Float[Array, ""]:
    """Bringing both populations to one in ten years."""
    y = simulate(fishing, data["start"], params, data["catch"], 0.1)
    running = jnp.sum((y - 1.0) ** 2, axis=1) + data["price"] * params**2
    return 0.1 * jnp.sum(running)


def epidemic_loss(params: Float[Array, " 4"], data: dict[str, Any]) -> Float[Array, ""]:
    """Least squares: logarithms of two rates, of the first infectious and of the share seen."""
    rates, first, seen = jnp.exp(params[:2]), jnp.exp(params[2]), jnp.exp(params[3])
    start = jnp.stack([1.0 - first, first])
    y = simulate(epidemic, start, jnp.zeros_like(data["cases"]), rates, 1.0)
    return 0.5 * jnp.sum((seen * y[:, 1] - data["cases"]) ** 2)


def lotka_volterra_loss(params: Float[Array, " 6"], data: dict[str, Any]) -> Float[Array, ""]:
    """Least squares: logarithms of four rates and of both populations at the start."""
    idle = jnp.zeros(data["seen"].shape[0], params.dtype)
    y = simulate(lotka_volterra, jnp.exp(params[4:]), idle, jnp.exp(params[:4]), 0.2)
    return 0.5 * jnp.mean((y - data["seen"]) ** 2)


def _pendulum(index: int) -> Parts:
    rng = np.random.default_rng((61, index))
    data = {
        "start": np.array([rng.uniform(-0.5, 0.5), 0.0]),
        "damping": np.array(rng.uniform(0.0, 0.2)),
        "price": np.array([0.3, 0.1, 0.03, 0.01][index % 4]),
    }
    return pendulum_loss, 0.5 * rng.normal(size=_NUM_CONTROLS), data


def _fishing(index: int) -> Parts:
    rng = np.random.default_rng((62, index))
    data = {
        "start": rng.uniform(0.4, 1.5, size=2),
        "catch": np.array([0.4, 0.2]),
        "price": np.array([0.1, 0.03, 0.01, 0.003][index % 4]),
    }
    return fishing_loss, 0.3 * rng.normal(size=_NUM_CONTROLS), data


def _epidemic(index: int) -> Parts:
    rng = np.random.default_rng((63, index))
    truth = np.log([rng.uniform(0.4, 0.8), rng.uniform(0.1, 0.25), 1e-3, rng.uniform(0.3, 0.9)])
    rates, first = np.exp(truth[:2]), np.exp(truth[2])
    start = jnp.asarray([1.0 - first, first])
    y = np.asarray(simulate(epidemic, start, jnp.zeros(60), jnp.asarray(rates), 1.0))[:, 1]
    cases = np.exp(truth[3]) * y * (1.0 + 0.05 * rng.normal(size=60))
    x0 = truth + rng.normal(size=4) * [0.2, 0.3, 1.0, 0.3]
    return epidemic_loss, x0, {"cases": np.asarray(cases, float)}


def _lotka_volterra(index: int) -> Parts:
    rng = np.random.default_rng((64, index))
    truth = np.log(rng.uniform(0.5, 1.5, size=6))
    rates, start = jnp.asarray(np.exp(truth[:4])), jnp.asarray(np.exp(truth[4:]))
    y = np.asarray(simulate(lotka_volterra, start, jnp.zeros(50), rates, 0.2), float)
    seen = y * (1.0 + 0.05 * rng.normal(size=y.shape))
    return lotka_volterra_loss, truth + 0.3 * rng.normal(size=6), {"seen": seen}


add_instances("control-pendulum", 4, _pendulum, "swinging a pendulum up by direct shooting")
add_instances("control-fishing", 4, _fishing, "Sager (2006), without its integers")
add_instances("ode-epidemic", 4, _epidemic, "Kermack & McKendrick (1927), synthetic cases")
add_instances("ode-lotka-volterra", 4, _lotka_volterra, "Lotka (1925), synthetic counts")
