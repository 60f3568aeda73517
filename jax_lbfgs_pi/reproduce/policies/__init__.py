"""Policies that only the reproduction needs: other outcomes of the paper's training.

`letter` is the training to the letter, with other seeds and after five epochs; `limited` the one
with a limit on θ's gradient, of which seed 1 is shipped as `paper-mnist`. A card is beside each.
"""

from importlib import resources
from pathlib import Path

LETTER = "letter"
LETTER_SEEDS = (LETTER, "letter-seed1", "letter-seed2")
LETTER_5_EPOCHS = "letter-5-epochs"
LIMITED = "limited"
LIMITED_SEEDS = (LIMITED, "paper-mnist", "limited-seed2", "limited-seed3", "limited-seed4")
NAMES = (*LETTER_SEEDS, LETTER_5_EPOCHS, LIMITED, *LIMITED_SEEDS[2:])


def path_of(name: str) -> Path:
    """The file of one of `NAMES`."""
    return Path(str(resources.files(__name__))) / f"{name}.safetensors"
