"""A task that knows how often it was traced."""

import jax
import jax.numpy as jnp


class CountedTask:
    """A separable quadratic; `traces` gets an entry whenever its loss is traced."""

    def __init__(self):
        self.traces = []

    def init(self, key):
        return jax.random.normal(key, (4,))

    def loss(self, params, data):
        self.traces.append(1)
        return jnp.sum(data * params**2)
