"""How everything here is timed: functions take turns in one process, and medians are compared.

Whatever else the machine does, it does to all of them alike, so ratios of medians travel where
milliseconds do not.
"""

import gc
import itertools
import math
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax

SHORTEST = 2e-3  # seconds; a faster call is repeated until a repetition takes about this long


class Candidate(NamedTuple):
    """What is timed: `calls` calls of `call` make one repetition.

    Attributes:
      call: without arguments; its result is waited for.
      setup: called, untimed, before every repetition: for what depends on its state. Its result is
        waited for, or what it began would be timed.
      calls: None chooses them, so that a repetition takes at least `SHORTEST`.
    """

    call: Callable[[], Any]
    setup: Callable[[], Any] | None = None
    calls: int | None = None


class Timing(NamedTuple):
    """The outcome of `compare`.

    Attributes:
      seconds: the median time of one call, by name.
      spread: the distance of the quartiles over the median, by name.
      repetitions: of how many repetitions that is.
    """

    seconds: dict[str, float]
    spread: dict[str, float]
    repetitions: int

    def ratio(self, name: str, reference: str) -> float:
        """The ratio of two medians."""
        return self.seconds[name] / self.seconds[reference]


class Stateful:
    """A call that feeds the state which `function` returns back in, as donated buffers demand.

    Attributes:
      state: of the next call.
    """

    def __init__(
        self,
        function: Callable[..., tuple[Any, Any]],
        state: Any,
        arguments: Iterable[tuple[Any, ...]] = ((),),
    ):
        """`function(state, *arguments) -> (state, out)`; the tuples of arguments come in turn."""
        self._function, self._arguments = function, itertools.cycle(arguments)
        self.state = state

    def __call__(self) -> Any:
        self.state, out = self._function(self.state, *next(self._arguments))
        return self.state, out


def calls_for(seconds: float) -> int:
    """How many calls of this length make one repetition."""
    return min(max(1, math.ceil(SHORTEST / max(seconds, 1e-6))), 1000)


def compare(
    candidates: Mapping[str, Candidate | Callable[[], Any]],
    *,
    budget: float,
    least: int = 5,
    most: int = 200,
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Times functions, one after the other, repetition by repetition, each of its own order.

    Args:
      candidates: by name; a bare callable is a `Candidate` without set-up.
      budget: seconds after which no new repetition begins, once there are `least`.
      least: the fewest repetitions.
      most: the most repetitions.
      warm_up: repetitions before, which compile and fill caches.
      clock: seconds.
    """
    named = {k: c if isinstance(c, Candidate) else Candidate(c) for k, c in candidates.items()}
    calls = {name: candidate.calls or 1 for name, candidate in named.items()}

    def repetition(name: str) -> float:
        candidate = named[name]
        if candidate.setup is not None:
            jax.block_until_ready(candidate.setup())
        began = clock()
        for _ in range(calls[name]):
            jax.block_until_ready(candidate.call())
        return (clock() - began) / calls[name]

    for name, candidate in named.items():
        for _ in range(warm_up):
            seconds = repetition(name)
        if candidate.calls is None and warm_up:
            calls[name] = calls_for(seconds)

    seconds, order = {name: [] for name in named}, random.Random(0)
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    try:
        began = clock()
        for done in range(most):
            if done >= least and clock() - began >= budget:
                break
            # In another order each time: threads of who was before may still spin, caches are its.
            for name in order.sample(list(named), len(named)):
                seconds[name].append(repetition(name))
    finally:
        if collecting:
            gc.enable()
    return Timing(
        seconds={name: statistics.median(times) for name, times in seconds.items()},
        spread={name: _spread(times) for name, times in seconds.items()},
        repetitions=len(next(iter(seconds.values()))),
    )


def _spread(times: list[float]) -> float:
    if len(times) < 2:
        return 0.0
    first, median, third = statistics.quantiles(times, n=4, method="inclusive")
    return (third - first) / median
