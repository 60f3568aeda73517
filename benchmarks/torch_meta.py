"""The paper's stack: the same outer step in eager PyTorch, with a cvxpylayers layer as the clip.

Written as a competent PyTorch user would: flat vectors, the two-loop recursion, inner gradients by
`torch.autograd.grad` and detached, `CvxpyLayer` with its default solver. Nothing here is compiled,
and every number is float64.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.problems import CLASSES, INPUTS

NUM_FEATURES, WIDTH = 16, 6
TAU_MIN, TAU_MAX = -3.0, 0.0
LOG_FLOOR = 1e-8

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]


def mlp_loss(weights: list[Tensor], images: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the sigmoid MLP without biases."""
    x = images
    for weight in weights[:-1]:
        x = torch.sigmoid(x @ weight)
    return nn.functional.cross_entropy(x @ weights[-1], labels)


def mlp_data(data: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """A task's images, flattened, and labels."""
    images = torch.tensor(np.asarray(data["images"], np.float64).reshape(-1, INPUTS))
    return images, torch.tensor(np.asarray(data["labels"], np.int64))


def split(x: Tensor, width: int) -> list[Tensor]:
    """The weight matrices of MLP (1, width) in a flat vector, ordered as in flax's variables."""
    shapes = [(INPUTS, width), (width, width), (width, CLASSES)]
    parts = torch.split(x, [rows * columns for rows, columns in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


def frozen_evaluate(data: dict[str, Any], width: int = 20) -> Evaluate:
    """`x -> (f, g)`, both constants, at a detached x."""
    images, labels = mlp_data(data)

    def evaluate(x: Tensor) -> tuple[Tensor, Tensor]:
        leaf = x.detach().requires_grad_()
        value = mlp_loss(split(leaf, width), images, labels)
        (grads,) = torch.autograd.grad(value, leaf)
        return value.detach(), grads

    return evaluate


class TorchPolicy(nn.Module):
    """The paper's policy: features to t, the clip a convex optimization layer."""

    def __init__(self, theta: Any):
        """Takes over θ, the variables of a flax policy."""
        super().__init__()
        import cvxpy as cp
        from cvxpylayers.torch import CvxpyLayer

        self.linear1 = nn.Linear(NUM_FEATURES, WIDTH, dtype=torch.float64)
        self.linear2 = nn.Linear(NUM_FEATURES, WIDTH, dtype=torch.float64)
        with torch.no_grad():
            for name in ("linear1", "linear2"):
                layer, values = getattr(self, name), theta["params"][name]
                layer.weight.copy_(torch.tensor(np.asarray(values["kernel"]).T))
                layer.bias.copy_(torch.tensor(np.asarray(values["bias"])))
        tau, u1, u2 = cp.Variable(1), cp.Parameter(WIDTH), cp.Parameter(WIDTH)
        bounds = [tau >= TAU_MIN, tau <= TAU_MAX]
        problem = cp.Problem(cp.Minimize(cp.sum_squares(u2 * tau - u1)), bounds)
        self.clip = CvxpyLayer(problem, parameters=[u1, u2], variables=[tau])

    def forward(self, d: Tensor, g: Tensor, s: Tensor, y: Tensor) -> Tensor:
        """The step size t, a scalar."""
        v = torch.stack([d, g, s, y])
        products = v @ v.T
        upper = torch.triu(torch.ones_like(products), diagonal=1)
        features = torch.log(torch.clamp(products * (1 - 2 * upper), min=LOG_FLOOR)).flatten()
        u1, u2 = self.linear1(features), self.linear2(features)
        norm = torch.linalg.vector_norm(u2)
        (tau,) = self.clip(u1 / norm, u2 / norm)
        return torch.exp(tau[0])


class Pair(NamedTuple):
    """A curvature pair; one with sᵀy <= 0 keeps its place, but is left out of the recursion."""

    s: Tensor
    y: Tensor
    s_y: Tensor


def two_loop(g: Tensor, window: Iterable[Pair], gamma: Tensor | float) -> Tensor:
    """D = -H g."""
    pairs = [pair for pair in window if pair.s_y > 0]
    q, alphas = g, []
    for pair in reversed(pairs):
        alphas.append((pair.s @ q) / pair.s_y)
        q = q - alphas[-1] * pair.y
    r = gamma * q
    for pair, alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + (alpha - (pair.y @ r) / pair.s_y) * pair.s
    return -r


def unroll(
    policy: TorchPolicy, evaluate: Evaluate, x: Tensor, *, num_steps: int, memory_size: int
) -> tuple[Tensor, Tensor]:
    """The loss Σ f(x_k) of `num_steps` steps from x with an empty memory, and x_K."""
    value, g = evaluate(x)
    s = y = torch.zeros_like(x)
    window: deque[Pair] = deque(maxlen=memory_size)
    gamma: Tensor | float = 1.0
    loss = torch.zeros((), dtype=x.dtype)
    for _ in range(num_steps):
        d = two_loop(g, window, gamma)
        x_new = x + policy(d, g, s, y) * d
        value, g_new = evaluate(x_new)
        # f(x) with its gradient as a constant: no second pass through the network.
        loss = loss + value + g_new @ (x_new - x_new.detach())
        s, y = x_new - x, g_new - g
        window.append(Pair(s, y, s @ y))
        gamma = torch.abs(window[-1].s_y) / (y @ y)
        x, g = x_new, g_new
    return loss, x.detach()


def outer_step(
    policy: TorchPolicy, optimizer: torch.optim.Optimizer, evaluate: Evaluate, x: Tensor,
    *, num_steps: int, memory_size: int,
) -> tuple[float, Tensor]:  # fmt: skip
    """Unrolls, backpropagates, moves θ; returns the loss and x_K."""
    optimizer.zero_grad()
    loss, x_end = unroll(policy, evaluate, x, num_steps=num_steps, memory_size=memory_size)
    loss.backward()
    optimizer.step()
    return loss.item(), x_end


def adadelta(policy: TorchPolicy) -> torch.optim.Optimizer:
    """The paper's optimizer of θ."""
    return torch.optim.Adadelta(policy.parameters(), lr=1.0, rho=0.9, eps=1e-6)


def theta_grad(policy: TorchPolicy) -> dict[str, dict[str, np.ndarray]]:
    """The θ-gradient of the last backward pass, in flax's layout."""
    return {
        name: {
            "kernel": getattr(policy, name).weight.grad.numpy().T,
            "bias": getattr(policy, name).bias.grad.numpy(),
        }
        for name in ("linear1", "linear2")
    }
