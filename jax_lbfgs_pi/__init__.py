"""L-BFGS-π in JAX: L-BFGS with a learned step-size policy in place of the line search."""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

from jax_lbfgs_pi import bounds
from jax_lbfgs_pi.acceptance import Guard
from jax_lbfgs_pi.dense_history import Dense, Full
from jax_lbfgs_pi.direction import gram_direction, two_loop_direction
from jax_lbfgs_pi.history import History, init_history, push
from jax_lbfgs_pi.loop_state import Progress, Trajectory
from jax_lbfgs_pi.minimize import MinimizeResult, minimize
from jax_lbfgs_pi.policy import (
    AnyPolicy,
    General,
    InnerProducts,
    Observation,
    Pair,
    Policy,
    Rule,
    Scaling,
    StepPolicy,
    StepSizePolicy,
    constant_policy,
    cosine_policy,
    init_policy,
    inner_products,
    log_features,
)
from jax_lbfgs_pi.pretrained import (
    PolicyFileError,
    list_policies,
    load_policy,
    policy_card,
    save_policy,
)
from jax_lbfgs_pi.state import ScaleByLBFGSPiState
from jax_lbfgs_pi.stopping import Status, Stopping
from jax_lbfgs_pi.tasks import DataError, Task, TaskSet, get_tasks
from jax_lbfgs_pi.training import MetaTrainConfig, MetaTrainLog, get_preset, meta_train
from jax_lbfgs_pi.transform import lbfgs_pi, scale_by_lbfgs_pi
from jax_lbfgs_pi.unroll import InnerState, frozen_value_and_grad, init_inner, unroll

if TYPE_CHECKING:
    from jax_lbfgs_pi.baselines import Competitor, policy_competitor
    from jax_lbfgs_pi.evaluation import Target, plot_trajectory, race, rich_tables
    from jax_lbfgs_pi.progress import progress_bar
    from jax_lbfgs_pi.training.development import FineTuneConfig
    from jax_lbfgs_pi.training.fine_tune import FineTuned, fine_tune

__version__ = importlib.metadata.version("jax_lbfgs_pi")

# What draws figures or reads tables is imported where it is asked for.
_LATER = {
    "Competitor": "baselines",
    "FineTuneConfig": "training.development",
    "FineTuned": "training.fine_tune",
    "Target": "evaluation",
    "fine_tune": "training.fine_tune",
    "plot_trajectory": "evaluation",
    "policy_competitor": "baselines",
    "progress_bar": "progress",
    "race": "evaluation",
    "rich_tables": "evaluation",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = found  # before the module of the same name
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "AnyPolicy",
    "Competitor",
    "DataError",
    "Dense",
    "FineTuneConfig",
    "FineTuned",
    "Full",
    "General",
    "Guard",
    "History",
    "InnerProducts",
    "InnerState",
    "MetaTrainConfig",
    "MetaTrainLog",
    "MinimizeResult",
    "Observation",
    "Pair",
    "Policy",
    "PolicyFileError",
    "Progress",
    "Rule",
    "ScaleByLBFGSPiState",
    "Scaling",
    "Status",
    "StepPolicy",
    "StepSizePolicy",
    "Stopping",
    "Target",
    "Task",
    "TaskSet",
    "Trajectory",
    "__version__",
    "bounds",
    "constant_policy",
    "cosine_policy",
    "fine_tune",
    "frozen_value_and_grad",
    "get_preset",
    "get_tasks",
    "gram_direction",
    "init_history",
    "init_inner",
    "init_policy",
    "inner_products",
    "lbfgs_pi",
    "list_policies",
    "load_policy",
    "log_features",
    "meta_train",
    "minimize",
    "plot_trajectory",
    "policy_card",
    "policy_competitor",
    "progress_bar",
    "push",
    "race",
    "rich_tables",
    "save_policy",
    "scale_by_lbfgs_pi",
    "two_loop_direction",
    "unroll",
]
