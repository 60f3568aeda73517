"""After so many rejections in a row only the newest pairs are trusted, and those that come after.

python -m research.restart
"""

from pathlib import Path
from typing import Any, ClassVar

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import jax.numpy as jnp
from flax import struct

from jax_lbfgs_pi.policy import InnerProducts, Observation, Rule, Scaling
from research.lanes import development, print_table, run, table
from research.trust import networks, print_networks

ALL = 1e6


@struct.dataclass
class Restarting:
    """The rule; after `rejections` rejected trials it trusts `kept` pairs, then one more a step."""

    rejections: Any
    kept: Any
    base: Rule = Rule()

    reads_ds: ClassVar[bool] = False

    def init(self, dtype: Any) -> Any:
        return self.base.init(dtype), jnp.asarray(ALL, dtype)

    def scale(self, seen: Observation, memory: Any) -> tuple[Scaling, Any]:
        answer, base = self.base.scale(seen, memory[0])
        trusted = jnp.where(seen.rejections >= self.rejections, self.kept, memory[1] + 1.0)
        return answer._replace(num_pairs=trusted), (base, trusted.astype(memory[1].dtype))

    def step_size(self, seen: Observation, products: InnerProducts, memory: Any) -> Any:
        t, base = self.base.step_size(seen, products, memory[0])
        return t, (base, memory[1])


if __name__ == "__main__":
    settings = [(ALL, 0.0), (1.0, 1.0), (1.0, 3.0), (1.0, 6.0), (2.0, 1.0), (2.0, 3.0)]
    policies = [Restarting(*setting) for setting in settings]
    labels = ["rule", *(f"after {r:g} rejections {k:g} pairs" for r, k in settings[1:])]
    print_networks(networks(policies), labels)
    results = run(
        development(1, 3000),
        policies,
        Path("runs/research/restart"),
        memory_size=20,
        num_starts=8,
    )
    for tau in (1e-3, 1e-6):
        print(f"tau = {tau:g}, m = 20")
        print_table(table(results, labels, tau))
