"""`lbfgs-pi train --preset general`, and `dense`: the same for a dense H."""

import argparse
import dataclasses
import json
from typing import Any

import numpy as np
from rich.table import Table

from jax_lbfgs_pi.cli.common import (
    console,
    provenance,
    refuse_unread,
    write_report,
)
from jax_lbfgs_pi.progress import make_bar

NOT_READ = ("epochs", "clip_layer", "loss", "max_grad_norm", "tasks", "evals", "memory", "size")
FIGURES = {
    "gain.png": (
        "Course of training",
        "By generation, on the problems of training: how much lower than the rule's the logarithm "
        "of the gap to the least f is at the end of a run, and on what share of the problems.",
    )
}


def train_general(args: argparse.Namespace) -> dict[str, Any]:
    """Trains with a progress bar, and writes policy, log and figure to `args.out`."""
    from jax_lbfgs_pi.evaluation.figures import gain_curve, save_figure
    from jax_lbfgs_pi.files import write_atomically
    from jax_lbfgs_pi.policy import General
    from jax_lbfgs_pi.pretrained import load_policy, save_policy
    from jax_lbfgs_pi.training.evolution_config import DENSE, EvolutionConfig
    from jax_lbfgs_pi.training.evolution_run import evolve_in
    from jax_lbfgs_pi.training.tensorboard import curves

    refuse_unread(args, f"The preset {args.preset}", NOT_READ)
    changes = {"generations": args.generations, "families": args.families}
    changes = {name: value for name, value in changes.items() if value is not None}
    preset = DENSE if args.preset == "dense" else EvolutionConfig()
    config = dataclasses.replace(preset, seed=args.seed, **changes)
    start = None if args.init_from is None else load_policy(args.init_from)
    if not (start is None or isinstance(start, General)):
        raise ValueError(f"--init-from {str(args.init_from)!r} is no policy of this preset.")
    wins: list[float] = []
    with curves(args.out, on=args.tensorboard) as add, make_bar() as bar:
        task = bar.add_task("compiling", total=config.generations)

        def on_generation(record: Any) -> None:
            wins.append(record.wins)
            recent = np.mean(wins[-50:])
            bar.update(
                task,
                completed=record.generation + 1,
                description=f"better than the rule on {recent:.0%}",
            )
            gain = float(np.mean(record.loss) - np.mean(record.base_loss))
            add(record.generation, gain=gain, wins=record.wins)

        policy, log = evolve_in(args.out, config, start=start, on_generation=on_generation)
    path = save_policy(policy, args.out / "policy")
    gains = np.array([np.mean(row["loss"]) - np.mean(row["base_loss"]) for row in log])
    save_figure(gain_curve(gains, [row["wins"] for row in log]), args.out / "gain.png")
    summary = {
        "policy": str(path),
        "generations": len(log),
        "seconds": float(sum(row["seconds"] for row in log)),
        "gain": float(np.mean(gains[-100:])),
        "wins": float(np.mean([row["wins"] for row in log[-100:]])),
        "provenance": provenance(),
    }
    write_atomically(args.out / "summary.json", json.dumps(summary, indent=2))
    table = _table(log)
    write_report(
        args.out,
        f"Training of a policy, preset {args.preset}",
        {"Gain": [table]},
        FIGURES,
        settings={"init_from": args.init_from, **dataclasses.asdict(config)},
        made_with=summary["provenance"],
    )
    out = console(args)
    out.print(table)
    out.print(f"Policy, log, figure and report.html: {args.out}", soft_wrap=True)
    rival = "dense" if config.is_dense else "rule"
    out.print(f"Judge it: lbfgs-pi bench --policy {path} --policy {rival}", soft_wrap=True)
    return summary


def _table(log: list[dict[str, Any]]) -> Table:
    """The gain on the rule by tenths of the training."""
    table = Table(title="Gain on the rule, on the problems of training", title_justify="left")
    for name in ("generations", "log10 gap, mean", "better on", "seconds"):
        table.add_column(name, justify="right")
    for part in np.array_split(np.arange(len(log)), min(10, len(log))):
        rows = [log[i] for i in part]
        gain = np.mean([np.mean(row["loss"]) - np.mean(row["base_loss"]) for row in rows])
        table.add_row(
            f"{part[0] + 1} to {part[-1] + 1}",
            f"{gain:+.3f}",
            f"{np.mean([row['wins'] for row in rows]):.0%}",
            f"{sum(row['seconds'] for row in rows):.0f}",
        )
    return table
