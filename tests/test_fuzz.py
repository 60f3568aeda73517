"""Damaged files: a clear error, or what was written; never a crash, nor something else."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.bench import Record, RecordFolder
from jax_lbfgs_pi.evaluation import race
from jax_lbfgs_pi.pretrained import file_format
from jax_lbfgs_pi.tasks import quadratic_tasks
from jax_lbfgs_pi.training.evolution_config import EvolutionConfig
from jax_lbfgs_pi.training.evolution_run import LOG, STATE, evolve_in
from jax_lbfgs_pi.training.log import read_log

# Of damaged checkpoints orbax leaves coroutines, which are collected whenever that may be.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

FEW, MANY = 60, 10_000
COUNTS = [FEW, pytest.param(MANY, marks=pytest.mark.slow)]
ERRORS = (ValueError,)


def mutated(rng, data):
    """Bytes that are not `data`: bits turned, pieces cut, doubled, moved, or put in."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        i, j = sorted(rng.integers(0, len(out) + 1, size=2)) if out else (0, 0)
        j = min(j, i + int(rng.integers(1, 200)))
        kind = rng.integers(6)
        if kind == 0 and out:
            out[min(i, len(out) - 1)] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del out[i:]
        elif kind == 2:
            del out[i:j]
        elif kind == 3:
            out[i:i] = out[i:j]
        elif kind == 4:
            out[i:i] = rng.bytes(int(rng.integers(1, 40)))
        else:
            out[i:j] = bytes(j - i)
    return bytes(out)


def each_damaged(path, count, read, same, errors=ERRORS):
    """Reads `count` damaged versions of a file; returns how many were refused, and how many read.

    What is read must be the `same` as what was written.
    """
    rng, data, refused, right = np.random.default_rng(0), path.read_bytes(), 0, 0
    for _ in range(count):
        path.write_bytes(mutated(rng, data))
        try:
            found = read()
        except errors as error:
            assert str(error).endswith("."), error  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            refused += 1
            continue
        assert same(found)
        right += 1
    path.write_bytes(data)
    assert same(read())
    assert refused + right == count
    return refused, right


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["general", "paper-mnist"])
def test_policies(tmp_path, name, count):
    policy = lp.load_policy(name)
    path = lp.save_policy(policy, tmp_path / "p")
    refused, _ = each_damaged(path, count, lambda: lp.load_policy(path), lambda p: p == policy)
    assert refused > 0.8 * count


@pytest.mark.parametrize("count", COUNTS)
def test_policies_whose_checksum_is_right(tmp_path, count):
    """Made on purpose: attributes and weights of no policy, with the checksum that they ask for."""
    rng, refused = np.random.default_rng(1), 0
    for i in range(count):
        name = ["general", "paper-mnist", "rule"][i % 3]
        source = lp.save_policy(lp.load_policy(name), tmp_path / f"{name}-{i % 3}")
        tensors = load_file(source)
        if tensors and rng.random() < 0.5:
            key = list(tensors)[rng.integers(len(tensors))]
            what = rng.integers(3)
            if what == 0:
                tensors.pop(key)
            elif what == 1:
                tensors["__class__" if rng.random() < 0.2 else f"{key}/x"] = np.zeros(3)
            else:
                tensors[key] = np.zeros(rng.integers(0, 9, size=rng.integers(0, 4)))
        network = file_format._contents(lp.load_policy(name))[1]
        text = mutated(rng, network.encode()).decode(errors="replace") if i % 2 else network
        header = {
            "format": file_format._FORMAT, "network": text,
            "sha256": file_format._digest(tensors, text),
        }  # fmt: skip
        path = tmp_path / "made.safetensors"
        path.write_bytes(save(tensors, {"policy": json.dumps(header)}))
        try:
            found = lp.load_policy(path)
        except lp.PolicyFileError as error:
            assert str(error).endswith(".")  # noqa: PT017
            refused += 1
            continue
        assert isinstance(found, lp.Policy | lp.General | lp.Rule)
        assert lp.lbfgs_pi(found).init(np.ones(2)) is not None
    assert refused > 0.2 * count


