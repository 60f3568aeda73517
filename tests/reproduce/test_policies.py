"""The policies that only the reproduction needs."""

import json
from pathlib import Path

import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.pretrained import policy_digest
from jax_lbfgs_pi.reproduce import policies, trainings

SHIPPED = Path(__file__).parents[2] / "reproduction"


@pytest.mark.parametrize("name", policies.NAMES)
def test_each_is_a_network_of_the_papers_form_with_a_card(name):
    policy = lp.load_policy(policies.path_of(name))
    assert isinstance(policy, lp.Policy)
    assert policy.network.tau_max == 0.0  # §4: t is at most 1
    title, blank, summary, *_ = policies.path_of(name).with_suffix(".md").read_text().splitlines()
    assert (title, blank) == (f"# {name}", "")
    assert summary.strip().endswith(".")


def test_none_is_shipped_under_its_name_or_twice():
    everything = [lp.load_policy(policies.path_of(name)) for name in policies.NAMES]
    everything.append(lp.load_policy("paper-mnist"))
    assert len({policy_digest(policy) for policy in everything}) == len(policies.NAMES) + 1
    assert not set(policies.NAMES) & set(lp.list_policies())


@pytest.mark.parametrize("name", ["cifar", "cifar-100"])
def test_the_warm_starts_go_on_from_the_training_to_the_letter(name):
    """As the shipped training says, which was run from it."""
    said = json.loads((SHIPPED / "trainings" / name / "training.json").read_text())["start"]
    start = trainings.TRAININGS[name].start
    assert start == policies.path_of(policies.LETTER)
    assert said == policy_digest(lp.load_policy(start))
