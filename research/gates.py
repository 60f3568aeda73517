"""When should a learned residual be silent? Gates on its answers, and its answers one by one.

python -m research.gates POLICY [memory_size]
"""

import sys
from pathlib import Path
from typing import Any, ClassVar

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import jax.numpy as jnp
from flax import struct

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import General, InnerProducts, Observation, Rule, Scaling
from research.lanes import development, print_table, run, table


@struct.dataclass
class Gated:
    """A learned policy whose answers count by `gamma`, `pairs` and `t`, 0 to 1.

    And only where ‖g‖² fell by less than `fast` in the last step, less `soft`.
    """

    policy: General
    gamma: Any = 1.0
    pairs: Any = 1.0
    t: Any = 1.0
    fast: Any = 0.0
    soft: Any = 0.0

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
        trust = self.pairs * self._open(seen) > 0
        return Scaling(gamma, jnp.where(trust, learned.num_pairs, base.num_pairs)), moved

    def step_size(self, seen: Observation, products: InnerProducts, memory: Any) -> Any:
        learned, moved = self.policy.step_size(seen, products, memory)
        base, _ = self.policy.base.step_size(seen, products, memory.base)
        return self._mixed(base, learned, self.t * self._open(seen)), moved


if __name__ == "__main__":
    path, *rest = sys.argv[1:]
    memory_size = int(rest[0]) if rest else 10
    policy = lp.load_policy(path)
    assert isinstance(policy, General)
    policy = policy.replace(base=Rule(num_pairs=1e6))  # pyright: ignore
    variants = {
        "rule": Gated(policy, 0.0, 0.0, 0.0),
        "general": Gated(policy),
        "γ": Gated(policy, 1.0, 0.0, 0.0),
        "t": Gated(policy, 0.0, 0.0, 1.0),
        "half γ": Gated(policy, 0.5, 1.0, 1.0),
        "fast 0.03": Gated(policy, fast=0.03),
        "less 0.1": Gated(policy, soft=0.1),
        "less 0.2": Gated(policy, soft=0.2),
        "less 0.3": Gated(policy, soft=0.3),
    }
    folder = (
        Path("runs/research/gates")
        / f"{Path(path).parents[1].name}-{Path(path).stem}-m{memory_size}"
    )
    results = run(
        development(1, 3000),
        list(variants.values()),
        folder,
        memory_size=memory_size,
        num_starts=8,
    )
    for tau in (1e-3, 1e-6):
        print(f"tau = {tau:g}, m = {memory_size}")
        print_table(table(results, list(variants), tau))
