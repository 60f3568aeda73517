"""Answers of a learned policy and of the rule beneath it, mixed."""

from typing import Any, ClassVar

import jax.numpy as jnp
from flax import struct

from jax_lbfgs_pi.policy import General, InnerProducts, Observation, Scaling


@struct.dataclass
class Mixed:
    """A learned policy whose answers count by `gamma`, `omega` and `t`, 0 to 1.

    And only where ‖g‖² fell by less than `fast` in the last step, less `soft`; with `unit_start`
    the first step has length 1.
    """

    policy: General
    gamma: Any = 1.0
    omega: Any = 1.0
    t: Any = 1.0
    fast: Any = 0.0
    soft: Any = 0.0
    unit_start: Any = 0.0

    reads_ds: ClassVar[bool] = False

    def init(self, dtype: Any) -> Any:
        return self.policy.init(dtype)

    def _open(self, seen: Observation) -> Any:
        return (seen.gg > self.fast * seen.prev_gg).astype(seen.gg.dtype)

    def _mixed(self, base: Any, learned: Any, share: Any) -> Any:
        log = jnp.log(learned / base)
        log = jnp.sign(log) * jnp.maximum(jnp.abs(log) - self.soft, 0.0)
        return base * jnp.exp(share * log)

    def scale(self, seen: Observation, memory: Any) -> tuple[Scaling, Any]:
        learned, moved = self.policy.scale(seen, memory)
        base, _ = self.policy.base.scale(seen, memory.base)
        gamma = self._mixed(base.gamma, learned.gamma, self.gamma * self._open(seen))
        omega = self._mixed(base.omega, learned.omega, self.omega * self._open(seen))
        return base._replace(gamma=gamma, omega=omega), moved

    def step_size(self, seen: Observation, products: InnerProducts, memory: Any) -> Any:
        learned, moved = self.policy.step_size(seen, products, memory)
        base, _ = self.policy.base.step_size(seen, products, memory.base)
        t = self._mixed(base, learned, self.t * self._open(seen))
        unit = 1.0 / jnp.sqrt(products.dd)
        return jnp.where((self.unit_start > 0) & (seen.count == 0), unit, t), moved
