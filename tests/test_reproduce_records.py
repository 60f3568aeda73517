import gzip
import json
import math

import numpy as np
import pytest

import jax_lbfgs_pi as lp
from jax_lbfgs_pi.reproduce import records as module
from jax_lbfgs_pi.reproduce.grids import GRIDS
from jax_lbfgs_pi.reproduce.races import RACES
from jax_lbfgs_pi.reproduce.records import Records, RunFolder, hit, row_of
from jax_lbfgs_pi.reproduce.row_tables import read_table, write_table
from tests.hand_made import PI, TARGETS, make_row, make_run, plain_row, random_run

# --- rows -----------------------------------------------------------------------------------------

RUNS = {
    "all targets at once": make_run([4.0, 1e-4], norms=[1.0, 1e-9], evals=[1, 7]),
    "no target": make_run([4.0, 3.0, 2.5], norms=[1.0, 0.5, 0.1]),
    "at a level is not below it": make_run([4.0, 2.0, 1.0], norms=[1.0, 1e-3, 1e-4]),
    "f rises again": make_run([4.0, 0.5, 3.0], norms=[1.0, 1e-6, 1.0]),
    "at once": make_run([0.05], norms=[1e-4]),
    "to infinity": make_run([4.0, 0.9, 1e200, np.inf], norms=[1.0, 1.0, 1e200, np.inf]),
    "to NaN": make_run([4.0, 1.9, np.nan], norms=[1.0, 1.0, np.nan], status=3),
    "nowhere a number": make_run([np.nan, np.inf], norms=[np.nan, np.inf], status=3),
    "NaN on the way": make_run([4.0, np.nan, 0.5], norms=[1.0, np.nan, 1e-6]),
    "plateau": make_run([4.0, 2.3, 2.3], norms=[1.0, 1e-4, 9e-6]),
    "plateau that is left again": make_run([4.0, 2.3, 1e-3], norms=[1.0, 1e-9, 1e-9]),
    "below the plateau": make_run([4.0, 2.1, 2.3], norms=[1.0, 1e-6, 1e-9]),
    "at the plateau": make_run([4.0, 2.2], norms=[1.0, 1e-6]),
    "flat at 1e-5": make_run([4.0, 2.3], norms=[1.0, 1e-5]),
} | {f"random {i}": random_run(i) for i in range(20)}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("plateau_value", [2.2, math.inf])
def test_rows_are_those_of_plain_loops(run, plateau_value):
    row = row_of(run, 7, "ADAM, tuned", plateau_value=plateau_value)
    expected = plain_row(run, 7, "ADAM, tuned", plateau_value)
    assert list(row) == list(expected)
    np.testing.assert_equal(row, expected)
    for name in ("task", "status", "iterations", "num_evals", "plateau"):
        assert type(row[name]) is int


def test_plateaus_are_marked():
    def marked(plateau_value):
        rows = {n: row_of(run, 0, PI, plateau_value=plateau_value) for n, run in RUNS.items()}
        return {name for name, row in rows.items() if row["plateau"]}

    assert marked(2.2) == {"plateau", "plateau that is left again"}
    assert marked(math.inf) == set()


def test_all_targets_of_the_paper_are_kept():
    """SPEC §7: Table 1's levels, and criteria on f."""
    from jax_lbfgs_pi.evaluation import Target

    row = row_of(RUNS["no target"], 0, PI, plateau_value=2.2)
    for level in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8):
        for cost in ("iterations", "num_evals", "seconds"):
            assert row[hit(Target("grad_norm", level), cost)] == math.inf
    assert hit(Target("grad_norm", 1e-5), "num_evals") == "num_evals to ‖g‖<1e-5"
    assert hit(Target("value", 2.0), "seconds") in row


# --- folders --------------------------------------------------------------------------------------


def save(folder, task, optimizer, run=None, *, curve=True):
    """Saves a run, by default a random one; returns its row."""
    run = random_run(task, optimizer) if run is None else run
    row = row_of(run, task, optimizer, plateau_value=2.2)
    folder.save(run, row, curve=curve)
    return row


def seven_digits(row):
    return {k: float(f"{v:.7g}") if isinstance(v, float) else v for k, v in row.items()}


