"""Verdicts on the paper's claims, of records made by hand."""

import math

import pytest

from jax_lbfgs_pi.evaluation import Target
from jax_lbfgs_pi.evaluation.statistics import LEVEL, Estimate
from jax_lbfgs_pi.evaluation.tables import markdown
from jax_lbfgs_pi.reproduce import claims, races
from jax_lbfgs_pi.reproduce.artefacts import ARTEFACTS
from jax_lbfgs_pi.reproduce.claims import CLAIMS, claims_table, verdict
from jax_lbfgs_pi.reproduce.grids import GRIDS
from tests.hand_made import PI, fill_race, make_row, write_log

INF = math.inf
G3, G5 = Target("grad_norm", 1e-3), Target("grad_norm", 1e-5)


# --- claims ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "positive"),
    [
        (1.0, 3.0, "yes"),
        (-3.0, -1.0, "no"),
        (-1.0, 2.0, "open"),
        (0.0, 2.0, "open"),
        (-2.0, 0.0, "open"),
        (0.0, 0.0, "open"),
        (1.0, INF, "yes"),
        (-INF, INF, "open"),
        (-INF, -1.0, "no"),
    ],
)
def test_verdicts_of_both_signs(low, high, positive):
    estimate = Estimate(low, low, high, 9)
    assert verdict(estimate, 1) == positive
    assert verdict(estimate, -1) == {"yes": "no", "no": "yes", "open": "open"}[positive]


@pytest.mark.parametrize("num", [1, 5, 6])
def test_a_handful_of_tasks_decides_nothing(tmp_path, num):
    """Five heads in five tosses are no evidence at 95 %, six are: 2 / 2⁵ > 0.05 > 2 / 2⁶."""
    assert (2 * 0.5**num < 0.05) == (num == 6)
    for value in (-1.0, 1.0):
        decided = verdict(Estimate(value, value, value, num), 1) != "open"
        assert decided == (num == 6)
    rows = [make_row(t, PI, evals={"‖g‖<1e-5": 5.0}) for t in range(num)]
    for against, cost in (("L-BFGS-B", 5.0), ("L-BFGS-BTLS", 6.0)):
        rows += [make_row(t, against, evals={"‖g‖<1e-5": cost}) for t in range(num)]
    fill_race(tmp_path, "quadratic", rows)
    same, other = (find(tmp_path, "quadratic tasks", f"from {x} at")[1].holds
                   for x in ("L-BFGS-B", "L-BFGS-BTLS"))  # fmt: skip
    assert (same, other) == (("yes", "no") if num == 6 else ("open", "open"))
    found = find(tmp_path, "quadratic tasks", "from L-BFGS-B at")[1]
    assert found.ours.endswith(", 1 task" if num == 1 else f", {num} tasks")


