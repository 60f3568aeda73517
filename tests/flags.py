"""XLA's flags under test."""

import os
import subprocess
import sys

# The programs of tests compile for longer than they run: so no optimization on a CPU, and what one
# test or worker has compiled serves the others.
QUICK = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_multi_thread_eigen=false"
)


def quick_flags() -> str:
    """XLA's flags with those above, unless it knows them no more, at which it would abort."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()
    probe = [sys.executable, "-c", "import jax; jax.devices()"]
    known = subprocess.run(probe, env={**os.environ, "XLA_FLAGS": flags}, capture_output=True)
    return flags if known.returncode == 0 else os.environ.get("XLA_FLAGS", "")
