"""What a policy is: two answers, one before the direction is known and one after."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from jax_lbfgs_pi.policy.observation import InnerProducts, Observation


class Scaling(NamedTuple):
    """The answer before the direction.

    Attributes:
      gamma: γ of H₀ = γ I.
      num_pairs: how many of the newest pairs to trust; all if it is m or more. Of a window alone.
      tau: τ, by which H is divided before the new pair comes in. Of a dense H alone.
      phi: φ, the member of Broyden's family: 1 is BFGS, 0 is DFP. Of a dense H alone.
      omega: ω of the newest pair's secant equation, H₊ y = ω s, positive: 1 takes the mean
        curvature along the step (Biggs 1971 takes that at its end).
    """

    gamma: Float[Array, ""]
    num_pairs: Float[Array, ""]
    tau: Any = 1.0
    phi: Any = 1.0
    omega: Any = 1.0


@runtime_checkable
class StepPolicy(Protocol):
    """A policy: pure functions of scalars to scalars, and a pytree of its parameters.

    It may carry a few numbers of its own from step to step, its memory, any pytree. Both answers
    may change it. Trials that are rejected are not shown to a policy: it sees the next accepted
    step, and how many were rejected before it.

    Attributes:
      reads_ds: whether it reads dᵀs, the one inner product that costs a pass over memory; without,
        it is given 0.
    """

    reads_ds: ClassVar[bool]

    def init(self, dtype: Any) -> Any:
        """The memory before the first step."""
        ...

    def scale(self, seen: Observation, memory: Any) -> tuple[Scaling, Any]:
        """How to scale H₀ and how many pairs to trust; and the memory."""
        ...

    def step_size(
        self, seen: Observation, products: InnerProducts, memory: Any
    ) -> tuple[Float[Array, ""], Any]:
        """The step size t along d; and the memory."""
        ...


@struct.dataclass
class FromProducts:
    """The policy of a function of inner products alone, such as the paper's: it answers t.

    γ is the short one and all pairs are trusted, as in the paper.

    Attributes:
      function: from `InnerProducts` to the step size; a pytree if it is a `Policy`.
    """

    function: Any

    reads_ds: ClassVar[bool] = True

    def init(self, dtype: Any) -> tuple[()]:
        """No memory."""
        del dtype
        return ()

    def scale(self, seen: Observation, memory: tuple[()]) -> tuple[Scaling, tuple[()]]:
        """The newest pair's short scaling, and all pairs."""
        gamma = seen.pair.short_scaling()
        return Scaling(gamma, jnp.full_like(gamma, seen.memory_size)), memory

    def step_size(
        self, seen: Observation, products: InnerProducts, memory: tuple[()]
    ) -> tuple[Float[Array, ""], tuple[()]]:
        """The function's answer."""
        return jnp.asarray(self.function(products), seen.gg.dtype), memory


AnyPolicy = StepPolicy | Callable[[InnerProducts], Float[Array, ""]] | str | None
"""What serves as a policy: a `StepPolicy`, a function of `InnerProducts` to a step size (the
paper's `Policy` is one), the name of a shipped one, or None for the default."""
