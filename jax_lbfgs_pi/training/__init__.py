"""Meta-training of step-size policies."""

from jax_lbfgs_pi.training.config import PRESETS, MetaTrainConfig, get_preset
from jax_lbfgs_pi.training.log import MetaTrainLog, OuterRecord, read_log
from jax_lbfgs_pi.training.meta_train import meta_train

__all__ = [
    "PRESETS",
    "MetaTrainConfig",
    "MetaTrainLog",
    "OuterRecord",
    "get_preset",
    "meta_train",
    "read_log",
]