def assert_curve(curve, run):
    assert set(curve) == {"value", "seconds", "step_size"}
    for name, array in curve.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, getattr(run, name).astype(np.float32))


@pytest.fixture
def filled(tmp_path):
    """A folder of three tasks and two optimizers; the first task has curves."""
    folder = RunFolder(tmp_path / "race")
    rows = [
        save(folder, task, name, curve=task == 0) for task in (2, 0, 1) for name in (PI, "ADAM")
    ]
    return folder, sorted(rows, key=lambda row: (row["task"], row["optimizer"]))


def files_of(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("packed", ["all", "half", "none"])
def test_what_is_dropped_is_gone_and_nothing_else(filled, packed):
    folder, _ = filled
    if packed != "none":
        folder.pack()
    if packed == "half":
        save(folder, 1, PI, curve=True)
    folder.drop(PI)
    for there in (folder, RunFolder(folder.folder)):
        assert [row["optimizer"] for row in there.rows()] == ["ADAM"] * 3
        assert not any(there.has(task, PI) for task in range(3))
        assert there.curve(0, PI) is None
        assert there.curve(1, PI) is None
        assert there.curve(0, "ADAM") is not None
    folder.drop("ADAM")
    assert folder.rows() == RunFolder(folder.folder).rows() == []


def test_reading_an_absent_folder_makes_nothing(tmp_path):
    folder = RunFolder(tmp_path / "race")
    assert folder.rows() == []
    assert not folder.has(0, PI)
    assert folder.curve(0, PI) is None
    folder.pack()
    assert list(tmp_path.iterdir()) == []


def test_rows_and_curves_come_back(filled):
    folder, expected = filled
    for f in (folder, RunFolder(folder.folder)):
        assert f.rows() == expected  # JSON keeps every digit
        assert [f.has(t, name) for t in (0, 1, 2) for name in (PI, "ADAM")] == [True] * 6
        assert not f.has(3, PI)
        assert not f.has(0, "RMSProp")
        assert_curve(f.curve(0, PI), random_run(0, PI))
        assert_curve(f.curve(0, "ADAM"), random_run(0, "ADAM"))
        assert f.curve(1, PI) is None
        assert f.curve(0, "RMSProp") is None


def test_rows_of_runs_that_diverged_come_back(tmp_path):
    folder = RunFolder(tmp_path)
    names = ["to infinity", "to NaN", "nowhere a number", "no target"]
    rows = [save(folder, i, PI, RUNS[name], curve=False) for i, name in enumerate(names)]
    np.testing.assert_equal(folder.rows(), rows)
    folder.pack()
    np.testing.assert_equal(RunFolder(tmp_path).rows(), [seven_digits(row) for row in rows])


@pytest.mark.parametrize("name", ["to infinity", "to NaN"])
def test_curves_of_runs_that_diverged_are_kept(tmp_path, name):
    """1e200 is beyond float32: infinity, without a word on the user's terminal."""
    folder = RunFolder(tmp_path)
    save(folder, 0, PI, RUNS[name])
    with np.errstate(over="ignore"):
        assert_curve(folder.curve(0, PI), RUNS[name])


def test_every_optimizer_of_the_reproduction_has_its_own_place(tmp_path):
    names = {n for race in RACES.values() for n in (*race.policies, *race.against, *race.beside)}
    names |= {name for grid in GRIDS.values() for name in grid}
    folder = RunFolder(tmp_path)
    rows = [save(folder, 0, name) for name in sorted(names)]
    assert folder.rows() == rows
    for name in names:
        assert_curve(folder.curve(0, name), random_run(0, name))


@pytest.mark.parametrize(
    "content", ["", "{", '{"task": 1', '{"task": 2}', "null", "[]", "3", '"task"', "{}"]
)
def test_a_torn_row_is_not_there(filled, content):
    folder, rows = filled
    path = folder.folder / "ADAM" / "0001.json"
    assert json.loads(path.read_text())["task"] == 1
    path.write_text(content)
    assert not folder.has(1, "ADAM")
    assert folder.has(1, PI)
    expected = save(folder, 1, "ADAM")  # and is written again
    assert folder.has(1, "ADAM")
    assert folder.rows() == rows
    assert expected in rows


def test_no_part_of_a_row_is_there(filled):
    folder, _ = filled
    path = folder.folder / "ADAM" / "0001.json"
    text = path.read_text()
    for length in range(0, len(text), 9):
        path.write_text(text[:length])
        assert not folder.has(1, "ADAM")


@pytest.mark.parametrize("content", ["", '{"task": 1', "{}"])
def test_a_torn_row_does_not_hide_the_others(filled, content):
    """`rows` must agree with `has`: what is not there whole is not there."""
    folder, rows = filled
    (folder.folder / "ADAM" / "0001.json").write_text(content)
    expected = [row for row in rows if (row["task"], row["optimizer"]) != (1, "ADAM")]
    assert folder.rows() == expected


def test_a_run_that_is_saved_again_replaces_the_first(filled):
    folder, rows = filled
    run = make_run([4.0, 1e-3], norms=[1.0, 1e-9])
    row = save(folder, 1, PI, run)
    assert len(folder.rows()) == len(rows)
    assert row in folder.rows()
    assert_curve(folder.curve(1, PI), run)


# --- packed folders -------------------------------------------------------------------------------


def test_pack_keeps_rows_and_curves_in_two_files(filled):
    folder, rows = filled
    (folder.folder / "race.json").write_text("{}")
    folder.pack()
    assert files_of(folder.folder) == ["curves.npz", "race.json", "runs.csv.gz"]
    assert [p.name for p in folder.folder.iterdir() if p.is_dir()] == []
    assert RunFolder(folder.folder).rows() == [seven_digits(row) for row in rows]
    for f in (folder, RunFolder(folder.folder)):
        for packed, row in zip(f.rows(), rows, strict=True):
            assert list(packed) == list(row)
            for name, value in row.items():
                if isinstance(value, float):
                    np.testing.assert_allclose(packed[name], value, rtol=5e-7)
                else:
                    assert (packed[name], type(packed[name])) == (value, type(value))
        assert all(f.has(t, name) for t in range(3) for name in (PI, "ADAM"))
        assert not f.has(3, PI)
        assert not f.has(0, "RMSProp")
        for name in (PI, "ADAM"):
            assert_curve(f.curve(0, name), random_run(0, name))
        assert f.curve(1, PI) is None
        assert f.curve(0, "RMSProp") is None


def test_packing_twice_changes_nothing(filled):
    folder, _ = filled
    folder.pack()
    before = {name: (folder.folder / name).read_bytes() for name in files_of(folder.folder)}
    rows = RunFolder(folder.folder).rows()
    folder.pack()
    RunFolder(folder.folder).pack()
    assert RunFolder(folder.folder).rows() == rows
    assert {n: (folder.folder / n).read_bytes() for n in files_of(folder.folder)} == before


def test_the_same_records_are_packed_into_the_same_bytes(tmp_path):
    tables = []
    for name, tasks in (("a", (0, 1, 2)), ("b", (2, 0, 1))):
        folder = RunFolder(tmp_path / name)
        for task in tasks:
            save(folder, task, "ADAM")
            save(folder, task, PI)
        folder.pack()
        tables.append((tmp_path / name / "runs.csv.gz").read_bytes())
    assert tables[0] == tables[1]


def test_without_curves_no_file_of_curves(tmp_path):
    folder = RunFolder(tmp_path)
    save(folder, 0, PI, curve=False)
    folder.pack()
    assert files_of(tmp_path) == ["runs.csv.gz"]
    assert folder.curve(0, PI) is None


def test_loose_rows_beside_packed_ones_win(filled):
    folder, rows = filled
    folder.pack()
    folder = RunFolder(folder.folder)
    run = make_run([4.0, 1e-3], norms=[1.0, 1e-9])
    new = [save(folder, 0, PI, run), save(folder, 3, PI), save(folder, 1, "RMSProp")]
    expected = {(row["task"], row["optimizer"]): row for row in map(seven_digits, rows)}
    expected |= {(row["task"], row["optimizer"]): row for row in new}
    expected = [expected[key] for key in sorted(expected)]
    for f in (folder, RunFolder(folder.folder)):
        assert f.rows() == expected
        assert f.has(3, PI)
        assert f.has(2, "ADAM")  # packed
        assert_curve(f.curve(0, PI), run)
        assert_curve(f.curve(0, "ADAM"), random_run(0, "ADAM"))  # packed
        assert_curve(f.curve(3, PI), random_run(3, PI))
    folder.pack()  # and a folder that holds both can be packed
    assert files_of(folder.folder) == ["curves.npz", "runs.csv.gz"]
    again = RunFolder(folder.folder)
    assert again.rows() == [seven_digits(row) for row in expected]
    assert_curve(again.curve(0, PI), run)
    assert_curve(again.curve(0, "ADAM"), random_run(0, "ADAM"))
    assert_curve(again.curve(3, PI), random_run(3, PI))


def test_what_a_killed_process_left_is_packed_away(filled):
    """SIGKILL amid a write leaves a temporary file, which is no record and must not stop `pack`."""
    folder, rows = filled
    torn = folder.folder / "ADAM" / ".0001.json.k3xq_a7b"
    torn.write_text('{"task": 1, "opt')
    assert folder.rows() == rows
    folder.pack()
    assert RunFolder(folder.folder).rows() == [seven_digits(row) for row in rows]


def test_a_run_that_ends_while_another_process_packs_is_not_lost(filled, monkeypatch):
    """Several processes can share a folder."""
    folder, _ = filled
    late = []

    def write_slowly(rows, path):
        write_table(rows, path)
        late.append(save(RunFolder(folder.folder), 9, PI))

    monkeypatch.setattr(module, "write_table", write_slowly)
    folder.pack()
    assert late[0] in RunFolder(folder.folder).rows()


def test_a_curve_whose_row_is_yet_to_be_written_is_not_lost(filled):
    """`save` writes the curve, then the row; another process may pack in between."""
    folder, _ = filled
    save(folder, 9, PI)
    (path,) = folder.folder.glob("*/0009.json")
    text = path.read_text()
    path.unlink()
    folder.pack()
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert_curve(RunFolder(folder.folder).curve(9, PI), random_run(9, PI))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("damage", ["empty", "cut", "overwritten", "no archive", "other names"])
def test_damaged_curves_are_named(filled, damage, packed):
    folder, _ = filled
    if packed:
        folder.pack()
        path = folder.folder / "curves.npz"
    else:
        path = next(folder.folder.glob("L_BFGS*/0000.npz"))
    whole = path.read_bytes()
    if damage == "other names":
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files if not name.endswith("step_size")}
        np.savez(path, **arrays)
    else:
        directory = whole.index(b"PK\x01\x02")  # of the archive, at its end
        path.write_bytes(
            {
                "empty": b"",
                "cut": whole[: len(whole) // 2],
                "overwritten": bytes(directory) + whole[directory:],
                "no archive": b"value 1 2 3",
            }[damage]
        )
    match = rf"^The curves in '.*{path.name}' are damaged: restore the file, or delete it.*\.$"
    with pytest.raises(ValueError, match=match):
        RunFolder(folder.folder).curve(0, PI)


def test_rows_of_different_columns_are_not_packed(filled):
    """As versions of the package that keep other targets write them: the table would have gaps."""
    folder, rows = filled
    path = next(folder.folder.glob("*/0001.json"))
    row = json.loads(path.read_text())
    path.write_text(json.dumps(row | {"num_evals to f<1e-9": 7}))
    before = files_of(folder.folder)
    match = r"^The records for '.*runs.csv.gz' have different columns, as .*: delete .*\.$"
    with pytest.raises(ValueError, match=match):
        folder.pack()
    assert files_of(folder.folder) == before
    assert len(RunFolder(folder.folder).rows()) == len(rows)
    path.write_text(json.dumps({name: row[name] for name in reversed(row)}))  # the order is free
    folder.pack()
    assert RunFolder(folder.folder).rows() == [seven_digits(row) for row in rows]


DAMAGES = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "no end": lambda content: content[:-3],
    "garbage": lambda content: b"nonsense" * 9,
    "not gzip": gzip.decompress,
    "a short row": lambda content: gzip.compress(gzip.decompress(content)[:-30]),
    "an empty cell": lambda content: gzip.compress(gzip.decompress(content) + b",,,\n"),
    "a long row": lambda content: gzip.compress(gzip.decompress(content)[:-1] + b",1,2\n"),
    "no header": lambda content: gzip.compress(gzip.decompress(content).split(b"\n", 1)[1]),
    "binary": lambda content: gzip.compress(b"\xff\xfe\x00" * 20),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_table_is_one_clear_sentence(filled, damage):
    folder, _ = filled
    folder.pack()
    path = folder.folder / "runs.csv.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"^The records in '.*runs.csv.gz' are damaged: .*\.$"):
        RunFolder(folder.folder)


def test_no_flipped_byte_reaches_the_rows(filled):
    folder, _ = filled
    folder.pack()
    path, written = folder.folder / "runs.csv.gz", RunFolder(folder.folder).rows()
    content, passed = path.read_bytes(), 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            found = read_table(path)
        except ValueError as error:
            found = str(error)
        if isinstance(found, str):
            assert "are damaged" in found
        else:
            assert found == written
            passed += 1
    assert passed < 20  # the gzip header's time and system mean nothing


# --- tables ---------------------------------------------------------------------------------------

ROWS = [
    {"task": 0, "optimizer": 'a "b", c', "x": math.inf, "n": 12345678901, "f": 0.1},
    {"task": 1, "optimizer": "π", "x": -math.inf, "n": -3, "f": 1e-300},
    {"task": 2, "optimizer": "12", "x": 1.5, "n": 0, "f": 1234567.0},
    {"task": 10, "optimizer": "inf", "x": 1e6, "n": 1, "f": -2.5e17},
]


def test_tables_come_back(tmp_path):
    write_table(ROWS, tmp_path / "t.csv.gz")
    found = read_table(tmp_path / "t.csv.gz")
    assert found == ROWS
    for row in found:
        assert type(row["optimizer"]) is str
        assert type(row["task"]) is type(row["n"]) is int
    text = gzip.decompress((tmp_path / "t.csv.gz").read_bytes()).decode()
    assert text.splitlines()[0] == "task,optimizer,x,n,f"
    assert text.splitlines()[2] == "1,π,-inf,-3,1e-300"


def test_nan_comes_back(tmp_path):
    write_table([{"task": 0, "optimizer": "a", "x": math.nan}], tmp_path / "t")
    assert math.isnan(read_table(tmp_path / "t")[0]["x"])


def test_the_same_rows_are_the_same_bytes(tmp_path, monkeypatch):
    write_table(ROWS, tmp_path / "a")
    monkeypatch.setattr("time.time", lambda: 2e9)  # gzip's header can hold the time
    write_table([dict(row) for row in ROWS], tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_seven_digits_are_kept(tmp_path):
    values = np.random.default_rng(0).lognormal(sigma=30, size=200)
    rows = [{"task": i, "optimizer": "a", "x": float(x)} for i, x in enumerate(values)]
    write_table(rows, tmp_path / "t")
    found = np.array([row["x"] for row in read_table(tmp_path / "t")], float)
    np.testing.assert_allclose(found, values, rtol=5e-7)
    assert np.any(found != values)


# --- Records --------------------------------------------------------------------------------------


def test_records_by_optimizer():
    rows = [make_row(t, name, min_value=10.0 * t + len(name)) for t, name in
            [(3, "b"), (0, "a"), (1, "a"), (2, "b"), (1, "b"), (0, "ccc"), (1, "ccc")]]  # fmt: skip
    records = Records(rows)
    assert records.optimizers == ["b", "a", "ccc"]  # as they come
    assert records.tasks("a") == [0, 1]
    assert records.tasks("b") == [1, 2, 3]
    assert records.tasks("a", "b") == records.tasks("a", "b", "ccc") == [1]
    assert records.tasks("a", "unknown") == records.tasks("unknown") == []
    column = records.column("b", "min_value", [3, 1])
    assert column.dtype == float
    np.testing.assert_array_equal(column, [31.0, 11.0])
    assert records.column("a", "min_value", []).shape == (0,)
    np.testing.assert_array_equal(records.column("a", f"num_evals to {TARGETS[0]}", [0]), [np.inf])
    assert Records([]).optimizers == []


def test_statuses_are_the_libraries(tmp_path):
    """What a row says of a run's end is what `Status` calls it."""
    row = row_of(make_run([1.0], status=lp.Status.NON_FINITE), 0, PI, plateau_value=2.2)
    assert lp.Status(row["status"]) is lp.Status.NON_FINITE
