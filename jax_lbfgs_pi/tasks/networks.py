"""Classification by small networks: the paper's MLP and CNN (SPEC §5)."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Array, Float, PRNGKeyArray

from jax_lbfgs_pi import linalg
from jax_lbfgs_pi.tasks.chunks import mean_in_chunks
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


def conv_relu_pool(
    images: Float[Array, "num h w c"],
    kernel: Float[Array, "k k c features"],
    bias: Float[Array, " features"],
) -> Float[Array, "num _ _ features"]:
    """Means over 2×2 of the ReLU of a valid convolution, four results at a time.

    Four neighbours see (k + 1)² pixels, a quarter of what they see one by one: as rows of one
    matrix product these take a fraction of the time of XLA's convolution in float64 on a CPU, and
    the four that are to be averaged stand side by side.

    Args:
      images: of even height and width.
      kernel: k is odd.
      bias: one for each feature.

    Returns:
      `[num, (h - k + 1) / 2, (w - k + 1) / 2, features]`.
    """
    num, height, width, channels = images.shape
    side, features = kernel.shape[0] + 1, len(bias)
    rows, columns = (height - side) // 2 + 1, (width - side) // 2 + 1
    pairs = images.reshape(num, height, width // 2, 2 * channels)
    wide = jnp.concatenate([pairs[:, :, j : j + columns] for j in range(side // 2)], axis=-1)
    wide = wide.reshape(num, height // 2, 2, columns, side * channels)
    seen = [wide[:, i // 2 : i // 2 + rows, i % 2] for i in range(side)]
    places = [
        jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0))) for i in (0, 1) for j in (0, 1)
    ]
    four = jnp.concatenate(seen, axis=-1) @ jnp.concatenate(places, axis=-1).reshape(
        side * side * channels, 4 * features
    )
    # Slices, and not an axis of four, which XLA's CPU backend makes a slow reduction of.
    shift = bias[None, None, None]
    each = [jax.nn.relu(x + shift) for x in jnp.split(four, 4, axis=-1)]
    return (each[0] + each[1] + each[2] + each[3]) / 4


class ConvReluPool(nn.Module):
    """A layer of `conv_relu_pool`.

    Attributes:
      features: the number of kernels.
      side: k, of a kernel.
    """

    features: int
    side: int = 5

    @nn.compact
    def __call__(self, images: Float[Array, "num h w c"]) -> Float[Array, "num _ _ features"]:
        """The next layer's images."""
        shape = (self.side, self.side, images.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape, float)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), float)
        return conv_relu_pool(images, kernel, bias)


class CNN(nn.Module):
    """LeNet-like network of Zhang (2016) with ReLU: two valid 5×5 convolutions, average pools."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images: Float[Array, "num h w c"]) -> Float[Array, "num classes"]:
        """Logits."""
        x = images
        for i, features in enumerate((6, 12)):
            x = ConvReluPool(features, name=f"Conv_{i}")(x)
        return nn.Dense(self.num_classes, param_dtype=float)(x.reshape(x.shape[0], -1))  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class Classification:
    """Full-batch softmax cross-entropy of a network.

    Attributes:
      network: maps images `[N, ...]` to logits `[N, classes]`.
      image_shape: the shape of one image.
      init_scale: σ of the starting point, N(0, σ²) in every coordinate.
      chunk: how many images a CPU takes at a time, where more than its caches hold are too many;
        None for all. Elsewhere, and on several devices, all are taken together.
    """

    network: nn.Module
    image_shape: tuple[int, ...]
    init_scale: float = INIT_SCALE
    chunk: int | None = None

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
        if self.chunk is not None and linalg.on_one_cpu(data["images"]):
            return mean_in_chunks(self._mean_loss, params, data, self.chunk)
        return self._mean_loss(params, data)

    def _mean_loss(self, params: Params, data: dict[str, Any]) -> Float[Array, ""]:
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
