"""`lbfgs-pi policies`."""

import argparse
from typing import Any

from rich.markdown import Markdown
from rich.table import Table

from jax_lbfgs_pi.cli.common import console


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "policies",
        help="list the shipped policies, or show the card of one",
        description="Lists the shipped policies; with a name, shows that one's card.",
    )
    parser.add_argument("name", nargs="?", help="a shipped policy")
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> Any:
    """Runs the subcommand."""
    from jax_lbfgs_pi.pretrained import DEFAULT, DEFAULT_DENSE, list_policies, policy_card

    out = console(args)
    if args.name:
        card = policy_card(args.name)
        out.print(Markdown(card), width=80)
        return {"name": args.name, "card": card}
    table = Table("policy", "what it is", title_justify="left", width=80)
    rows = {name: policy_card(name).splitlines()[2] for name in list_policies()}
    of = {DEFAULT: " (default)", DEFAULT_DENSE: " (default with a dense H)"}
    for name, line in rows.items():
        table.add_row(name + of.get(name, ""), line)
    out.print(table)
    return {"default": DEFAULT, "default_dense": DEFAULT_DENSE, "policies": rows}
