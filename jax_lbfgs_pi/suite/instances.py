"""Registering the instances of a kind that differ in a seed."""

import functools
from collections.abc import Callable
from typing import Any

from jax_lbfgs_pi.suite.problem import REGISTRY, Problem
from jax_lbfgs_pi.trees import Params

Parts = tuple[Callable[[Params, Any], Any], Params, Any]
"""The objective, the starting point and the data of an instance."""


def add_instances(kind: str, num: int, parts: Callable[[int], Parts], source: str) -> None:
    """Registers `kind-0`, `kind-1` and so on, each made from its number when it is asked for."""

    def make(index: int) -> Problem:
        loss, x0, data = parts(index)
        return Problem(f"{kind}-{index}", kind, loss, x0, data, source=source)

    for index in range(num):
        REGISTRY.add(f"{kind}-{index}", kind, functools.partial(make, index))
