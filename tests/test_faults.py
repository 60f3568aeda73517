"""Killed at any moment, or out of disk at any write: each command goes on, and loses nothing."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="faults are made as Linux makes them"),
]

MAIN = "from jax_lbfgs_pi.cli import command; command()"
COMMANDS = {
    "train": "train --dataset quadratic --tasks 3 --epochs 4",
    "train-general": "train --preset general --generations 3 --families quadratic-10",
    "race": "race --dataset quadratic --tasks 5 --max-iters 30 --against ADAM L-BFGS-BTLS",
    "reproduce": "reproduce convex --tasks 1",
    "bench": "bench --kinds rosenbrock,bard,sphere --problems 1 --budget 40 "
    "--against ADAM optax.lbfgs --memory 5",
}
SHARE = 100 // len(COMMANDS)
"""Of the faults of one sort, a hundred in all."""


def start(words, out, cache, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", MAIN, *words.split(), "--out", str(out)],
        env={
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*args, **environment):
    """Runs a command to its end; its exit status and what it said."""
    process = start(*args, **environment)
    out, err = process.communicate()
    return process.returncode, out, err


def timeless(value):
    """JSON without what differs from run to run: seconds, and the commit."""
    if isinstance(value, dict):
        timed = ("seconds", "ms_per_eval", "provenance")
        return {k: timeless(v) for k, v in value.items() if not any(word in k for word in timed)}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def facts(folder):
    """What a command has found out: every number in every file but times, by the file's path."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or "checkpoints" in name or path.name.startswith("."):
            continue
        if path.suffix == ".npz":
            with np.load(path) as file:
                found[name] = {key: file[key] for key in file.files if "seconds" not in key}
        elif path.suffix in (".json", ".jsonl", ".gz") and ".csv" not in name:
            data = path.read_bytes()
            lines = gzip.decompress(data) if path.suffix == ".gz" else data
            lines = lines.replace(str(folder).encode(), b"OUT")
            rows = lines.splitlines() if "jsonl" in name else [lines]
            found[name] = [timeless(json.loads(row)) for row in rows]
        elif path.suffix == ".safetensors":
            found[name] = path.read_bytes()
    return found


@pytest.fixture(scope="module", params=COMMANDS)
def whole(request, tmp_path_factory):
    """A command, the facts of a run that nothing disturbs, its time, and a compilation cache."""
    folder = tmp_path_factory.mktemp("whole")
    words, cache = COMMANDS[request.param], folder / "cache"
    for out in ("first", "second"):  # which finds all compiled
        began = time.monotonic()
        status, _, err = finish(words, folder / out, cache)
        assert status == 0, err[-3000:]
    seconds = time.monotonic() - began
    expected = facts(folder / "second")
    assert len(expected) > 1
    np.testing.assert_equal(facts(folder / "first"), expected)
    return words, expected, seconds, cache


def test_killed_at_any_moment(whole, tmp_path):
    """SIGKILL, which no handler sees, again and again until the command gets to its end."""
    words, expected, seconds, cache = whole
    seed = int(np.random.default_rng().integers(2**32))
    print(f"seed {seed}")
    rng, killed, ended = np.random.default_rng(seed), 0, 0
    while killed < SHARE:
        process = start(words, tmp_path / "out", cache)
        try:
            _, err = process.communicate(timeout=float(rng.uniform(0.2, 1.1)) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
            continue
        assert process.returncode == 0, f"seed {seed}: {err[-3000:]}"
        np.testing.assert_equal(facts(tmp_path / "out"), expected, err_msg=f"seed {seed}")
        shutil.rmtree(tmp_path / "out")
        ended += 1
    status, _, err = finish(words, tmp_path / "out", cache)
    assert status == 0, f"seed {seed}: {err[-3000:]}"
    np.testing.assert_equal(facts(tmp_path / "out"), expected, err_msg=f"seed {seed}")
    print(f"killed {killed} times, ended {ended + 1} times")


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory):
    """A library which, preloaded, fills the disk at the n-th write into a folder."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("a full disk is made by a small C library, and there is no compiler")
    library = tmp_path_factory.mktemp("full") / "full_disk.so"
    source = Path(__file__).with_name("full_disk.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


def test_full_at_any_write(whole, full_disk, tmp_path):
    """One sentence that says so; and with room again, the command goes on and loses nothing."""
    words, expected, _, cache = whole
    folder, count = tmp_path / "out", tmp_path / "count"
    settings = {"LD_PRELOAD": str(full_disk), "FULL_FOLDER": str(folder)}
    status, _, err = finish(
        words, folder, cache, **settings, FULL_AFTER="1000000000", FULL_COUNT=str(count)
    )
    assert status == 0, err[-3000:]
    writes = int(count.read_text())
    assert writes > 3
    shutil.rmtree(folder)
    seed = int(np.random.default_rng().integers(2**32))
    print(f"seed {seed}, {writes} writes")
    rng, filled = np.random.default_rng(seed), 0
    while filled < SHARE:
        after = int(rng.integers(1, writes + 1))
        status, _, err = finish(words, folder, cache, **settings, FULL_AFTER=str(after))
        where = f"seed {seed}, write {after}: {err[-3000:]}"
        if status != 0:
            assert status == 2, where
            assert "Traceback" not in err, where
            assert "No space left on device" in err, where
            filled += 1
            if filled % 5:
                continue  # and fill it once more where it stands
            status, _, err = finish(words, folder, cache)
        assert status == 0, where
        np.testing.assert_equal(facts(folder), expected, err_msg=where)
        shutil.rmtree(folder)
