"""`lbfgs-pi train` for policies of the paper's form."""

import argparse
import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from jax_lbfgs_pi.cli.common import console, provenance, refuse_unread, write_report
from jax_lbfgs_pi.progress import make_bar

NOT_READ = ("generations", "evals", "memory", "families")
FIGURE = ("Course of training", "F of each outer step, and its median over each epoch.")


def train_paper(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the subcommand without `--task` and `--preset general`."""
    from jax_lbfgs_pi.pretrained import load_network
    from jax_lbfgs_pi.tasks.suites import SIZED, get_tasks
    from jax_lbfgs_pi.training.config import get_preset

    refuse_unread(args, f"The preset {args.preset}", NOT_READ)
    if args.dataset not in SIZED:
        refuse_unread(args, f"The data set {args.dataset}", ["size"])
    policy = load_network(args.init_from) if args.init_from else None
    changes = {
        "num_epochs": args.epochs,
        "clip_layer": args.clip_layer,
        "loss": args.loss,
        "max_grad_norm": args.max_grad_norm,
        "seed": args.seed,
    }
    if args.learn_limits:
        changes["learn_limits"] = True
    config = get_preset(args.preset, **{k: v for k, v in changes.items() if v is not None})
    tasks = get_tasks(
        args.dataset, "train", size=args.size, num_tasks=args.tasks, data_dir=args.data_dir
    )
    summary = train(tasks, config, args.out, policy=policy, tensorboard=args.tensorboard)
    out = console(args)
    out.print(epoch_table(summary))
    out.print(f"Policy, card, log, figure and report.html: {args.out}", soft_wrap=True)
    advice = (
        f"lbfgs-pi race --dataset {args.dataset} --policy {shlex.quote(str(summary['policy']))}"
    )
    out.print(f"Race it: {advice}", soft_wrap=True)
    for warning in _warnings(summary):  # also beside JSON, which has standard output for itself
        Console(stderr=True, soft_wrap=True).print(warning, markup=False, highlight=False)
    return summary


def _warnings(summary: dict[str, Any]) -> list[str]:
    skipped = skip_warning(summary["skipped"], summary["unrolls"])
    still = standstill_warning([epoch["loss"] for epoch in summary["epochs"]])
    return [warning for warning in (skipped, still) if warning is not None]


def standstill_warning(losses: Sequence[float | None]) -> str | None:
    """What to say after a training whose F has not moved over the last epochs; None else."""
    last = losses[-1] if losses else None
    if last is None:
        return None
    moved = [i for i, x in enumerate(losses) if x is None or abs(x - last) > 1e-6 * abs(last)]
    since = moved[-1] + 2 if moved else 1  # epochs count from 1
    still = len(losses) - since
    if still < max(3, len(losses) // 3):
        return None
    return (
        f"warning: F stands still since epoch {since}, for {still} epochs: most likely every step "
        f"size is at a limit of the clip, through which no gradient comes. Learn the limits too "
        f"(--learn-limits), or try another --seed or --loss mean_log; more epochs change nothing."
    )


def skip_warning(num_skipped: int, num_unrolls: int) -> str | None:
    """What to say after a training in which most unrolls were skipped; None after any other."""
    share = num_skipped / max(1, num_unrolls)
    if share <= 0.5:
        return None
    return (
        f"warning: {num_skipped:,} of {num_unrolls:,} unrolls ({share:.0%}) were skipped, as f "
        f"rose above f(x0) on average or was not finite, so the policy learned "
        f"little: try another --preset, or in Python a smaller x0 or a shorter unroll_length."
    )


def train(
    tasks: Any, config: Any, folder: Path, *, policy: Any = None, tensorboard: bool = False
) -> dict[str, Any]:
    """Trains with a progress bar, and writes everything to `folder`; returns the summary."""
    from jax_lbfgs_pi.evaluation.figures import loss_curve, save_figure
    from jax_lbfgs_pi.files import write_atomically
    from jax_lbfgs_pi.pretrained import save_policy
    from jax_lbfgs_pi.training import meta_train
    from jax_lbfgs_pi.training.card import training_card
    from jax_lbfgs_pi.training.log import as_json, nanmean
    from jax_lbfgs_pi.training.tensorboard import curves

    groups = -(-len(tasks) // config.tasks_per_step)
    with curves(folder, on=tensorboard) as add, make_bar() as bar:
        task = bar.add_task("training", total=config.num_epochs * groups)

        def on_step(record: Any) -> None:
            groups_done = record.epoch * groups + record.group
            # A run that resumes starts with its bar where it had stopped.
            bar.update(task, completed=groups_done + (record.unroll + 1) / config.unrolls_per_start)
            bar.update(task, description=f"epoch {record.epoch + 1}, F {record.loss:.3g}")
            add(record.step, loss=record.loss, last_value=record.last_value)

        trained, log = meta_train(
            tasks, config, policy=policy, checkpoint_dir=folder, on_step=on_step
        )
        bar.update(task, completed=config.num_epochs * groups)
    path = save_policy(trained, folder / "policy")
    losses = np.array([record.loss for record in log.records])
    epochs = np.array([record.epoch for record in log.records])
    save_figure(loss_curve(losses, epochs, f"Meta-training on {tasks.name}"), folder / "loss.png")
    first = np.array([record.unroll == 0 for record in log.records])
    summary = {
        "policy": str(path),
        "tasks": tasks.name,
        "num_tasks": len(tasks),
        "clip_layer": config.clip_layer,
        "outer_steps": len(log.records),
        "skipped": log.num_skipped,
        "unrolls": log.num_unrolls,
        "share_skipped": log.share_skipped,
        "seconds_per_outer_step": log.seconds_per_step,
        "seconds": float(sum(record.seconds for record in log.records)),
        "epochs": [
            {
                "loss": as_json(float(log.by_epoch()[epoch])),
                "first_unroll": as_json(nanmean(losses[(epochs == epoch) & first])),
                "last_value": as_json(float(log.by_epoch("last_value")[epoch])),
                "skipped": sum(r.num_skipped for r in log.records if r.epoch == epoch),
                "outer_steps": int(np.sum(epochs == epoch)),
            }
            for epoch in range(config.num_epochs)
        ],
        "provenance": provenance(),
    }
    write_atomically(folder / "summary.json", json.dumps(summary, indent=2))
    about = summary["provenance"]
    card = training_card(folder.name, tasks.name, len(tasks), config, log, about)
    write_atomically(folder / "policy.md", card)
    write_report(
        folder,
        f"Meta-training on {tasks.name}",
        {"Course": [*_warnings(summary), epoch_table(summary)]},
        {"loss.png": FIGURE},
        settings={"tasks": f"{len(tasks)} of {tasks.name}", **dataclasses.asdict(config)},
        made_with=about,
    )
    return summary


def epoch_table(summary: dict[str, Any]) -> Table:
    """The loss by epoch, at most about twenty lines."""
    seconds = summary["seconds_per_outer_step"]
    table = Table(
        title=f"{summary['outer_steps']} outer steps, {seconds:.3f} s each with "
        f"'{summary['clip_layer']}', {summary['skipped']:,} of {summary['unrolls']:,} unrolls "
        f"skipped",
        title_justify="left",
    )
    for name in ("epoch", "F, first unrolls", "F, all unrolls", "f(x_K)", "steps", "skipped"):
        table.add_column(name, justify="right")
    epochs = summary["epochs"]
    stride = max(1, len(epochs) // 20)
    for i in sorted({*range(0, len(epochs), stride), len(epochs) - 1}):
        row = epochs[i]
        keys = ("first_unroll", "loss", "last_value")
        numbers = ("–" if row[key] is None else f"{row[key]:.4g}" for key in keys)
        table.add_row(str(i + 1), *numbers, str(row["outer_steps"]), str(row["skipped"]))
    return table
