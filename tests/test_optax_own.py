"""The tests that optax runs on each of its optimizers, run on ours: its file, its assertions."""

import os
import re
import subprocess
import sys
import types
import unittest
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax._src import alias

import jax_lbfgs_pi as lp

OURS = "({'opt_name': 'lbfgs_pi', 'opt_kwargs': {}},)"
COMMON = (
    pytest.param("test_optimization", marks=pytest.mark.slow),  # 40,000 steps, one by one
    "test_optimizers_accept_extra_args",
    "test_optimizers_can_be_wrapped_in_inject_hyperparams",
    "test_preserve_dtype",
    "test_state_shape_dtype_shard_stability",
    "test_gradient_accumulation",
)


def source(name):
    path = Path(optax.__file__).parent / "_src" / f"{name}.py"
    if not path.is_file():
        pytest.skip(f"this version of optax does not bring its own {name}.py")
    return path.read_text()


def own_tests():
    """Optax's tests with our optimizer as the only one under test."""
    text, count = re.subn(
        r"_OPTIMIZERS_UNDER_TEST = \(.*?^\)", f"_OPTIMIZERS_UNDER_TEST = {OURS}",
        source("alias_test"), flags=re.DOTALL | re.MULTILINE,
    )  # fmt: skip
    assert count == 1
    module = types.ModuleType("optax_alias_test")
    sys.modules[module.__name__] = module  # absl names its cases after it
    exec(compile(text, "alias_test.py", "exec"), module.__dict__)
    return module.AliasTest


@pytest.fixture
def as_optax_runs_them(monkeypatch):
    """In single precision, with our optimizer among optax's."""
    monkeypatch.setattr(alias, "lbfgs_pi", lp.lbfgs_pi, raising=False)
    jax.config.update("jax_enable_x64", False)  # no context, which would win over optax's own
    with jax.numpy_rank_promotion("allow"):
        yield
    jax.config.update("jax_enable_x64", True)


@pytest.mark.parametrize("name", COMMON)
def test_of_an_optimizer(name, as_optax_runs_them):
    tests = own_tests()
    names = [n for n in unittest.TestLoader().getTestCaseNames(tests) if re.match(rf"{name}\d", n)]
    assert names
    passed = 0
    for case in map(tests, names):
        result = unittest.TestResult()
        case.run(result)
        problems = [text for _, text in result.errors + result.failures]
        if "complex" in case.shortDescription():  # an honest refusal
            assert all("is complex" in text for text in problems), problems
            continue
        assert not problems, problems[0]
        assert not result.skipped
        passed += result.testsRun
    assert passed


SHARDED = """
import re, sys, types, unittest
from pathlib import Path
import optax, jax_lbfgs_pi as lp
text = (Path(optax.__file__).parent / "_src" / "sharding_test.py").read_text()
ours = "OPTIMIZERS = __import__('ours').OPTIMIZERS"
sys.modules["ours"] = types.SimpleNamespace(OPTIMIZERS={"lbfgs_pi": lp.lbfgs_pi()})
text, count = re.subn(r"^OPTIMIZERS = \\{.*?^\\}", ours, text, flags=re.DOTALL | re.MULTILINE)
# Their tests of versions compare strings, by which 0.10 comes before 0.7.
text, gates = re.subn(r"jax.__version__ < '[0-9.]+'", "False", text)
assert count == 1 and gates >= 2
module = types.ModuleType("optax_sharding_test")
sys.modules[module.__name__] = module
exec(text, module.__dict__)
loader = unittest.TestLoader()
loader.testMethodPrefix = "test_state"
suite = unittest.TestSuite([loader.loadTestsFromModule(module)])
loader.testMethodPrefix = "test_init"
suite.addTests([loader.loadTestsFromModule(module)])
result = unittest.TextTestRunner().run(suite)
sys.exit(not (result.wasSuccessful() and result.testsRun == 3 and not result.skipped))
"""


@pytest.mark.slow
def test_of_sharding():
    """Over eight devices, which are made before JAX starts: in a process of its own."""
    source("sharding_test")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", SHARDED],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_init_of_what_has_only_shapes_and_dtypes():
    """As optax's sharding tests ask: zeros of that shape."""
    shapes = {
        "a": jax.ShapeDtypeStruct((2, 4), "float32"),
        "b": jax.ShapeDtypeStruct((), "float16"),
    }
    state = lp.lbfgs_pi().init(shapes)
    like = lp.lbfgs_pi().init(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))
    jax.tree.map(np.testing.assert_array_equal, state, like)
    assert jax.tree.map(lambda x: x.dtype, state) == jax.tree.map(lambda x: x.dtype, like)
