"""`lbfgs-pi demo`."""

import argparse
from typing import Any

from rich.console import Console

from jax_lbfgs_pi.cli import bench as bench_command
from jax_lbfgs_pi.cli import race as race_command
from jax_lbfgs_pi.cli import train_paper
from jax_lbfgs_pi.cli.common import add_output_options, console, positive, seed

RIVALS = ("optax.lbfgs", "SciPy m=10", "ADAM")
MOST_VARIABLES = 2000
MEMORY = 5  # of all that keep pairs, in the race on digits: the paper's


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "demo",
        help="solve held-out problems, then train a policy on digits: a few minutes",
        description="Solves problems that nothing was tuned on, as shipped and by other "
        "optimizers; then trains a policy on scikit-learn's bundled digits and races it on tasks "
        "whose images and starting points it has never seen. Prints tables, writes figures.",
    )
    parser.add_argument(
        "--problems", type=positive, default=12, metavar="N",
        help="held-out problems to solve, each of another kind (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--epochs", type=positive, default=6, help="of training (default: %(default)s)"
    )
    parser.add_argument(
        "--tasks", type=positive, default=10, help="to race on (default: %(default)s)"
    )
    parser.add_argument(
        "--max-iters", type=positive, default=800, help="of each race (default: %(default)s)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the policy and the task order")
    add_output_options(parser, "runs/demo")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Runs the subcommand."""
    from jax_lbfgs_pi.training.config import get_preset

    config = get_preset("fast", num_epochs=args.epochs, seed=args.seed)
    out = console(args)
    solved = _bench(args, out)
    return {"bench": solved, **_train_and_race(args, config, out)}


def _bench(args: argparse.Namespace, out: Console) -> dict[str, Any]:
    """The default beside others on problems of held-out kinds."""
    from jax_lbfgs_pi.bench import FAVOURITE, bench_competitors
    from jax_lbfgs_pi.pretrained import DEFAULT

    names = held_out(args.problems)
    out.print(
        f"1. Solving {len(names)} problems of kinds that nothing was tuned on; {FAVOURITE} is the "
        f"policy '{DEFAULT}', what you get without training.",
        soft_wrap=True,
    )
    known = bench_competitors()
    return bench_command.bench_and_report(
        names,
        [known[name] for name in (FAVOURITE, *RIVALS)],
        FAVOURITE,
        args.out / "bench",
        out,
        settings={"budget": 300, "memory": 10, "tau": 1e-6, "limit_n": None, "problems": names},
    )


def held_out(count: int) -> list[str]:
    """The first problems of `count` test kinds, evenly spaced; of those too large, the next."""
    import numpy as np

    from jax_lbfgs_pi.suite import list_problems

    names = list_problems("test", per_kind=1)
    chosen: list[str] = []
    for i in np.linspace(0, len(names), count, endpoint=False).astype(int):
        fit = next((n for n in names[i:] if n not in chosen and _is_small(n)), None)
        chosen += [] if fit is None else [fit]
    return chosen


def _is_small(name: str) -> bool:
    """Whether a problem is bundled and of at most `MOST_VARIABLES`."""
    from jax_lbfgs_pi import trees
    from jax_lbfgs_pi.suite import get_problem
    from jax_lbfgs_pi.tasks import DataError

    try:
        x0 = get_problem(name).x0
    except DataError:
        return False
    return trees.size(x0) <= MOST_VARIABLES


def _train_and_race(args: argparse.Namespace, config: Any, out: Console) -> dict[str, Any]:
    from jax_lbfgs_pi.acceptance import Guard
    from jax_lbfgs_pi.baselines import baselines, policy_competitor
    from jax_lbfgs_pi.evaluation import Target
    from jax_lbfgs_pi.pretrained import DEFAULT, load_policy, policy_digest
    from jax_lbfgs_pi.tasks.suites import get_tasks

    tasks = get_tasks("digits", "train")
    out.print(f"2. Training a policy of your own on {len(tasks)} tasks of {tasks.name}.")
    training = train_paper.train(tasks, config, args.out / "train")
    out.print(train_paper.epoch_table(training))

    races = get_tasks("digits", "test", num_tasks=args.tasks)
    out.print(
        f"3. Racing it on {len(races)} held-out tasks; 'π {DEFAULT}' is the default again.",
        soft_wrap=True,
    )
    policy = load_policy(training["policy"])
    default = policy_competitor(f"π {DEFAULT}", load_policy(DEFAULT), guard=Guard())
    settings = {
        "policy_digest": policy_digest(policy),
        "max_iters": args.max_iters,
        "memory": MEMORY,
    }
    report = race_command.race_and_report(
        races,
        [policy_competitor(race_command.FAVOURITE, policy), default, *baselines(MEMORY).values()],
        [*(Target("grad_norm", eps) for eps in (1e-3, 1e-4, 1e-5)), Target("value", 1e-2)],
        args.out / "race",
        out,
        settings,
        max_iters=args.max_iters,
    )
    out.print(
        f"Your policy: {training['policy']}; load it with lp.load_policy(path).", soft_wrap=True
    )
    return {"training": training, "race": report}
