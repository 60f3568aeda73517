"""What `import jax_lbfgs_pi` does, and leaves to be done later."""

import subprocess
import sys

import pytest

import jax_lbfgs_pi as lp


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_it_starts_no_backend_and_draws_no_figures():
    """A backend that runs can no longer be told how many devices, or processes, there are."""
    code = (
        "import sys, jax, jax_lbfgs_pi as lp; jax.config.update('jax_num_cpu_devices', 3); "
        "print(jax.device_count(), *{'matplotlib', 'sklearn', 'orbax'} & set(sys.modules)); "
        "lp.race; print('matplotlib' in sys.modules)"
    )
    assert run(code).stdout.splitlines() == ["3", "True"]


def test_all_names_are_there():
    for name in lp.__all__:
        assert getattr(lp, name) is not None
    assert set(lp.__all__) <= set(dir(lp))
    assert callable(lp.bounds.positive)
    with pytest.raises(AttributeError, match="'jax_lbfgs_pi' has no attribute 'nonsense'"):
        _ = lp.nonsense
