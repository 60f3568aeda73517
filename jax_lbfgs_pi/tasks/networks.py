"""Classification by small networks: the paper's MLP and CNN (SPEC §5)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from jax_lbfgs_pi.trees import Params

INIT_SCALE = 0.1  # σ of x0; the paper does not say, and its Table 1 fits no other (SPEC §5)


class MLP(nn.Module):
    """Sigmoid MLP without biases: inputs → width, then `depth` maps width → width, then classes.

    Attributes:
      depth: n_l.
      width: n_u.
      num_classes: the number of outputs.
    """

    depth: int = 1
    width: int = 20
    num_classes: int = 10

    @nn.compact
    def __call__(self, images: Float[Array, "num *image"]) -> Float[Array, "num classes"]:
        """Logits."""
        x = images.reshape(images.shape[0], -1)
        for _ in range(self.depth + 1):
            x = nn.sigmoid(nn.Dense(self.width, use_bias=False, param_dtype=float)(x))  # type: ignore[arg-type]
        return nn.Dense(self.num_classes, use_bias=False, param_dtype=float)(x)  # type: ignore[arg-type]


def valid_conv(
    images: Float[Array, "num h w c"],
    kernel: Float[Array, "kh kw c features"],
    *unused: Any,
    precision: Any = None,
    **also_unused: Any,
) -> Float[Array, "num _ _ features"]:
    """A valid convolution of stride 1 as matrix products, one for each row of the kernel.

    Takes the arguments of `lax.conv_general_dilated` as flax passes them. In a loop over iterates,
    where the shifted copies of the images are made once, it is several times as fast as XLA's
    convolution in float64 on a CPU, and it is no slower outside.
    """
    del unused, also_unused
    height, width, channels, features = kernel.shape
    columns, rows = images.shape[2] - width + 1, images.shape[1] - height + 1
    shifted = jnp.concatenate([images[:, :, j : j + columns] for j in range(width)], axis=-1)
    flat = kernel.reshape(height, width * channels, features)
    products = [
        jnp.matmul(shifted[:, i : i + rows], flat[i], precision=precision) for i in range(height)
    ]
    return sum(products[1:], start=products[0])


class CNN(nn.Module):
    """LeNet-like network of Zhang (2016) with ReLU: two valid 5×5 convolutions, average pools."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images: Float[Array, "num h w c"]) -> Float[Array, "num classes"]:
        """Logits."""
        x = images
        for channels in (6, 12):
            conv = nn.Conv(
                channels,
                (5, 5),
                padding="VALID",
                param_dtype=float,  # type: ignore[arg-type]
                conv_general_dilated_cls=lambda: valid_conv,
            )
            x = conv(x)
            x = nn.avg_pool(nn.relu(x), (2, 2), strides=(2, 2))
        return nn.Dense(self.num_classes, param_dtype=float)(x.reshape(x.shape[0], -1))  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Classification:
    """Full-batch softmax cross-entropy of a network.

    Attributes:
      network: maps images `[N, ...]` to logits `[N, classes]`.
      image_shape: the shape of one image.
      init_scale: σ of the starting point, N(0, σ²) in every coordinate.
    """

    network: nn.Module
    image_shape: tuple[int, ...]
    init_scale: float = INIT_SCALE

    def init(self, key: PRNGKeyArray) -> Params:
        """x0 ~ N(0, σ²), i.i.d., as the network's variables."""
        images = jax.ShapeDtypeStruct((1, *self.image_shape), jnp.zeros(()).dtype)
        shapes = jax.eval_shape(self.network.init, key, images)
        leaves, treedef = jax.tree.flatten(shapes)
        keys = jax.random.split(key, len(leaves))
        return treedef.unflatten(
            self.init_scale * jax.random.normal(k, leaf.shape, leaf.dtype)
            for k, leaf in zip(keys, leaves, strict=True)
        )

    def loss(self, params: Params, data: dict[str, Any]) -> Float[Array, ""]:
        """Mean cross-entropy over all N images, in nats."""
        logits = self.network.apply(params, data["images"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, data["labels"])  # type: ignore[arg-type]
        return jnp.mean(losses)


def num_params(task: Classification) -> int:
    """n, the number of variables."""
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))


def decode_bytes(data: dict[str, Any]) -> dict[str, Any]:
    """Images as bytes to images in [0, 1], in the default float dtype."""
    dtype = jnp.zeros(()).dtype
    return {"images": np.asarray(data["images"], dtype) / 255, "labels": data["labels"]}
