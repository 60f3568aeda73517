"""`lbfgs-pi train`."""

import argparse
from typing import Any

from jax_lbfgs_pi.cli.common import (
    above_zero,
    add_output_options,
    add_task_options,
    positive,
    seed,
)


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "train",
        help="meta-train a step-size policy",
        description="Meta-trains a policy by truncated backpropagation through time, and writes "
        "policy.safetensors, log.jsonl and report.html. `--preset paper --dataset mnist` is the "
        "paper's training: one task at a time, the clip as a convex optimization layer. "
        "`--task my_module:make_tasks` trains on problems of your own, from the default policy, "
        "and says on held-out ones whether that helps.",
    )
    parser.add_argument(
        "--task", metavar="MODULE:NAME",
        help="an lp.TaskSet of your own, or a function without arguments that returns one; read "
        "with it are --init-from (general, rule, or a file), --generations, --evals, --memory, "
        "--seed and --out",
    )  # fmt: skip
    parser.add_argument(
        "--evals", type=positive, metavar="N",
        help="evaluations of a run in training on --task (default: what the tasks need)",
    )  # fmt: skip
    parser.add_argument(
        "--memory", type=positive, metavar="M",
        help="pairs, in training on --task (default: the default's memory)",
    )  # fmt: skip
    add_task_options(parser)
    parser.add_argument(
        "--preset", choices=("fast", "paper", "general", "dense"),
        default="fast",
        help="fast maps over a batch of tasks, with the closed-form clip layer (default); general "
        "trains a residual on the rule by evolution strategies, on random problems of many "
        "families, whatever the data set; dense is that for a dense H",
    )  # fmt: skip
    parser.add_argument("--epochs", type=positive, metavar="N", help="passes over the tasks")
    parser.add_argument(
        "--clip-layer",
        choices=("cvx", "implicit", "clip", "straight_through"),
        help="how the clip is differentiated",
    )
    parser.add_argument(
        "--loss", choices=("sum", "mean_log"),
        help="of the values f(x_1), ..., f(x_K): their sum, the paper's (default), or the mean of "
        "their logarithms, for which all steps count alike",
    )  # fmt: skip
    parser.add_argument(
        "--max-grad-norm", type=above_zero, metavar="NORM",
        help="scale a task's θ-gradient down to this norm, so that an unroll that blows up cannot "
        "stop the optimizer of θ; the preset paper has no limit, fast has 10",
    )  # fmt: skip
    parser.add_argument(
        "--generations", type=positive, metavar="N",
        help="moves of the weights, of the presets general (default: 2500) and dense (1200), or "
        "--task (600)",
    )  # fmt: skip
    parser.add_argument(
        "--families", type=lambda text: tuple(text.split(",")), metavar="F,F",
        help="families of random problems that the presets general and dense train on (default: "
        "all)",
    )  # fmt: skip
    parser.add_argument("--learn-limits", action="store_true", help="learn τ_m and τ_M too")
    parser.add_argument("--seed", type=seed, default=0, help="of the policy and the task order")
    parser.add_argument(
        "--init-from", metavar="POLICY", help="go on from a policy: a shipped one's name, or a file"
    )
    parser.add_argument(
        "--tensorboard", action="store_true",
        help="write curves for TensorBoard too, into the folder tensorboard of --out",
    )  # fmt: skip
    add_output_options(parser, "runs/train")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the subcommand."""
    if args.task is not None:
        from jax_lbfgs_pi.cli.train_task import train_task

        return train_task(args)
    if args.preset in ("general", "dense"):
        from jax_lbfgs_pi.cli.train_general import train_general

        return train_general(args)
    from jax_lbfgs_pi.cli.train_paper import train_paper

    return train_paper(args)
