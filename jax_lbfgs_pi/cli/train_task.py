"""`lbfgs-pi train --task my_module:make_tasks`."""

import argparse
import dataclasses
import json
import shlex
from typing import Any

from jax_lbfgs_pi.cli.common import (
    console,
    load_tasks,
    provenance,
    refuse_unread,
    write_report,
)
from jax_lbfgs_pi.progress import make_bar

NOT_READ = (
    "epochs", "clip_layer", "loss", "max_grad_norm", "tasks", "families", "learn_limits",
    "dataset", "size", "data_dir", "preset",
)  # fmt: skip
FIGURES = {
    "profile.png": (
        "Held-out tasks solved",
        "The share of the held-out tasks that are solved within a number of evaluations.",
    ),
    "progress.png": (
        "Course of training",
        "Evaluations saved on the development tasks, by which it is decided what is kept.",
    ),
}


def train_task(args: argparse.Namespace) -> dict[str, Any]:
    """Trains with a progress bar, and writes policy, card, figures and verdict to `args.out`."""
    from jax_lbfgs_pi.evaluation.figures import save_figure
    from jax_lbfgs_pi.evaluation.tables import for_terminal
    from jax_lbfgs_pi.files import write_atomically
    from jax_lbfgs_pi.pretrained import DEFAULT, save_policy
    from jax_lbfgs_pi.training.development import FineTuneConfig
    from jax_lbfgs_pi.training.fine_tune import fine_tune
    from jax_lbfgs_pi.training.fine_tune_report import card, profile, progress, verdict_table
    from jax_lbfgs_pi.training.tensorboard import curves

    refuse_unread(args, "--task", NOT_READ)
    tasks = load_tasks(args.task)
    changes = {
        "generations": args.generations, "num_evals": args.evals, "memory_size": args.memory
    }  # fmt: skip
    changes = {name: value for name, value in changes.items() if value is not None}
    config = FineTuneConfig(seed=args.seed, **changes)
    start = args.init_from or DEFAULT
    with curves(args.out, on=args.tensorboard) as add, make_bar() as bar:
        line = bar.add_task("compiling", total=config.generations)

        def on_check(check: Any) -> None:
            bar.update(
                line,
                description=f"{check.saved:+.0f} % saved, first on {check.beats_rule:.0%} (rule), "
                f"{check.beats_search:.0%} (zoom)",
            )
            add(
                check.generation, saved=check.saved, beats_rule=check.beats_rule,
                beats_search=check.beats_search,
            )  # fmt: skip

        tuned = fine_tune(
            tasks, start=start, config=config, out=args.out, on_check=on_check,
            on_generation=lambda done: bar.update(line, completed=done),
        )  # fmt: skip
    path = save_policy(tuned.policy, args.out / "policy")
    save_figure(profile(tuned), args.out / "profile.png")
    save_figure(progress(tuned), args.out / "progress.png")
    verdict = tuned.verdict
    summary = {
        "policy": str(path),
        "tasks": {
            "name": tasks.name,
            "number": len(tasks),
            "held_out": len(verdict.evals["trained"]),
        },
        "start": str(start),
        "helps": verdict.helps,
        "verdict": verdict.sentence,
        "saved_percent": verdict.saved._asdict(),
        "room_percent": verdict.room,
        "target": verdict.target,
        "evaluations_of_a_run": tuned.num_evals,
        "generations": tuned.checks[-1].generation if tuned.checks else 0,
        "provenance": provenance(),
    }
    write_atomically(args.out / "summary.json", json.dumps(summary, indent=2))
    write_atomically(args.out / "policy.md", card(tasks, tuned, summary))
    table = for_terminal(verdict_table(tuned))
    write_report(
        args.out,
        f"A policy for {tasks.name}",
        {"Verdict": [verdict.sentence, table]},
        FIGURES,
        settings={"task": args.task, "start": str(start), **dataclasses.asdict(config)}
        | {"num_evals": tuned.num_evals, "tasks": len(tasks)},
        made_with=summary["provenance"],
    )
    out = console(args)
    out.print(table)
    out.print(verdict.sentence, soft_wrap=True, highlight=False)
    out.print(f"Policy, card, figures and report.html: {args.out}", soft_wrap=True)
    advice = f"--task {args.task} --policy {shlex.quote(str(path))} --split test --seed {args.seed}"
    out.print(f"Race it on those held out: lbfgs-pi race {advice}", soft_wrap=True)
    if verdict.helps:
        out.print(f'Use it: lp.minimize(f, x0, policy=lp.load_policy("{path}"))', soft_wrap=True)
    return summary