def test_nothing_is_claimed_of_an_empty_folder(tmp_path):
    assert len(CLAIMS) > 30
    for claim in CLAIMS:
        assert claim.find(tmp_path) is None
    table = claims_table(tmp_path)
    assert len(table.rows) == len(CLAIMS)
    for row, claim in zip(table.rows, CLAIMS, strict=True):
        assert row == [
            claim.text, claim.papers, "–", "not run", f"`lbfgs-pi reproduce {claim.artefact}`"
        ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_every_claim_is_of_an_artefact_and_no_two_are_the_same():
    assert {claim.artefact for claim in CLAIMS} <= set(ARTEFACTS)
    texts = [claim.text for claim in CLAIMS]
    assert len(set(texts)) == len(texts)


def find(out, *parts):
    (claim,) = [c for c in CLAIMS if all(part in c.text for part in parts)]
    return claim, claim.find(out)


def test_claims_of_table_1(tmp_path):
    """π is first by evaluations on eight of ten tasks, and by seconds on two; it never ties."""
    target = {"‖g‖<1e-5": 5.0}
    rows = [make_row(t, PI, evals=target, times=target) for t in range(100)]
    for t in range(100):
        evals, times = (6.0 if t % 10 < wins else 4.0 for wins in (8, 2))
        rows.append(make_row(t, "L-BFGS-B", evals={"‖g‖<1e-5": evals}, times={"‖g‖<1e-5": times}))
    fill_race(tmp_path, "mnist-1x20", rows)
    claim, found = find(tmp_path, "(1,20): first at ‖g‖<1e-5 more", "L-BFGS-B,", "evaluations")
    assert found is not None
    assert found.holds == "yes"
    assert found.ours.startswith("+60 [+4")
    assert found.ours.endswith("], 100 tasks")
    assert claim.papers == "–"  # the paper does not count evaluations
    claim, found = find(tmp_path, "(1,20): first at ‖g‖<1e-5 more", "L-BFGS-B,", "seconds")
    assert found is not None
    assert found.holds == "no"
    assert found.ours.startswith("-60 [-7")
    assert claim.papers == "+13.1"  # W - L = 54.9 - (100 - 54.9 - 3.3)
    assert find(tmp_path, "(1,20): first at ‖g‖<1e-5 more", "BTLS", "seconds")[1] is None


@pytest.mark.parametrize(
    ("parts", "papers"),
    [
        (("(1,20)", "‖g‖<1e-5 more", "than ADAM"), 2 * 90.9 + 9.1 - 100),
        (("(1,20)", "‖g‖<1e-5 more", "than L-BFGS-BTLS"), 59.0 - (100 - 59.0 - 2.5)),
        (("(1,20)", "‖g‖<1e-3 less", "than RMSProp"), 5.5 - 94.5),
        (("(1,20)", "‖g‖<1e-3 less", "than ADAM"), -100.0),
        (("(2,400)", "‖g‖<1e-7 less", "than L-BFGS-BTLS"), 1.2 - 98.8),
        (("(4,800)", "‖g‖<1e-7 less", "than L-BFGS-B,"), 7.6 - (100 - 7.6 - 3.0)),
    ],
)
def test_the_papers_leads(tmp_path, parts, papers):
    """Where the paper's numbers are on the side that the claim says."""
    claim, _ = find(tmp_path, *parts, "in seconds")
    # Three digits are shown.
    assert float(claim.papers) == pytest.approx(papers, rel=5e-3)
    assert (papers > 0) == ("more" in claim.text)
    assert claim.artefact == "table1"


@pytest.mark.parametrize(("factor", "holds"), [(math.e, "yes"), (1 / math.e, "no"), (1.0, "open")])
@pytest.mark.parametrize(
    ("value", "race", "text"),
    [
        ("min_value", "mnist-1x20", "least f of L-BFGS-π lower than of RMSProp"),
        ("final_value", "mnist-1x20", "final f of L-BFGS-π lower than of ADAM"),
        ("min_value", "mnist-2x400", "least f of L-BFGS-π lower than of ADAM"),
        ("min_value", "mnist-4x800", "least f of L-BFGS-π lower than of RMSProp"),
    ],
)
def test_claims_of_the_index(tmp_path, factor, holds, value, race, text):
    rows = [make_row(t, PI, **{value: 0.5}) for t in range(20)]
    rows += [make_row(t, text.split()[-1], **{value: 0.5 * factor}) for t in range(20)]
    fill_race(tmp_path, race, rows)
    claim, found = find(tmp_path, f"{race}: {text}")
    assert found is not None
    assert found.holds == holds
    shown = {"yes": "+1 [+1, +1]", "no": "-1 [-1, -1]", "open": "0 [0, 0]"}[holds]
    assert found.ours == f"{shown}, 20 tasks"
    assert claim.papers == "above 0"
    assert claim.artefact == ("fig8" if value == "final_value" else "fig5")


@pytest.mark.parametrize(
    ("race", "text", "figure"),
    [("cifar10", "cifar10: ", "fig6"), ("cifar10-100", "cifar10 with 100 images", "fig6-small")],
)
@pytest.mark.parametrize(("factor", "holds"), [(0.5, "yes"), (2.0, "no"), (1.0, "open")])
def test_the_claims_of_the_warm_start(tmp_path, race, text, figure, factor, holds):
    """Yes where π_C reaches lower f than π."""
    rows = [make_row(t, PI, min_value=1.0) for t in range(9)]
    rows += [make_row(t, "L-BFGS-π_C", min_value=factor) for t in range(9)]
    fill_race(tmp_path, race, rows)
    claim, found = find(tmp_path, text, "π_C")
    assert found is not None
    assert found.holds == holds
    assert found.ours.startswith({"yes": "+0.693", "no": "-0.693", "open": "0 "}[holds])
    assert claim.artefact == figure


@pytest.mark.parametrize("race", ["quadratic", "logistic"])
@pytest.mark.parametrize("against", ["L-BFGS-B", "L-BFGS-BTLS"])
@pytest.mark.parametrize(
    ("theirs", "holds"),
    [([5.0] * 10, "yes"), ([4.0, 6.0] * 5, "yes"), ([6.0] * 10, "no"), ([4.0] * 10, "no")],
)
def test_the_claims_of_the_convex_tasks(tmp_path, race, against, theirs, holds):
    """Yes where there is no difference; a difference to either side refutes it."""
    rows = [make_row(t, PI, evals={"‖g‖<1e-5": 5.0}) for t in range(10)]
    rows += [make_row(t, against, evals={"‖g‖<1e-5": x}) for t, x in enumerate(theirs)]
    fill_race(tmp_path, race, rows)
    claim, found = find(tmp_path, f"{race} tasks", f"no difference from {against} at")
    assert found is not None
    assert found.holds == holds
    assert (claim.papers, claim.artefact) == ("none", "convex")


@pytest.mark.parametrize(
    ("last", "holds"), [(0.05, "yes"), (-0.05, "yes"), (0.0, "yes"), (0.7, "no"), (-0.7, "no")]
)
def test_the_claim_of_the_learned_limit(tmp_path, last, holds):
    """§4: "it converged to values that were very close to τ_M = 0", neither above nor below."""
    write_log(tmp_path / "trainings" / "limits", tau_max=[0.0, 0.3, -0.3, last])
    claim, found = find(tmp_path, "learned τ_M")
    assert found is not None
    assert found.holds == holds
    assert "after 4 steps" in found.ours
    assert f"{last:g}" in found.ours
    assert claim.artefact == "tau-limit"


@pytest.mark.parametrize(
    ("optimizer", "papers"),
    [
        ("ADAM", "ADAM lr=0.03"),
        ("RMSProp", "RMSProp lr=0.01"),
        ("L-BFGS-BTLS", "BTLS c1=0.25 c2=0.5"),
    ],
)
def test_the_claims_of_the_grids(tmp_path, optimizer, papers):
    """SPEC §6: what the paper chose of each grid."""
    names = [name for grid in GRIDS.values() for name in grid]
    assert papers in GRIDS[optimizer]
    for best, holds in ((papers, "yes"), (next(n for n in GRIDS[optimizer] if n != papers), "no")):
        out = tmp_path / holds
        rows = [make_row(0, n, evals={"‖g‖<1e-5": 9.0 if n == best else 99.0}) for n in names]
        fill_race(out, "grids", rows[:-1])
        assert find(out, f"best {optimizer} ")[1] is None  # not all of them have run
        fill_race(out, "grids", rows[-1:])
        claim, found = find(out, f"best {optimizer} ")
        assert found == (best, holds)
        assert claim.papers == papers


def test_no_claim_raises_on_records_that_are_there_in_part(tmp_path):
    """One task, one optimizer, nothing finite: whatever a race that was killed has left."""
    for race in races.RACES:
        fill_race(tmp_path, race, [make_row(0, PI, min_value=INF, final_value=math.nan)])
    fill_race(tmp_path, "grids", [make_row(0, "ADAM lr=0.001")])
    assert {row[3] for row in claims_table(tmp_path).rows} == {"not run"}
    names = ("ADAM", "RMSProp", "L-BFGS-B", "L-BFGS-BTLS", "L-BFGS-π_C")
    for race in races.RACES:
        fill_race(tmp_path, race, [make_row(0, n, min_value=INF, final_value=INF) for n in names])
    table = claims_table(tmp_path)
    assert {row[3] for row in table.rows} <= {"yes", "no", "open", "not run"}
    # Runs that ended in overflow on both sides say nothing.
    assert {row[3] for row in table.rows if "median I_a" in row[0]} == {"open"}
    assert "nan" not in markdown(table)


def test_a_claims_cell_shows_signs():
    assert claims._signed(5.0) == "+5"
    assert claims._signed(-5.0) == "-5"
    assert claims._signed(0.0) == "0"
    assert claims._signed(INF) == "+∞"
    assert LEVEL == 0.95  # what the tables' headers say


def test_the_claims_at_a_glance_are_those_of_the_table(tmp_path):
    """Each claim once, in one of two tables, with the verdict that the long one has."""
    rows = [make_row(t, PI, evals={"‖g‖<1e-5": 5.0}) for t in range(10)]
    rows += [make_row(t, "L-BFGS-B", evals={"‖g‖<1e-5": 5.0}) for t in range(10)]
    fill_race(tmp_path, "quadratic", rows)
    matrix, rest = claims.by_optimizer(tmp_path), claims.others(tmp_path)
    cells = [cell for row in matrix.rows for cell in row[1:-1] if cell]
    assert len(cells) + len(rest.rows) == len(CLAIMS)
    said = [cell for cell in cells if cell != "not run"]
    assert said == ["**yes** 0 [0, 0]"]
    (row,) = [row for row in matrix.rows if said[0] in row]
    assert row[0].startswith("quadratic tasks: no difference")
    assert matrix.header[row.index(said[0])] == "L-BFGS-B"
    assert row[-1] == "`convex`"
    table = {row[0]: row for row in claims_table(tmp_path).rows}
    assert all(table[row[0]] == row for row in rest.rows)
