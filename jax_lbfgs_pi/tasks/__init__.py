"""Tasks: what policies are trained on and raced on."""

from jax_lbfgs_pi.tasks.base import Task, TaskSet
from jax_lbfgs_pi.tasks.convex import (
    LogisticRegression,
    Quadratic,
    logistic_tasks,
    quadratic_tasks,
)
from jax_lbfgs_pi.tasks.data import DataError, load_digits, load_images
from jax_lbfgs_pi.tasks.networks import CNN, MLP, Classification, num_params
from jax_lbfgs_pi.tasks.suites import DATASETS, SPLITS, get_tasks

__all__ = [
    "CNN",
    "DATASETS",
    "MLP",
    "SPLITS",
    "Classification",
    "DataError",
    "LogisticRegression",
    "Quadratic",
    "Task",
    "TaskSet",
    "get_tasks",
    "load_digits",
    "load_images",
    "logistic_tasks",
    "num_params",
    "quadratic_tasks",
]
