"""Checkpoints of a training beside the rule on development problems.

python -m research.general_checkpoints FOLDER [memory_size [generation ...]]

FOLDER is the `--out` of `lbfgs-pi train --preset general`.
"""

import json
import sys
from pathlib import Path

import jax

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", "runs/research/jax_cache")

import numpy as np
from matplotlib.figure import Figure

from jax_lbfgs_pi import load_policy
from jax_lbfgs_pi.policy import Rule, init_general
from research.lanes import development, evals_to, print_table, run, table


def figure(log: Path, evals: dict[str, np.ndarray], lane: int, label: str, path: Path) -> None:
    """The gain in training, and evaluations on development problems beside the rule's."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    gains = np.array([np.mean(row["loss"]) - np.mean(row["base_loss"]) for row in rows])
    mean = np.convolve(gains, np.ones(50) / 50, mode="valid")
    fig = Figure(figsize=(9, 4), layout="constrained")
    left, right = fig.subplots(1, 2)
    left.plot(gains, ".", markersize=2, alpha=0.5)
    left.plot(np.arange(49, len(gains)), mean)
    left.axhline(0.0, color="0.5", linewidth=0.8)
    left.set(xlabel="generation", title="training families: log₁₀ gap, less the rule's")
    kinds: dict[str, list[np.ndarray]] = {}
    for name, e in evals.items():
        kinds.setdefault(name.split("/")[0], []).append(np.log(np.minimum(e[[0, lane]], 400.0)))
    shown = np.exp([np.mean(logs, axis=0) for logs in kinds.values()])
    right.loglog(shown[:, 0], shown[:, 1], "o", markersize=4)
    right.plot([2, 400], [2, 400], color="0.5", linewidth=0.8)
    for name, (x, y) in zip(kinds, shown, strict=True):
        if abs(np.log(y / x)) > 0.45:
            right.annotate(name, (x, y), fontsize=6)
    right.set(xlabel="evaluations, rule (400: unsolved)", ylabel=label)
    right.set_title("development, mean of eight starts: to 1e-6")
    fig.savefig(path, dpi=110)


if __name__ == "__main__":
    folder, *rest = sys.argv[1:]
    folder = Path(folder)
    memory_size = int(rest[0]) if rest else 10
    paths = sorted((folder / "policies").glob("*.safetensors"))
    if rest[1:]:
        paths = [path for path in paths if path.stem.lstrip("0") in rest[1:]]
    start = init_general(jax.random.key(0), Rule(num_pairs=1e6))
    policies = [start, *(load_policy(path).replace(base=start.base) for path in paths)]  # pyright: ignore
    labels = ["rule", *(path.stem for path in paths)]
    tag = "-".join(path.stem for path in paths)
    results = run(
        development(1, 3000),
        policies,
        Path("runs/research/checkpoints") / f"{folder.name}-m{memory_size}-{tag}",
        memory_size=memory_size,
        num_starts=8,
    )
    for tau in (1e-3, 1e-6):
        print(f"tau = {tau:g}, m = {memory_size}")
        print_table(table(results, labels, tau))
    evals = {name: evals_to(curves, curves.min(), 1e-6) for name, curves in results.items()}
    path = Path(f"docs/research/figures/{folder.name}.png")
    figure(folder / "generations.jsonl", evals, len(policies) - 1, labels[-1], path)
