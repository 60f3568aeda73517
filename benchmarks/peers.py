"""The libraries compared with, all of them optional."""

import importlib
import os
import statistics
import time
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

_MODULES = {  # by the name that pip knows
    "cvxpylayers": ("cvxpylayers", "cvxpy", "diffcp"),
    "jaxopt": ("jaxopt",),
    "moreau": ("moreau", "cvxpylayers", "cvxpy"),
    "optimistix": ("optimistix", "equinox"),
    "scipy": ("scipy.optimize",),
    "torch": ("torch",),
}


def load(name: str) -> ModuleType | None:
    """The first module of a peer, or None if it, or a thing that it needs, is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # jaxopt announces that it is no longer maintained
            first, *_ = [importlib.import_module(module) for module in _MODULES[name]]
    except ImportError:
        return None
    return first


def missing(*names: str) -> list[str]:
    """A line for each of these peers that is not there."""
    return [
        f"{name} is not installed and left out: pip install 'jax_lbfgs_pi[bench]'"
        for name in names
        if load(name) is None
    ]


def set_torch_threads(call: Callable[[], Any]) -> int:
    """Gives PyTorch one thread or one for each core, whichever makes `call` faster; returns it.

    XLA chooses for itself. At these sizes threads that wait for each other can cost more than they
    bring, above all on a machine that does other things as well.
    """
    import torch

    seconds = {}
    for num_threads in sorted({1, num_cores()}):
        torch.set_num_threads(num_threads)
        call()
        times = []
        for _ in range(10):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        seconds[num_threads] = statistics.median(times)
    best = min(seconds, key=seconds.__getitem__)
    torch.set_num_threads(best)
    return best


def one_blas_thread() -> Any:
    """A controller whose `limit(limits=1, user_api="blas")` keeps SciPy's BLAS to one thread.

    On the vectors of L-BFGS-B more threads are only in each other's way. scikit-learn brings it.
    """
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


def num_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
