"""docs/mnist.md and REPRODUCTION.md say what the shipped records say."""

import json
import re
from pathlib import Path

import pytest

from jax_lbfgs_pi.pretrained import policy_digest
from jax_lbfgs_pi.reproduce.artefacts import ARTEFACTS, records_of
from jax_lbfgs_pi.reproduce.races import RACES, policies_of
from scripts.fill_docs import filled
from tests.marks import some_of

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "reproduction"
GENERAL_OF_2026_11_26 = "50b5673c99834e277fffb5783c06366930c64eda039d62235c46a0abb075edcf"
"""The default that these races were run with; it was trained anew since."""
TEXT = (ROOT / "REPRODUCTION.md").read_text()


@pytest.mark.parametrize(
    "name", some_of(["docs/mnist.md", "docs/examples.md", "REPRODUCTION.md"], quick=(0, 1))
)
def test_tables_are_those_of_the_shipped_records(name):
    """`make docs` fills them; what the tables say of records is tested with the statistics."""
    assert filled(name) == (ROOT / name).read_text()


def test_every_command_and_every_file_is_there():
    for what in re.findall(r"`lbfgs-pi reproduce ([a-z0-9-]+)`", TEXT):
        assert what in ARTEFACTS
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", TEXT)
    assert len(targets) > 5
    for target in targets:
        assert (ROOT / target).is_file(), target


@pytest.mark.parametrize("race", [race for race in RACES if (SHIPPED / "records" / race).is_dir()])
def test_shipped_records_are_of_the_shipped_policies(race):
    known = json.loads((SHIPPED / "records" / race / "race.json").read_text())["policies"]
    digests = {name: policy_digest(p) for name, p in policies_of(RACES[race], SHIPPED).items()}
    if (general := "L-BFGS-π, general") in digests:
        digests[general] = GENERAL_OF_2026_11_26
        assert "`general` (of 2026-11-26)" in TEXT
    assert digests == known
    assert set(known) <= set(records_of(SHIPPED, race).optimizers)
