"""What a problem of the suite is, and how problems are registered."""

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jax_lbfgs_pi.trees import Params


@dataclasses.dataclass(frozen=True)
class Problem:
    """A smooth unconstrained problem with its starting point.

    Attributes:
      name: unique, such as `rosenbrock-10`.
      kind: the formula or family it is an instance of; the suite is split by kind.
      loss: the objective, `(params, data) -> f`.
      x0: the starting point, a pytree of NumPy arrays.
      data: what the objective reads besides the parameters, a pytree of NumPy arrays; None for
        nothing.
      minimum: the least value of f as published, where it is known.
      source: where the formula was published.
    """

    name: str
    kind: str
    loss: Callable[[Params, Any], Float[Array, ""]]
    x0: Params
    data: Any = None
    minimum: float | None = None
    source: str = ""


class Registry:
    """Problems by name, each made when it is asked for: some read data sets."""

    def __init__(self) -> None:
        self._makers: dict[str, tuple[str, Callable[[], Problem]]] = {}

    def add(self, name: str, kind: str, make: Callable[[], Problem]) -> None:
        """Registers a problem.

        Raises:
          ValueError: if the name is taken.
        """
        if name in self._makers:
            raise ValueError(f"The suite has a problem {name!r} already: choose another name.")
        self._makers[name] = (kind, make)

    def names(self, kinds: Iterable[str] | None = None) -> list[str]:
        """The names of the problems of some kinds, or of all, in order of registration."""
        chosen = None if kinds is None else set(kinds)
        return [n for n, (kind, _) in self._makers.items() if chosen is None or kind in chosen]

    def kind(self, name: str) -> str:
        """The kind of a problem."""
        return self._entry(name)[0]

    def make(self, name: str) -> Problem:
        """The problem of a name.

        Raises:
          ValueError: if there is none.
        """
        kind, make = self._entry(name)
        problem = make()
        if (problem.name, problem.kind) != (name, kind):
            raise ValueError(f"{name!r} of kind {kind!r} was made as {problem.name!r}.")
        return problem

    def _entry(self, name: str) -> tuple[str, Callable[[], Problem]]:
        if name not in self._makers:
            raise ValueError(f"Unknown problem {name!r}: list_problems() names all.")
        return self._makers[name]


REGISTRY = Registry()
"""All problems of the suite; the modules that define them fill it when `suite` is imported."""


Vector = Float[Array, " n"]
"""The variables of a formula."""

Residuals = Float[Array, " m"]
"""What a formula that is a sum of squares sums the squares of."""

Scalar = Float[Array, ""]


def formula(
    kind: str,
    start: Sequence[float] | Callable[[int], np.ndarray],
    sizes: Sequence[int] = (),
    *,
    source: str,
    minimum: float | Callable[[int], float | None] | None = None,
    data: Callable[[int], Any] | None = None,
    squares: bool = False,
    scales: Sequence[int] = (),
    near: int = 0,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers instances of the formula below it, `(x, data) -> f`.

    Args:
      kind: the formula's name; instances are named `kind-n`, `kind-n@10x`, `kind-n@near1`.
      start: x0, or how to make it for n variables.
      sizes: the numbers of variables; the length of `start` where there is but one.
      source: where the formula was published.
      minimum: the least value, or what it is for n variables.
      data: makes the data for n variables.
      squares: whether the formula gives residuals, whose squares are summed.
      scales: multiples of x0 to start from too, at the first size.
      near: how many random points near x0 to start from too, at the first size.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        loss = _sum_of_squares(function) if squares else function

        def add(n: int, suffix: str, move: Callable[[np.ndarray], np.ndarray]) -> None:
            def make() -> Problem:
                x0 = np.asarray(start(n) if callable(start) else start, np.float64)
                return Problem(
                    name,
                    kind,
                    loss,
                    move(x0),
                    data=None if data is None else data(n),
                    minimum=minimum(n) if callable(minimum) else minimum,
                    source=source,
                )

            name = f"{kind}-{n}{suffix}"
            REGISTRY.add(name, kind, make)

        dims = list(sizes) or [len(start) if isinstance(start, Sequence) else 0]
        for n in dims:
            add(n, "", lambda x0: x0)
        for scale in scales:
            add(dims[0], f"@{scale}x", lambda x0, scale=scale: scale * x0)
        for i in range(1, near + 1):
            add(dims[0], f"@near{i}", lambda x0, i=i: _near(x0, (zlib.crc32(kind.encode()), i)))
        return function

    return register


def _sum_of_squares(residuals: Callable[..., Any]) -> Callable[..., Any]:
    def loss(x: Vector, data: Any) -> Scalar:
        return jnp.sum(residuals(x, data) ** 2)

    return loss


def _near(x0: np.ndarray, seed: tuple[int, int]) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=x0.shape)
    return x0 + 0.1 * np.maximum(1.0, np.abs(x0)) * noise


def ordinals(x: Vector) -> Vector:
    """1, 2, …, n in the precision of x."""
    return jnp.arange(1, len(x) + 1, dtype=x.dtype)


def repeated(*pattern: float) -> Callable[[int], np.ndarray]:
    """Makes a start of any length that repeats some numbers."""
    return lambda n: np.resize(np.array(pattern), n)
