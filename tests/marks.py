"""Which parameters of a test wait for `make test-slow`."""

import pytest


def some_of(values, quick):
    """All values, of which those at the places `quick` are tested at once, the others later.

    For grids of which each row costs seconds of compilation, and a few show each kind of fault.
    """
    return [
        value if i in quick else pytest.param(*_as_tuple(value), marks=pytest.mark.slow)
        for i, value in enumerate(values)
    ]


def _as_tuple(value):
    return value if isinstance(value, tuple) else (value,)
