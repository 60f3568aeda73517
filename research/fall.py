"""t held to the last fall of f, as a line search's first trial is: always, or after a rejection.

python -m research.fall
"""

from pathlib import Path
from typing import Any

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
from flax import struct
from matplotlib.figure import Figure

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.policy import Rule
from jax_lbfgs_pi.policy.rule import for_the_same_fall
from research.lanes import development, print_table, run, table
from research.rule_settings import REAL

NEVER = 1e30


@struct.dataclass
class Held(Rule):
    """t is at most so many times the last fall of f over |gᵀd|."""

    always: Any = NEVER
    rejected: Any = NEVER

    def doubts(self, seen: Any) -> Any:
        return jnp.zeros((), bool)

    def step_size(self, seen: Any, products: Any, memory: Any) -> Any:
        t, memory = super().step_size(seen, products, memory)
        most = jnp.where(seen.rejections > 0, jnp.minimum(self.always, self.rejected), self.always)
        held = jnp.maximum(most / 2.02 * for_the_same_fall(seen, products), 1e-3)
        return jnp.minimum(t, held).astype(t.dtype), memory


SETTINGS: dict[str, dict[str, float]] = {
    "never": {},
    "always, 1": {"always": 1.0},
    "always, 1.4": {"always": 1.4},
    "always, 2.02": {"always": 2.02},
    "always, 3": {"always": 3.0},
    "always, 5": {"always": 5.0},
    "always, 10": {"always": 10.0},
    "always, 30": {"always": 30.0},
    "rejected, 1.4": {"rejected": 1.4},
    "rejected, 2.02": {"rejected": 2.02},
    "rejected, 4": {"rejected": 4.0},
    "rejected, 10": {"rejected": 10.0},
    "always 10, rejected 2.02": {"always": 10.0, "rejected": 2.02},
}


OF_GENERAL = ("never", "always, 2.02", "always, 5", "always, 30", "rejected, 1.4", "rejected, 2.02")
OF_GENERAL += ("rejected, 4", "always 10, rejected 2.02")


def figure(areas: dict[str, dict[str, float]], path: Path) -> None:
    """Areas under solved-against-log-budget, less that of a t that is never held."""
    fig = Figure(figsize=(7, 4.5), layout="constrained")
    ax = fig.subplots()
    for (title, by_label), mark in zip(areas.items(), "os^v", strict=True):
        labels = [label for label in SETTINGS if label in by_label]
        ax.plot([by_label[k] - by_label["never"] for k in labels], labels, mark, label=title)
    ax.axvline(0.0, color="k", linewidth=0.6)
    ax.set(xlim=(-0.05, 0.02), xlabel="gain in area (points outside lie far to the left)")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    fig.savefig(path, dpi=110)


if __name__ == "__main__":
    general = lp.load_policy("general")
    assert isinstance(general, lp.General)
    base = general.base
    assert isinstance(base, Rule)
    by_policy = {
        "rule": {label: Held(num_pairs=10.0, **held) for label, held in SETTINGS.items()},
        "general": {
            label: general.replace(base=Held(num_pairs=base.num_pairs, **SETTINGS[label]))
            for label in OF_GENERAL
        },
    }
    areas: dict[str, dict[str, float]] = {}
    for name, policies in by_policy.items():
        folder = Path("runs/research/fall") / name
        results = run(development(2), list(policies.values()), folder, memory_size=20, num_starts=3)
        real = {key: c for key, c in results.items() if key.startswith(REAL)}
        formulas = {key: c for key, c in results.items() if key not in real}
        for kind, some, tau in (("formulas, 1e-6", formulas, 1e-6), ("real, 1e-4", real, 1e-4)):
            title = f"{name}, {len(some)} of {kind}"
            rows = table(some, list(policies), tau)
            print(title)
            print_table(rows)
            areas[title] = {label: area for label, area, *_ in rows}
    figure(areas, Path("docs/research/figures/fall.png"))
