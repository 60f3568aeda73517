"""Families of 110 to 390 variables, which the suite has few of, and of some 1,000 and 3,000."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.drawn import Family


def _completion(rng: np.random.Generator, rows: int = 30, columns: int = 25) -> Any:
    rank = 3
    truth = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))
    seen = (rng.uniform(size=truth.shape) < 0.5).astype(float)
    start = 0.3 * rng.normal(size=(rows + columns, rank))
    return start, (truth + 0.1 * rng.normal(size=truth.shape), seen)


def completion(p: Any, d: Any) -> jax.Array:
    """A matrix of rank 3 from half its entries; 165 variables, or more."""
    target, seen = d
    rows = len(target)
    return jnp.sum(seen * (p[:rows] @ p[rows:].T - target) ** 2) + 0.05 * jnp.sum(p**2)


def _counts(rng: np.random.Generator, rows: int = 30, columns: int = 20) -> Any:
    rates = rng.gamma(1.0, size=(rows, 4)) @ rng.gamma(1.0, size=(4, columns))
    return rng.normal(size=(rows + columns, 4)), rng.poisson(rates).astype(float)


def counts(p: Any, d: Any) -> jax.Array:
    """Poisson counts as a product of positive matrices, by logarithms; 200 variables, or more."""
    rows = len(d)
    rates = jnp.exp(p[:rows]) @ jnp.exp(p[rows:]).T
    return jnp.sum(rates - d * jnp.log(rates))


def _bundle(rng: np.random.Generator, cameras: int = 6, points: int = 30) -> Any:
    turns = 0.2 * rng.normal(size=(cameras, 3))
    places = np.array([0.0, 0.0, 6.0]) + 0.5 * rng.normal(size=(cameras, 3))
    truth = np.concatenate([turns.ravel(), places.ravel(), rng.normal(size=3 * points)])
    images = np.asarray(_images(jnp.asarray(truth), cameras))
    start = truth + 0.1 * rng.normal(size=truth.size)
    return start, images + 0.002 * rng.normal(size=images.shape)


def _images(p: Any, cameras: int) -> jax.Array:
    turns, places = p[: 6 * cameras].reshape(2, cameras, 3)
    points = p[6 * cameras :].reshape(-1, 3)

    def turn(w: Any) -> Any:  # Rodrigues' formula
        angle = jnp.sqrt(w @ w + 1e-12)
        cross = jnp.cross(w, points)
        return (
            points
            + jnp.sin(angle) / angle * cross
            + (1 - jnp.cos(angle)) / angle**2 * jnp.cross(w, cross)
        )

    seen = jax.vmap(turn)(turns) + places[:, None]
    return seen[..., :2] / seen[..., 2:]


def bundle(p: Any, d: Any) -> jax.Array:
    """Cameras and points from their images; 126 variables, or more."""
    return 1e3 * jnp.sum((_images(p, len(d)) - d) ** 2)


def _net(rng: np.random.Generator, side: int = 9) -> Any:
    line = np.arange(float(side))
    flat = np.stack([*np.meshgrid(line, line), np.zeros((side, side))], -1)
    inner = flat[1:-1]
    return inner + 0.1 * rng.normal(size=inner.shape), (flat, rng.uniform(0.8, 1.1))


def net(p: Any, d: Any) -> jax.Array:
    """A net of springs that hangs between two rails; 189 variables, or more."""
    flat, rest = d
    x = jnp.concatenate([flat[:1], p, flat[-1:]])
    stretch = [jnp.diff(x, axis=0), jnp.diff(x, axis=1)]
    lengths = [jnp.sqrt(jnp.sum(e**2, -1) + 1e-12) for e in stretch]
    return 25.0 * sum(jnp.sum((e - rest) ** 2) for e in lengths) + 0.2 * jnp.sum(p[..., 2])


def _beam(rng: np.random.Generator) -> Any:
    flat = np.stack(np.meshgrid(np.arange(13.0) / 2, np.arange(5.0) / 2, indexing="ij"), -1)
    return flat[1:] + 0.02 * rng.normal(size=(12, 5, 2)), (flat, 10.0 ** rng.uniform(-3, -1.5))


def beam(p: Any, d: Any) -> jax.Array:
    """A beam of neo-Hookean rubber, in triangles, with a load at its end; 120 variables."""
    flat, load = d
    x = jnp.concatenate([flat[:1], p])

    along = (x[1:] - x[:-1]) / 0.5
    up = (x[:, 1:] - x[:, :-1]) / 0.5
    total = 0.0
    for a, b in ((along[:, :-1], up[:-1]), (along[:, 1:], up[1:])):
        det = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
        log = jnp.log(det)
        squares = jnp.sum(a**2 + b**2, -1)
        total += 0.125 * jnp.sum(0.5 * (squares - 2) - log + 10.0 * log**2)
    return total + load * x[-1, -1, 1]


def _topics(rng: np.random.Generator, documents: int = 30, num_words: int = 50) -> Any:
    shares = rng.dirichlet(np.full(4, 0.3), size=documents)
    words = rng.dirichlet(np.full(num_words, 0.2), size=4)
    return 0.5 * rng.normal(size=(documents + num_words, 4)), np.array(
        [rng.multinomial(150, s @ words) for s in shares]
    ).astype(float)


def topics(p: Any, d: Any) -> jax.Array:
    """Probabilistic latent semantic analysis; 320 variables, or more."""
    documents = len(d)
    shares = jax.nn.softmax(p[:documents], 1)
    words = jax.nn.softmax(p[documents:], 0)
    return -jnp.sum(d * jnp.log(shares @ words.T + 1e-12)) + 0.01 * jnp.sum(p**2)


def _regression(rng: np.random.Generator, n: int = 150) -> Any:
    inputs = rng.normal(size=(2 * n, n)) * np.exp(rng.normal(size=n))
    labels = np.sign(inputs @ rng.normal(size=n) + rng.normal(size=2 * n))
    return np.zeros(n), (inputs, labels)


def regression(p: Any, d: Any) -> jax.Array:
    """Logistic, of features of different sizes; 150 variables, or more."""
    inputs, labels = d
    return jnp.mean(jax.nn.softplus(-labels * (inputs @ p))) + 1e-3 * p @ p


def _network(rng: np.random.Generator, width: int = 12) -> Any:
    inputs = rng.uniform(-1, 1, size=(200, 2))
    a, b = rng.uniform(1, 3, 2)
    targets = np.sin(a * inputs[:, 0]) * np.cos(b * inputs[:, 1])
    shapes = ((2, width), (width, width), (width, 1))
    start = [(rng.normal(size=s) / np.sqrt(s[0]), np.zeros(s[1])) for s in shapes]
    return start, (inputs, targets)


def network(p: Any, d: Any) -> jax.Array:
    """A network of two hidden layers on a smooth function; 205 variables, or more."""
    inputs, targets = d
    (v, a), (w, b), (u, c) = p
    hidden = jnp.tanh(jnp.tanh(inputs @ v + a) @ w + b)
    return jnp.mean(((hidden @ u + c)[:, 0] - targets) ** 2)


def _control(rng: np.random.Generator) -> Any:
    return 0.1 * rng.normal(size=150), rng.uniform(-0.5, 0.5, 4) + np.array([0, 0, np.pi, 0])


def control(u: Any, start: Any) -> jax.Array:
    """A cart that swings up a pole, by its forces; 150 variables."""
    dt = 0.02

    def turn(state: Any, force: Any) -> Any:
        x, v, angle, w = state
        sin, cos = jnp.sin(angle), jnp.cos(angle)
        push = (10.0 * force + 0.05 * w * w * sin) / 1.1
        spin = (9.8 * sin - cos * push) / (0.5 * (4 / 3 - 0.1 * cos * cos / 1.1))
        pull = push - 0.05 * spin * cos / 1.1
        state = jnp.stack([x + dt * v, v + dt * pull, angle + dt * w, w + dt * spin])
        return state, 1 - jnp.cos(state[2]) + 0.05 * state[0] ** 2 + 0.01 * force**2

    end, costs = jax.lax.scan(turn, start, u)
    return dt * jnp.sum(costs) + 1 - jnp.cos(end[2]) + 0.1 * (end[1] ** 2 + end[3] ** 2)


FAMILIES = (
    Family("completion", _completion, completion),
    Family("counts", _counts, counts),
    Family("bundle", _bundle, bundle),
    Family("net", _net, net),
    Family("beam", _beam, beam),
    Family("topics", _topics, topics),
    Family("regression", _regression, regression),
    Family("network", _network, network),
    Family("control", _control, control),
)
LARGER = (
    Family("completion 390", partial(_completion, rows=70, columns=60), completion),
    Family("network 375", partial(_network, width=17), network),
)
LARGE = (
    Family("completion 750", partial(_completion, rows=130, columns=120), completion),
    Family("counts 800", partial(_counts, rows=120, columns=80), counts),
    Family("bundle 972", partial(_bundle, cameras=12, points=300), bundle),
    Family("net 1,080", partial(_net, side=20), net),
    Family("topics 800", partial(_topics, documents=80, num_words=120), topics),
    Family("regression 600", partial(_regression, n=600), regression),
    Family("network 925", partial(_network, width=28), network),
    Family("completion 3,000", partial(_completion, rows=520, columns=480), completion),
    Family("counts 3,200", partial(_counts, rows=480, columns=320), counts),
    Family("bundle 3,120", partial(_bundle, cameras=20, points=1000), bundle),
    Family("net 2,850", partial(_net, side=32), net),
    Family("topics 3,200", partial(_topics, documents=300, num_words=500), topics),
    Family("regression 1,500", partial(_regression, n=1500), regression),
    Family("network 3,133", partial(_network, width=53), network),
)
