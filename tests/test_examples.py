"""The examples run, at small size, and do what they say."""

import jax
import jax.numpy as jnp
import pytest

from examples import physics_informed as pinn
from tests.marks import some_of

NAMES = list(pinn.OPTIMIZERS)


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
    ((_, seed, last),) = pinn.main(40, 50, 1)
    points = jax.random.uniform(jax.random.key(100), (50, 2))
    assert last < pinn.loss(pinn.init(jax.random.key(seed)), points)
    assert name in capsys.readouterr().out
