"""L-BFGS-π as optax gradient transformations."""

from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import optax

from jax_lbfgs_pi import linalg, trees, units
from jax_lbfgs_pi.acceptance import Guard, check_guard
from jax_lbfgs_pi.dense_history import Dense, Full
from jax_lbfgs_pi.policy import AnyPolicy, General, Rule, StepPolicy
from jax_lbfgs_pi.pretrained import DEFAULT_DENSE, as_policy
from jax_lbfgs_pi.state import ScaleByLBFGSPiState, init_state
from jax_lbfgs_pi.step import Lengths, limit, propose, take
from jax_lbfgs_pi.trees import Params

DEFAULT_GUARD = Guard()

MemorySize = SupportsIndex | str | Dense | Full | None
"""A number of pairs; "full" or a `Full` for all; "dense" or a `Dense` for a matrix that is scaled;
or None for a number by n."""


MOST_FULL = 400
"""Up to so many variables all pairs are kept by default: a step takes 0.3 ms there."""
MOST_PAIRS = 1000
"""Of a window: their m × m products take O(m²) a step, and a compiler longer still."""

WORDS: dict[str, type[Dense | Full]] = {"dense": Dense, "full": Full}


def scale_by_lbfgs_pi(
    policy: AnyPolicy = None,
    *,
    memory_size: MemorySize = None,
    first_step: Any = None,
    max_step: Any = None,
    guard: Guard | None = DEFAULT_GUARD,
) -> optax.GradientTransformationExtraArgs:
    """Scales a gradient g to t H g: L-BFGS's H, and a step size t that a policy chooses.

    One gradient per step, no line search, no control flow. The step `s` is read from the parameters
    themselves, so whatever follows in a chain may change the update.

    The guard: the parameters that `update` is given are a trial. Where f rose, or its gradient is
    not finite, the update leads back to a point between the trial and the last accepted one, and
    nothing is learned from the trial (`acceptance`). Pass `value` if you have it: without, the
    slopes at both ends of the step decide, which solves fewer problems. The test is free of the
    scales of f and x, but for rises of some ten rounding errors of f, which are tolerated. A
    pair with `sᵀy <= 1e-10 ‖s‖‖y‖` is not stored. Where the gradient is not finite at the first
    point of all, the update is 0.

    Args:
      policy: a `StepPolicy`, a function from `InnerProducts` to a scalar (the paper's `Policy` is
        one), or the name of a shipped one; None is `general`, with a dense H `dense`.
      memory_size: m, the number of curvature pairs kept. "full" keeps all since the start, in 2 n²
        numbers; "dense" H as a matrix that is scaled as it goes, in n², for long runs of up to some
        thousands of variables (`Full` and `Dense` have a limit). None is full up to 400 variables,
        else 20 up to 10⁴ and 10 above; without a guard no memory is full by itself; with a policy
        for a dense H it is dense.
      first_step: the length of the first step, in the units of x; None leaves it to the policy. May
        be traced.
      max_step: the greatest length of a step, likewise; None for no limit.
      guard: the constants of acceptance; None for the paper's algorithm, which accepts all.

    Returns:
      An optax transformation whose `update(grads, state, params, *, value=None)` needs `params` and
      never needs `value`.

    Raises:
      ValueError: for a `memory_size` that is no number from 1 to 1000, a length that is not
        positive, an unknown policy, or one for a dense H without it, a `guard` that cannot work;
        from `init` for a dense H above its limit; from `update` if `params` is None, `value` is no
        scalar, or gradients and parameters differ in structure or shape.
      TypeError: for a `guard` or a length that is none; from `init`, for integer or complex
        parameters.
    """
    size = _as_memory_size(memory_size)
    lengths = Lengths(first_step, max_step)
    for name, length in zip(("first_step", "max_step"), lengths, strict=True):
        trees.check_number(name, length, sign="positive")
    check_guard(guard)
    step_policy = as_policy(DEFAULT_DENSE if policy is None and isinstance(size, Dense) else policy)
    if isinstance(step_policy, General) and step_policy.is_for_a_dense_h:
        size = Dense() if size is None else size
        if not isinstance(size, Dense):
            raise ValueError(
                'This policy is for a dense H alone: take memory_size="dense", or another policy.'
            )

    def init(params: Params) -> ScaleByLBFGSPiState:
        m = default_memory(params, guarded=guard is not None) if size is None else size
        return init_state(step_policy, params, m)

    def step(grads: Params, state: Any, params: Params, value: Any) -> tuple[Params, Any]:
        if guard is not None:
            grads, value = units.enter(state, grads, value)
        proposal = propose(step_policy, grads, state, params, value, guard)
        t, memory = step_policy.step_size(proposal.seen, proposal.products, proposal.moved.memory)
        updates, state = take(proposal, limit(lengths, proposal, t), memory)
        return updates, state if guard is None else units.adapt(state)

    constants = jax.tree.leaves((step_policy, lengths, guard))
    if _is_ours(step_policy) and not any(map(trees.is_traced, constants)):
        step = linalg.one_kernel(step)

    def update(
        updates: Params,
        state: Any,
        params: Params | None = None,
        *,
        value: Any = None,
        **extra_args: Any,
    ) -> tuple[Params, ScaleByLBFGSPiState]:
        del extra_args
        if params is None:
            raise ValueError(
                "lbfgs_pi reads its last step from the parameters: call "
                "update(grads, state, params) with the current params."
            )
        if not isinstance(state, ScaleByLBFGSPiState):
            raise TypeError(
                f"state must be what init, or the last update, returned, but got a "
                f"{type(state).__name__}: call init for this transformation."
            )
        if value is not None and (isinstance(value, (tuple, list)) or jnp.shape(value) != ()):
            raise ValueError(
                "value must be f at the current params, a scalar: of a pair (value, aux) the first."
            )
        trees.check_same_structure(updates, params, names=("grads", "params"))
        trees.check_same_structure(state.prev_params, params, names=("state", "params"))
        updates, params = jax.tree.map(jnp.asarray, (updates, params))
        state = state._replace(grad_norm=None)  # all else is read
        return step(updates, state, params, value)

    return optax.GradientTransformationExtraArgs(init, update)


