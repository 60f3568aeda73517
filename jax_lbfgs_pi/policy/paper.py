"""The paper's policy: a small pure function from inner products to a step size (paper §4)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from jax import dtypes
from jaxtyping import Array, Float, PRNGKeyArray

from jax_lbfgs_pi import trees
from jax_lbfgs_pi.clip import get_clip_layer
from jax_lbfgs_pi.policy.observation import InnerProducts

NUM_FEATURES = 16
LIMITS = ("tau_min", "tau_max")
LOG_FLOOR = 1e-8  # ε of SPEC §2: products are floored here before the logarithm


# The entries of X, row by row: which of the ten products, and its sign.
_FEATURE_OF = np.array([0, 1, 2, 3, 1, 4, 5, 6, 2, 5, 7, 8, 3, 6, 8, 9])
_FEATURE_SIGN = np.array([1, -1, -1, -1, 1, 1, -1, -1, 1, 1, 1, -1, 1, 1, 1, 1], np.int8)


def log_features(products: InnerProducts) -> Float[Array, "16"]:
    """u0 = ln(max(X, ε)), with the strict upper triangle of `X = VᵀV`, `V = [d g s y]`, negated.

    So the four squared norms appear once and each of the six products with both signs, row by row
    (paper, Fig. 1; its `min` is a misprint).
    """
    signed = jnp.stack(products)[_FEATURE_OF]
    signed = signed * jnp.asarray(_FEATURE_SIGN, signed.dtype)
    return jnp.log(jnp.maximum(signed, LOG_FLOOR))


def _torch_linear_init(key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
    """U(-1/√16, 1/√16), which PyTorch's `nn.Linear(16, ·)` uses for weights and biases alike."""
    bound = NUM_FEATURES**-0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class StepSizePolicy(nn.Module):
    """The policy network of paper Fig. 1: features `[16]` to the log-step τ, a scalar.

    `u1 = W1 u0 + b1`, `u2 = W2 u0 + b2`, `τ = clip(u1ᵀu2/‖u2‖², τ_m, τ_M)`; 204 parameters at the
    default width.

    Attributes:
      width: n_h, the number of entries of u1 and u2.
      tau_min: τ_m, the least log-step.
      tau_max: τ_M, the greatest log-step.
      learn_limits: whether τ_m and τ_M are parameters, starting from the values above.
      clip_layer: how the clip is differentiated: a name of `CLIP_LAYERS`.
    """

    width: int = 6
    tau_min: float = -3.0
    tau_max: float = 0.0
    learn_limits: bool = False
    clip_layer: str = "clip"

    def __post_init__(self) -> None:
        get_clip_layer(self.clip_layer)
        if not self.tau_min < self.tau_max:
            raise ValueError(
                f"tau_min must be less than tau_max, but got tau_min={self.tau_min} and "
                f"tau_max={self.tau_max}."
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, u0: Float[Array, "16"]) -> Float[Array, ""]:
        """τ of the features u0."""

        def linear(name: str) -> nn.Dense:
            return nn.Dense(
                self.width,
                # Python's float means the default dtype: float64 under x64, else float32.
                param_dtype=float,  # type: ignore[arg-type]
                precision=jax.lax.Precision.HIGHEST,
                kernel_init=_torch_linear_init,
                bias_init=_torch_linear_init,
                name=name,
            )

        u1, u2 = linear("linear1")(u0), linear("linear2")(u0)
        tau_min, tau_max = (jnp.asarray(self._limit(name), u1.dtype) for name in LIMITS)
        # Learned limits that cross would leave the clip without a solution.
        return get_clip_layer(self.clip_layer)(u1, u2, jnp.minimum(tau_min, tau_max), tau_max)

    def _limit(self, name: str) -> Any:
        value = getattr(self, name)
        if not self.learn_limits:
            return value
        return self.param(name, lambda _: jnp.asarray(value, float))


