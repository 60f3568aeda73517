"""Tables and figures from records."""

import dataclasses
import json
import math

import numpy as np
import pytest

from jax_lbfgs_pi.cli.reproduce import NAMES as CLI_NAMES
from jax_lbfgs_pi.reproduce import artefacts, claims
from jax_lbfgs_pi.reproduce.artefacts import ARTEFACTS
from jax_lbfgs_pi.reproduce.races import RACES
from jax_lbfgs_pi.reproduce.trainings import TRAININGS
from jax_lbfgs_pi.training.log import OuterRecord
from tests.hand_made import (
    PAPERS,
    PI,
    make_row,
    plain_row,
    random_run,
)
from tests.reproduce.helpers import SETTINGS, fill, fill_race, grid_records, made


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A folder with records of everything; artefacts are made in it."""
    out = tmp_path_factory.mktemp("reproduced")
    for race in RACES:
        fill_race(out, race, range(2))
    fill(
        out, "grids", grid_records(["ADAM lr=0.1", "RMSProp lr=0.003", "BTLS c1=0.5 c2=0.75"])[::2]
    )
    for i, name in enumerate(TRAININGS):
        folder = out / "trainings" / name
        folder.mkdir(parents=True)
        record = OuterRecord(0, 0, 0, 0, [0], 10.0 + i, 1.0, 1.0, 0, -3.0, 0.25, 0.5)
        steps = (dataclasses.asdict(record) | {"step": k, "tau_max": 0.1 * k} for k in range(3))
        (folder / "log.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    return out


def make(out, name):
    artefact = ARTEFACTS[name]
    assert artefact.there(out, artefact.races) == list(artefact.races)
    paths = artefact.make(out, artefact.races)
    assert all(path.is_file() and path.parent == out for path in paths)
    assert all(path.name.startswith(name) for path in paths)
    return {path.name: path for path in paths}


def tables_of(path):
    """Title, header and rows of each table of a file."""
    blocks = path.read_text().split("**")[1:]
    out = []
    for title, block in zip(blocks[::2], blocks[1::2], strict=True):
        lines = [line.strip("|").split("|") for line in block.strip().splitlines()]
        lines = [[cell.strip() for cell in line] for line in lines]
        assert len({len(line) for line in lines}) == 1
        out.append((title, lines[0], lines[2:]))
    return out


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("grids", ["grids.md"]),
        ("table1", ["table1.md"]),
        ("fig3", ["fig3.png"]),
        ("fig4", ["fig4-num_evals.png", "fig4-seconds.png"]),
        ("fig5", ["fig5.md", "fig5.png"]),
        ("fig6", ["fig6.md", "fig6.png"]),
        ("fig7", ["fig7.png"]),
        ("fig8", ["fig8.md", "fig8.png"]),
        ("tau-limit", ["tau-limit.png"]),
        ("convex", ["convex.md", "convex.png"]),
        ("cvx-layer", ["cvx-layer-training.png", "cvx-layer.md", "cvx-layer.png"]),
        ("claims", ["claims.md"]),
    ],
)
def test_files_of_an_artefact(reproduced, drawn, name, files):
    paths = make(reproduced, name)
    assert sorted(paths) == files
    for path in paths.values():
        if path.suffix == ".md":
            assert tables_of(path)
            assert "nan" not in path.read_text()
    assert len(files) == len(set(drawn) - {"distances"}) + len([f for f in files if ".md" in f])


def test_the_names_of_the_command_are_the_artefacts():
    assert list(CLI_NAMES) == list(ARTEFACTS)


def test_every_race_training_and_grid_serves_an_artefact():
    assert {race for a in ARTEFACTS.values() for race in a.races} == set(RACES)
    assert {name for a in ARTEFACTS.values() for name in a.trainings} == set(TRAININGS)
    assert [name for name, artefact in ARTEFACTS.items() if artefact.grids] == ["grids"]
    # Where a tuned competitor or a trained policy takes part, what it needs is made first.
    assert [name for name, race in RACES.items() if race.has_tuned] == ["mnist-1x20"]
    for artefact in ARTEFACTS.values():
        for race in artefact.races:
            assert set(RACES[race].policies.values()) & set(TRAININGS) <= set(artefact.trainings)


def test_records_come_in_the_order_of_the_race(reproduced):
    records = artefacts.records_of(reproduced, "mnist-1x20")
    assert records.optimizers[0] == PI
    assert records.optimizers == [
        *RACES["mnist-1x20"].policies, *PAPERS, "optax.lbfgs", "SciPy", "Prodigy",
        "ADAM, tuned", "RMSProp, tuned", "L-BFGS-BTLS, tuned",
    ]  # fmt: skip
    assert records.tasks(*records.optimizers) == [0, 1]
    with pytest.raises(FileNotFoundError, match=r"^There are no records of 'cifar10' in .*\.$"):
        artefacts.records_of(reproduced / "elsewhere", "cifar10")


def test_table_1_of_records(reproduced, drawn):
    """Every size with its tables; W and T by plain loops over the runs."""
    found = tables_of(make(reproduced, "table1")["table1.md"])
    assert len(found) == 3 * 7
    for i, (race, levels) in enumerate(artefacts.TABLE1_LEVELS.items()):
        mine = found[7 * i : 7 * i + 7]
        assert all(race in title for title, _, _ in mine)
        names = [*RACES[race].policies, *RACES[race].against, *RACES[race].beside]
        for title, _, rows in mine:
            first = title.startswith("Table 1")
            assert [row[0] for row in rows] == [n for n in names if not (first and n == PI)]
        for (title, _, rows), cost in zip(mine, ("seconds", "num_evals"), strict=False):
            assert title.endswith({"seconds": "by seconds", "num_evals": "by evaluations"}[cost])
            for row in rows:
                for j, level in enumerate(levels):
                    costs = [
                        [
                            plain_row(random_run(race, t, n), t, n, 2.2)[
                                f"{cost} to ‖g‖<1e-{round(-math.log10(level))}"
                            ]
                            for t in range(2)
                        ]
                        for n in (PI, row[0])
                    ]
                    w = 50 * sum(a < b for a, b in zip(*costs, strict=True))
                    t = 50 * sum(a == b for a, b in zip(*costs, strict=True))
                    cell = row[2 + 2 * j]
                    assert float(cell.split(" [")[0]) == w
                    assert float(cell.split("] / ")[1]) == t


def test_panels_of_the_figures(reproduced, drawn):
    for name in (
        "fig3",
        "fig4",
        "fig5",
        "fig6",
        "fig6-small",
        "fig7",
        "fig8",
        "convex",
        "tau-limit",
    ):
        make(reproduced, name)
    panels = {name: [a for a in figure.axes if a.get_visible()] for name, figure in drawn.items()}
    for name in ("fig3.png", "fig7.png"):  # two tasks are there
        assert [a.get_title() for a in panels[name]] == ["task 0", "task 1", "", ""]
        (line, *_) = panels[name][1].get_lines()
        expected = np.float32(random_run("mnist-1x20", 1, PI).value)
        np.testing.assert_array_equal(line.get_ydata(), expected)
        assert [a.get_label() for a in panels[name][0].get_lines()] == [PI, *PAPERS]
    for name in ("fig4-seconds.png", "fig4-num_evals.png"):
        assert len(panels[name]) == 3 * 4
    assert "seconds" not in panels["fig4-num_evals.png"][-1].get_xlabel()
    races_of = {"fig5.png": artefacts.MLPS, "fig8.png": artefacts.MLPS,
                "convex.png": ("quadratic", "logistic")}  # fmt: skip
    for name, expected in races_of.items():
        assert [a.get_title() for a in panels[name]] == [f"{race}, 2 tasks" for race in expected]
        assert [len(a.patches) for a in panels[name]] == [4] * len(expected)
    assert "least" in panels["fig5.png"][0].get_ylabel()
    assert "final" in panels["fig8.png"][0].get_ylabel()
    # A box for π, π_C and general against each competitor; at 100 images general is not there.
    for name, race, num in (("fig6.png", "cifar10", 3), ("fig6-small.png", "cifar10-100", 2)):
        (cifar,) = panels[name]
        assert len(cifar.patches) == num * len(PAPERS)
        assert cifar.get_title() == f"{race}, 2 tasks"
    upper, _ = panels["tau-limit.png"]
    np.testing.assert_allclose(upper.get_lines()[0].get_ydata(), [0.0, 0.1, 0.2])


@pytest.mark.parametrize(("name", "num"), [("fig3", 3), ("fig7", 10)])
def test_curves_are_of_the_first_tasks(tmp_path, drawn, name, num):
    fill_race(tmp_path, "mnist-1x20", range(12), [PI])
    make(tmp_path, name)
    titles = [a.get_title() for a in drawn[f"{name}.png"].axes if a.get_visible()]
    assert [t for t in titles if t] == [f"task {i}" for i in range(num)]


@pytest.mark.parametrize("name", ["fig3", "fig7"])
def test_rows_without_curves_make_no_figure_of_curves(command, tmp_path, name):
    """Their file may be gone."""
    fill(tmp_path, "mnist-1x20", [make_row(task, n) for task in range(3) for n in (PI, *PAPERS)])
    status, out, _ = command(name, "--render", "--out", tmp_path)
    assert status == 0
    assert "not made: no curves of its tasks" in out
    assert made(tmp_path) == ["summary.json"]


def test_grids_table(reproduced, drawn):
    ((title, header, rows),) = tables_of(make(reproduced, "grids")["grids.md"])
    assert "1 training task" in title
    best = {"ADAM lr=0.1", "RMSProp lr=0.003", "BTLS c1=0.5 c2=0.75"}
    assert [row[0] for row in rows] == [n + " (best)" * (n in best) for n in SETTINGS]
    assert all(row[1:4] == ["100", "100", "100"] for row in rows)
    assert [row[4] for row in rows] == ["0.5" if n in best else "1" for n in SETTINGS]
    assert len(header) == 5


def test_layers_table_and_figures(reproduced, drawn):
    ((_, _, rows),) = tables_of(make(reproduced, "cvx-layer")["cvx-layer.md"])
    layers = ("cvx", "implicit", "clip", "straight_through")
    losses = [str(10 + list(TRAININGS).index(f"layer-{layer}")) for layer in layers]
    assert rows == [
        [layer, "3", loss, loss, "0", "0.5"] for layer, loss in zip(layers, losses, strict=True)
    ]
    distances = drawn["distances"]
    assert np.all(np.diff(distances) > 0)
    np.testing.assert_array_equal(distances, -distances[::-1])  # both sides, and the bound itself
    assert 0.0 in distances
    assert np.min(np.abs(distances[distances != 0])) < 1e-8
    assert [line.get_label() for line in drawn["cvx-layer-training.png"].axes[0].get_lines()] == [
        "cvx", "implicit", "clip", "straight_through"
    ]  # fmt: skip


def test_claims_are_told_of_what_is_there(reproduced, drawn):
    ((_, header, rows),) = tables_of(make(reproduced, "claims")["claims.md"])
    assert len(rows) == len(claims.CLAIMS)
    holds = [row[header.index("holds")] for row in rows]
    assert set(holds) <= {"yes", "no", "open"}  # nothing is missing


def test_what_is_there(tmp_path):
    """Of several races those that have records; of what must be there, all or nothing."""

    def there(name, races=None):
        artefact = ARTEFACTS[name]
        return artefact.there(tmp_path, artefact.races if races is None else races)

    assert {name: there(name) for name in ARTEFACTS} == {
        name: [] if name == "claims" else None for name in ARTEFACTS
    }
    fill_race(tmp_path, "mnist-2x400", [0], [PI])
    assert there("table1") == there("fig5") == ["mnist-2x400"]
    assert there("table1", ["mnist-1x20"]) is None
    assert there("fig3") is None
    fill_race(tmp_path, "cifar10", [0], [PI])
    assert there("fig6") is None  # the training of π_C is missing
    for name in ("cifar", "layer-cvx", "layer-implicit", "layer-clip"):
        folder = tmp_path / "trainings" / name
        folder.mkdir(parents=True)
        record = OuterRecord(0, 0, 0, 0, [0], 1.0, 1.0, 1.0, 0, -3.0, 0.0, 0.5)
        (folder / "log.jsonl").write_text(json.dumps(dataclasses.asdict(record)) + "\n")
    assert there("fig6") == ["cifar10"]
    assert there("cvx-layer") is None  # one of four is missing