@pytest.mark.parametrize("count", COUNTS)
def test_records_of_the_benchmark(tmp_path, count):
    folder = RecordFolder(tmp_path, {"budget": 5})
    values = np.array([3.0, 2.0, 1.5])
    record = Record(np.arange(1, 4), values, 2 * values, 1, 0.5, 0.1)
    folder.save("bowl-1", "ADAM", "x", record)
    path = next(tmp_path.rglob("*.npz"))

    def same(found):  # None: it is made anew
        return found is None or (
            np.array_equal(found.value, values) and np.array_equal(found.num_evals, [1, 2, 3])
        )

    each_damaged(path, count, lambda: folder.load("bowl-1", "ADAM", "x"), same)


@pytest.mark.parametrize("count", COUNTS)
def test_records_of_a_race(tmp_path, count):
    from jax_lbfgs_pi.baselines import baselines

    task, names = quadratic_tasks(1, dim=3), ["ADAM"]
    (runs,) = race(task, [baselines()["ADAM"]], max_iters=4, out=tmp_path)
    path = tmp_path / "task-0000.npz"

    def same(found):
        return found is None or np.array_equal(found["ADAM"].value, runs["ADAM"].value)

    from jax_lbfgs_pi.evaluation.race import _load

    each_damaged(path, count, lambda: _load(path, names), same)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder of a training by backpropagation."""
    folder = tmp_path_factory.mktemp("trained")
    config = lp.get_preset("fast", num_epochs=2, unroll_length=3, unrolls_per_start=1)
    lp.meta_train(quadratic_tasks(2, dim=3), config, checkpoint_dir=folder, checkpoint_every=1)
    return folder, config


@pytest.mark.parametrize("count", COUNTS)
def test_logs(trained, tmp_path, count):
    """Lines up to the first that is damaged; numbers in a whole line nobody can check."""
    folder, _ = trained
    shutil.copy(folder / "log.jsonl", tmp_path)
    records = read_log(tmp_path).records
    each_damaged(
        tmp_path / "log.jsonl",
        count,
        lambda: read_log(tmp_path),
        lambda log: all(type(r) is type(records[0]) for r in log.records),
    )


@pytest.mark.slow
@pytest.mark.parametrize("count", [1_000])
def test_checkpoints(trained, tmp_path, count):
    """Any file of the latest checkpoint."""
    source, config = trained
    rng, refused = np.random.default_rng(0), 0
    tasks = quadratic_tasks(2, dim=3)
    expected, _ = lp.meta_train(tasks, config, checkpoint_dir=source)
    files = [
        path.relative_to(source)
        for path in sorted(source.rglob("*"))
        if path.is_file() and path.parent.name != ".locks" and path.stat().st_size
    ]
    for _ in range(count):
        folder = tmp_path / "run"
        shutil.copytree(source, folder, dirs_exist_ok=True)
        path = folder / files[rng.integers(len(files))]
        path.write_bytes(mutated(rng, path.read_bytes()))
        try:
            policy, _ = lp.meta_train(tasks, config, checkpoint_dir=folder)
            for a, b in zip(jax.tree.leaves(policy), jax.tree.leaves(expected), strict=True):
                np.testing.assert_array_equal(a, b)
        except ValueError as error:
            assert str(error).endswith(".")  # noqa: PT017
            refused += 1
        shutil.rmtree(folder)
    assert refused > 0


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", [STATE, LOG])
def test_states_of_an_evolution(tmp_path, name, count):
    config = EvolutionConfig(
        generations=1, families_per_generation=1, tasks_per_family=1, num_pairs=1, num_evals=3,
        memory_sizes=(2,),
    )  # fmt: skip
    evolve_in(tmp_path, config)
    policy, log = evolve_in(tmp_path, config)

    def same(found):
        leaves = zip(jax.tree.leaves(found[0]), jax.tree.leaves(policy), strict=True)
        return all(np.array_equal(a, b) for a, b in leaves) and len(found[1]) == len(log)

    each_damaged(tmp_path / name, count, lambda: evolve_in(tmp_path, config), same)