@struct.dataclass
class Policy:
    """A step-size policy: a network and its parameters, callable, and a pytree.

    It can be closed over, passed through `jit`, mapped over (`vmap` over a stack of parameters) and
    differentiated. Anything else that is callable on `InnerProducts` serves as a policy too.

    Attributes:
      params: θ, the network's variables.
      network: the flax module that reads them; static.
    """

    params: Any
    network: StepSizePolicy = struct.field(pytree_node=False, default=StepSizePolicy())

    __eq__ = trees.equal
    __hash__ = trees.hash_of

    def __call__(self, products: InnerProducts) -> Float[Array, ""]:
        """The step size t = exp τ, a scalar in [exp τ_m, exp τ_M].

        Raises:
          TypeError: if `products` are none.
        """
        if not isinstance(products, InnerProducts):
            raise TypeError(
                f"A policy is called with InnerProducts, but got {type(products).__name__}; "
                f"optax.inject_hyperparams takes it for a schedule: name it in static_args."
            )
        features = log_features(products)
        dtype = trees.scalar_dtype((self.params, features))
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), self.params)
        return jnp.exp(self.network.apply(params, features.astype(dtype)))  # type: ignore[arg-type]

    @property
    def limits(self) -> tuple[float, float]:
        """τ_m and τ_M, learned or fixed."""
        learned = self.params["params"] if self.network.learn_limits else {}
        tau_min, tau_max = (learned.get(name, getattr(self.network, name)) for name in LIMITS)
        return float(tau_min), float(tau_max)

    def with_clip_layer(self, name: str) -> "Policy":
        """The same policy with its clip differentiated another way; its values do not change."""
        return self.replace(network=self.network.clone(clip_layer=name))  # type: ignore[attr-defined]


def init_policy(key: PRNGKeyArray, **network_options: Any) -> Policy:
    """An untrained policy.

    Args:
      key: a PRNG key.
      **network_options: attributes of `StepSizePolicy`.

    Raises:
      ValueError: if `tau_min >= tau_max` or the clip layer is unknown.
    """
    network = StepSizePolicy(**network_options)
    # The values do not depend on the layer: initialise without asking for the extra `cvx`.
    params = network.clone(clip_layer="clip").init(key, jnp.zeros(NUM_FEATURES))
    return Policy(params=params, network=network)


def default_float() -> np.dtype:
    """The dtype of policies: float64 if x64 is enabled, else float32."""
    return np.dtype(dtypes.canonicalize_dtype(float))


def _hand_set(weights1: dict[int, float], bias1: float, **network_options: Any) -> Policy:
    """The policy with `u1 = Σ_i weights1[i] u0[i] + bias1` in every entry, and u2 = 1."""
    # NumPy, not JAX: a policy made while a function is traced must not hold its tracers.
    network = StepSizePolicy(**network_options)
    kernel1, kernel2 = np.zeros((2, NUM_FEATURES, network.width), default_float())
    for feature, weight in weights1.items():
        kernel1[feature] = weight
    params = {
        "linear1": {"kernel": kernel1, "bias": np.full(network.width, bias1, kernel1.dtype)},
        "linear2": {"kernel": kernel2, "bias": np.ones(network.width, kernel1.dtype)},
    }
    if network.learn_limits:
        params |= {name: np.asarray(getattr(network, name), kernel1.dtype) for name in LIMITS}
    return Policy(params={"params": params}, network=network)


def cosine_policy(**network_options: Any) -> Policy:
    """Appendix A's hand-set weights: t = cos φ, φ the angle between d and -g.

    `u1 = ln(-dᵀg) - ½ ln(dᵀd) - ½ ln(gᵀg)` and `u2 = 1`; t is exactly cos φ where all three
    products exceed 1e-8 and cos φ lies in [exp τ_m, exp τ_M].
    """
    neg_dg, dd, gg = 1, 0, 5  # positions in `log_features`
    return _hand_set({neg_dg: 1.0, dd: -0.5, gg: -0.5}, 0.0, **network_options)


def constant_policy(step_size: float = 1.0) -> Policy:
    """The policy that always returns `step_size`; 1 gives plain L-BFGS without a line search.

    Raises:
      ValueError: if `step_size` is not positive and finite.
    """
    if not 0 < step_size < float("inf"):
        raise ValueError(f"step_size must be positive and finite, but got {step_size}.")
    tau = math.log(step_size)
    return _hand_set({}, tau, tau_min=tau - 1.0, tau_max=tau + 1.0)
