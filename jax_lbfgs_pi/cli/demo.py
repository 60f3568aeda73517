"""`lbfgs-pi demo`."""

import argparse
from typing import Any

from jax_lbfgs_pi.cli import race as race_command
from jax_lbfgs_pi.cli import train as train_command
from jax_lbfgs_pi.cli.common import add_output_options, console


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "demo",
        help="train a policy on digits and race it, in a few minutes",
        description="Trains a policy on scikit-learn's bundled digits for about two minutes on two "
        "cores, races it on tasks whose images and starting points it has never seen, prints the "
        "tables, and writes figures.",
    )
    parser.add_argument("--epochs", type=int, default=16, help="of training (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=30, help="to race on (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the policy and the task order")
    add_output_options(parser, "runs/demo")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the subcommand."""
    from jax_lbfgs_pi.acceptance import Guard
    from jax_lbfgs_pi.baselines import BASELINES, policy_competitor
    from jax_lbfgs_pi.evaluation import Target
    from jax_lbfgs_pi.pretrained import DEFAULT, load_policy, policy_digest
    from jax_lbfgs_pi.tasks.suites import get_tasks
    from jax_lbfgs_pi.training.config import get_preset

    out = console(args)
    config = get_preset("fast", num_epochs=args.epochs, seed=args.seed)
    tasks = get_tasks("digits", "train")
    out.print(f"1. Training a policy on {len(tasks)} tasks of {tasks.name}.")
    training = train_command.train(tasks, config, args.out / "train")
    out.print(train_command.epoch_table(training))

    held_out = get_tasks("digits", "test", num_tasks=args.tasks)
    out.print(
        f"2. Racing it on {len(held_out)} held-out tasks; 'π {DEFAULT}' is what you get without "
        f"training.",
        soft_wrap=True,
    )
    policy = load_policy(training["policy"])
    default = policy_competitor(f"π {DEFAULT}", load_policy(DEFAULT), guard=Guard())
    settings = {"policy_digest": policy_digest(policy), "max_iters": 800}
    report = race_command.race_and_report(
        held_out,
        [policy_competitor(race_command.FAVOURITE, policy), default, *BASELINES.values()],
        [*(Target("grad_norm", eps) for eps in (1e-3, 1e-4, 1e-5)), Target("value", 1e-2)],
        args.out / "race",
        out,
        settings,
        max_iters=800,
    )
    out.print(
        f"Your policy: {training['policy']}; load it with lp.load_policy(path).", soft_wrap=True
    )
    return {"training": training, "race": report}