def default_memory(params: Params, *, guarded: bool) -> int | Full:
    """Full up to 400 variables, a window of 20 pairs up to 10⁴ and of 10 above.

    More pairs help small problems, and cost large ones most (`docs/research/04-memory.md`,
    `26-seconds.md`). Without a guard it is the paper's algorithm, which has a window.

    Raises:
      TypeError: for integer or complex parameters.
    """
    trees.check_floating(params)
    params = trees.of_arrays(params)
    n = trees.size(params)
    if guarded and 1 <= n <= MOST_FULL and linalg.can_be_raveled(params):
        return Full()
    return 20 if n <= 10_000 else 10


def _is_ours(policy: StepPolicy) -> bool:
    """Whether a policy is known to do arithmetic alone; a user's may call whatever it likes."""
    return type(policy) is Rule or (type(policy) is General and _is_ours(policy.base))


def _as_memory_size(memory_size: MemorySize) -> int | Dense | Full | None:
    if memory_size is None or isinstance(memory_size, (Dense, Full)):
        return memory_size
    if isinstance(memory_size, str):
        if memory_size not in WORDS:
            raise ValueError(
                f'memory_size must be a number, "full" or "dense", but got {memory_size!r}.'
            )
        return WORDS[memory_size]()
    num_pairs = trees.as_count("memory_size", memory_size, least=1)
    if num_pairs > MOST_PAIRS:
        raise ValueError(
            f"memory_size must be at most {MOST_PAIRS} pairs, but got {num_pairs}: "
            f'for all pairs of a run take "full".'
        )
    return num_pairs


def lbfgs_pi(
    policy: AnyPolicy = None,
    *,
    memory_size: MemorySize = None,
    first_step: Any = None,
    max_step: Any = None,
    guard: Guard | None = DEFAULT_GUARD,
) -> optax.GradientTransformationExtraArgs:
    """L-BFGS with a learned step-size policy: `scale_by_lbfgs_pi`, and a change of sign.

    Args and errors are those of `scale_by_lbfgs_pi`.

    Examples:
      >>> import jax, jax.numpy as jnp, optax
      >>> import jax_lbfgs_pi as lp
      >>> f = lambda x: jnp.sum((x - 3.0) ** 2)
      >>> tx = lp.lbfgs_pi()
      >>> x = jnp.zeros(2)
      >>> state = tx.init(x)
      >>> for _ in range(20):
      ...     updates, state = tx.update(jax.grad(f)(x), state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> bool(jnp.allclose(x, 3.0, atol=1e-3))
      True
    """
    scale = scale_by_lbfgs_pi(
        policy, memory_size=memory_size, first_step=first_step, max_step=max_step, guard=guard
    )
    return optax.chain(scale, optax.scale(-1.0))
