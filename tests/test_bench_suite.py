import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import jax_lbfgs_pi as lp
from jax_lbfgs_pi import bench, cli, suite
from jax_lbfgs_pi.baselines import baselines
from jax_lbfgs_pi.bench import RecordFolder, Runner, ScipyByEvaluation, SuiteCompetitor, run_suite
from jax_lbfgs_pi.suite.problem import Problem, Registry
from tests import oracles
from tests.pages import Page, markdown_tables

BASELINES = baselines()

X0 = np.array([-1.2, 1.0, -0.5, 0.8])
BUDGET = 25
SETTINGS = {"budget": BUDGET, "memory_size": 4}
EVALUATED = []  # f at every evaluation that is executed, while somebody counts


def rosenbrock(x, data):
    return data["scale"] * oracles.rosenbrock(x)


def counted(x, data):
    value = rosenbrock(x, data)
    jax.debug.callback(lambda v: EVALUATED.append(float(v)), value)
    return value


def bowl(tree, data):
    return jnp.sum(data * (tree["x"] - 1.0) ** 2)


def rosenbrock_problem(name, scale=1.0, loss=rosenbrock):
    data = {"scale": np.array(scale)}
    return Problem(name, "rosenbrock", loss, X0, data, minimum=0.0)


def bowl_problem(name, n):
    return Problem(name, "bowl", bowl, {"x": np.zeros(n)}, np.linspace(1.0, 9.0, n), minimum=0.0)


def missing():
    raise lp.DataError("The data set 'moon' is missing: download it.")


def toy_registry():
    registry = Registry()
    registry.add("rosenbrock-1", "rosenbrock", lambda: rosenbrock_problem("rosenbrock-1"))
    registry.add("rosenbrock-7", "rosenbrock", lambda: rosenbrock_problem("rosenbrock-7", 7.0))
    registry.add("bowl-3", "bowl", lambda: bowl_problem("bowl-3", 3))
    registry.add("bowl-50", "bowl", lambda: bowl_problem("bowl-50", 50))
    registry.add("moon", "moon", missing)
    return registry


NAMES = toy_registry().names()


def competitors(*names):
    known = bench.bench_competitors(4)
    return [known[name] for name in names]


def small():
    return competitors("t = 1", "ADAM", "SciPy m=5")


def run_toys(folder=None, who=None, names=NAMES, **options):
    get_problem = toy_registry().make
    who = small() if who is None else who
    return run_suite(names, get_problem, who, budget=BUDGET, folder=folder, **options)


def assert_same(a, b):
    assert [runs.problem for runs in a] == [runs.problem for runs in b]
    for mine, theirs in zip(a, b, strict=True):
        assert list(mine.records) == list(theirs.records)
        for name, record in mine.records.items():
            for field in ("num_evals", "value", "grad_norm", "status"):
                other = getattr(theirs.records[name], field)
                np.testing.assert_array_equal(getattr(record, field), other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A whole run's results and its folder, which nobody writes to."""
    path = tmp_path_factory.mktemp("whole")
    return run_toys(RecordFolder(path, SETTINGS)), path


# --- one run --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", bench.bench_competitors(4))
def test_every_competitor_keeps_the_budget_and_starts_at_f0(name):
    (competitor,) = competitors(name)
    record = Runner(BUDGET)(rosenbrock_problem("r"), competitor)
    np.testing.assert_allclose(record.value[0], oracles.rosenbrock(X0), rtol=1e-12)
    assert record.num_evals[0] == 1
    assert np.diff(record.num_evals).min() >= 1
    assert record.num_evals[-1] <= BUDGET
    assert len(record.value) == len(record.grad_norm) == len(record.num_evals)
    if name not in ("BTLS", "optax.lbfgs"):
        np.testing.assert_array_equal(record.num_evals, np.arange(1, BUDGET + 1))
    assert record.best[-1] <= record.best[0] == record.value[0]


@pytest.mark.parametrize(
    "name", ["BTLS", "optax.lbfgs", "SciPy m=5", "SciPy BFGS", "Kanzow-Steck", "L-BFGS-π"]
)
def test_as_many_evaluations_are_executed_as_are_counted(name):
    """Every recorded f was executed at the evaluation of its number."""
    (competitor,) = competitors(name)
    EVALUATED.clear()
    record = Runner(BUDGET)(rosenbrock_problem("r", loss=counted), competitor)
    jax.effects_barrier()
    assert len(EVALUATED) >= record.num_evals[-1]
    for num_evals, value in zip(record.num_evals, record.value, strict=True):
        assert np.isclose(EVALUATED[:num_evals], value, rtol=1e-12).any()
    if name not in ("BTLS", "optax.lbfgs"):  # a search goes on past the budget; that is cut off
        assert len(EVALUATED) == BUDGET
        np.testing.assert_allclose(np.array(EVALUATED)[record.num_evals - 1], record.value)


@pytest.mark.parametrize("memory_size", [2, 5, None])
def test_scipys_record_has_scipys_evaluations(memory_size):
    competitor = ScipyByEvaluation("SciPy", memory_size=memory_size)
    record = Runner(400)(rosenbrock_problem("r"), competitor)
    objective = jax.jit(jax.value_and_grad(oracles.rosenbrock))
    seen = []

    def plain(x):
        value, grad = objective(x)
        seen.append((float(value), np.linalg.norm(grad)))
        return float(value), np.asarray(grad)

    method = "BFGS" if memory_size is None else "L-BFGS-B"
    options = {"gtol": 0.0}
    if memory_size is not None:
        options |= {"maxcor": memory_size, "ftol": 0.0}
    result = scipy.optimize.minimize(plain, X0, jac=True, method=method, options=options)
    assert len(record.value) == result.nfev < 400  # its line search failed
    np.testing.assert_allclose(record.value, [value for value, _ in seen], rtol=1e-6, atol=1e-20)
    np.testing.assert_allclose(record.grad_norm, [g for _, g in seen], rtol=1e-6, atol=1e-9)


def test_a_budget_of_one_is_the_starting_point():
    for competitor in small():
        record = Runner(1)(rosenbrock_problem("r"), competitor)
        np.testing.assert_array_equal(record.num_evals, [1])
    with pytest.raises(ValueError, match="at least 1 evaluation, but got 0"):
        Runner(0)


def test_a_run_ends_where_the_gradient_is_zero():
    problem = dataclasses.replace(bowl_problem("b", 3), data=np.full(3, 0.5))
    record = Runner(BUDGET)(problem, competitors("t = 1")[0])  # one step of t = 1 is exact
    assert record.status == lp.Status.CONVERGED
    assert record.grad_norm[-1] == 0.0
    assert len(record.value) < BUDGET


def test_a_run_that_blows_up_ends_there():
    blows_up = SuiteCompetitor("ADAM", lambda: BASELINES["ADAM"].make())
    problem = Problem("e", "e", lambda x, _: jnp.sum(jnp.log(x)), np.array([0.05]))
    record = Runner(BUDGET)(problem, blows_up)
    assert record.status == lp.Status.NON_FINITE
    assert np.isfinite(record.best).all()


def test_instances_of_a_formula_are_compiled_once():
    runner, (competitor,) = Runner(BUDGET), competitors("t = 1")
    first = runner(rosenbrock_problem("one"), competitor)
    second = runner(rosenbrock_problem("four", 4.0), competitor)
    assert first.compile_seconds > 0
    assert second.compile_seconds == 0
    alone = Runner(BUDGET)(rosenbrock_problem("four", 4.0), competitor)
    np.testing.assert_array_equal(second.value, alone.value)
    assert second.value[0] == pytest.approx(4.0 * first.value[0])
    assert runner(bowl_problem("b", 3), competitor).compile_seconds > 0


# --- the suite ------------------------------------------------------------------------------------


def test_all_problems_with_all_competitors(whole):
    results, path = whole
    assert [runs.problem for runs in results] == NAMES[:-1]
    assert [runs.kind for runs in results] == ["rosenbrock"] * 2 + ["bowl"] * 2
    assert [runs.num_variables for runs in results] == [4, 4, 3, 50]
    assert all(list(runs.records) == ["t = 1", "ADAM", "SciPy m=5"] for runs in results)
    assert len(list(path.glob("records/*/*.npz"))) == 12
    assert not list(path.glob("**/.*"))


def test_skipped_problems_say_why():
    skipped = {}
    results = run_toys(who=competitors("t = 1"), max_variables=10, on_skip=skipped.__setitem__)
    assert [runs.problem for runs in results] == NAMES[:3]
    assert skipped == {
        "bowl-50": "It has 50 variables.",
        "moon": "The data set 'moon' is missing: download it.",
    }


def test_a_problem_without_finite_start_is_skipped():
    problem = Problem("log", "log", lambda x, _: jnp.sum(jnp.log(x)), np.array([-1.0]))
    why = []
    who = competitors("t = 1", "BTLS")
    results = run_suite(["log"], lambda _: problem, who, budget=3, on_skip=lambda *w: why.append(w))
    assert results == []
    assert why == [("log", "Its f is not finite at the start.")]


def test_an_interrupted_run_goes_on_and_gives_the_same(whole, tmp_path):
    class Killed(Exception):
        pass

    done = []

    def kill(problem, name):
        done.append((problem, name))
        if len(done) == 3:
            raise Killed

    names, who = ["rosenbrock-1", "rosenbrock-7", "bowl-3"], competitors("t = 1", "SciPy m=5")
    with pytest.raises(Killed):
        run_toys(RecordFolder(tmp_path, SETTINGS), who, names, on_run=kill)
    paths = list(tmp_path.glob("records/*/*.npz"))
    times = {path: path.stat().st_mtime_ns for path in paths}
    assert len(times) == 3
    results = run_toys(RecordFolder(tmp_path, SETTINGS), who, names)
    for mine, theirs in zip(results, whole[0], strict=False):
        chosen = {competitor.name: theirs.records[competitor.name] for competitor in who}
        assert_same([mine], [dataclasses.replace(theirs, records=chosen)])
    assert {path: path.stat().st_mtime_ns for path in paths} == times


def test_records_are_made_once(whole, monkeypatch):
    monkeypatch.setattr(Runner, "__call__", lambda *_: pytest.fail("ran again"))
    assert_same(run_toys(RecordFolder(whole[1], SETTINGS)), whole[0])


def test_damaged_records_are_made_anew(whole, tmp_path):
    shutil.copytree(whole[1], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "records" / "bowl-3" / "t = 1.npz"
    content = path.read_bytes()
    for spoiled in (b"", content[: len(content) // 2]):
        path.write_bytes(spoiled)
        (runs,) = run_toys(RecordFolder(tmp_path, SETTINGS), competitors("t = 1"), ["bowl-3"])
        expected = whole[0][2].records["t = 1"].value
        np.testing.assert_array_equal(runs.records["t = 1"].value, expected)
        with np.load(path) as file:
            np.testing.assert_array_equal(file["value"], expected)


def test_records_of_other_data_policies_or_on_request_are_made_anew(tmp_path, monkeypatch):
    folder, made = RecordFolder(tmp_path, SETTINGS), []
    run = Runner.__call__

    def noted(self, problem, competitor):
        made.append(competitor.name)
        return run(self, problem, competitor)

    monkeypatch.setattr(Runner, "__call__", noted)

    def go(scale=1.0, digest="a", again=()):
        made.clear()
        entrant = SuiteCompetitor("ADAM", BASELINES["ADAM"].make, digest=digest)
        problem = rosenbrock_problem("r", scale)
        run_suite(["r"], lambda _: problem, [entrant], budget=3, folder=folder, again=again)
        return list(made)

    assert go() == ["ADAM"]
    assert go() == []
    assert go(scale=2.0) == ["ADAM"]
    assert go(scale=2.0, digest="b") == ["ADAM"]
    assert go(scale=2.0, digest="b") == []
    assert go(scale=2.0, digest="b", again=["ADAM"]) == ["ADAM"]


def test_a_folder_of_other_settings_is_refused(whole, tmp_path):
    with pytest.raises(ValueError, match="holds records of other settings"):
        RecordFolder(whole[1], SETTINGS | {"budget": 26})
    (tmp_path / "settings.json").write_text("half {")
    with pytest.raises(ValueError, match="holds records of other settings"):
        RecordFolder(tmp_path, SETTINGS)


def test_names_must_be_distinct_and_policies_known():
    with pytest.raises(ValueError, match="distinct names"):
        run_toys(who=[*small(), *small()])
    with pytest.raises(ValueError, match="Unknown policy"):
        bench.policy_entrant("nobody")
    with pytest.raises(ValueError, match="at least 1, but got 0"):
        bench.bench_competitors(0)


def test_who_takes_part():
    names = list(bench.bench_competitors())
    assert names == [
        "t = 1", "BTLS", "optax.lbfgs", "SciPy m=5", "SciPy m=10", "SciPy m=20", "SciPy BFGS",
        "Prodigy", "ADAM", "RMSProp", "Kanzow-Steck", "paper-mnist", "L-BFGS-π",
    ]  # fmt: skip
    assert bench.policy_entrant("cosine").name == "π cosine"
    digests = {bench.policy_entrant(name).digest for name in ("cosine", "unit", "paper-mnist")}
    assert len(digests) == 3


@pytest.mark.parametrize("n", [3, 6, 420])
def test_the_favourite_has_the_memory_that_users_get(n):
    (favourite,) = competitors(bench.FAVOURITE)
    history = favourite.make().init(jnp.zeros(n))[0].history
    assert type(history).__name__ == ("FullHistory" if n <= 400 else "History")


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def toy_suite(monkeypatch):
    registry = toy_registry()
    splits = {"development": ["rosenbrock", "moon"], "test": ["bowl"]}
    monkeypatch.setattr(suite, "_split", lambda: splits)
    monkeypatch.setattr(suite, "REGISTRY", registry)


def command(*words):
    return cli.main(["bench", *map(str, words)])


def test_the_command_writes_report_and_figures(toy_suite, tmp_path, capsys):
    words = ["--suite", "all", "--budget", 30, "--memory", 4, "--problems", 1, "--out", tmp_path]
    words += ["--against", "SciPy m=5", "--policy", "cosine", "--policy", "unit"]
    assert command(*words) == 0
    out, err = capsys.readouterr()
    assert max(map(len, out.splitlines()[:-1])) <= 80
    assert "skipped moon: The data set 'moon' is missing" in err
    for name in ("performance.png", "data.png", "kinds.png", "report.md", "report.json"):
        assert (tmp_path / name).stat().st_size > 100
    page = Page((tmp_path / "report.html").read_text())
    assert page.tables == markdown_tables((tmp_path / "report.md").read_text())
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 3
    assert command(*words, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report["favourite"] == "π cosine"
    assert list(report["competitors"]) == ["SciPy m=5", "π cosine", "π unit"]
    assert list(report["problems"]) == ["rosenbrock-1", "bowl-3"]
    assert report["settings"]["tau"] == 1e-6
    assert "jax" in report["provenance"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--against", "SGD"], "Unknown competitor 'SGD'"),
        (["--tau", "1"], "--tau must be between 0 and 1"),
        (["--kinds", "rosenbrock,bowl"], "The development suite has no kind 'bowl'"),
        (["--policy", "cosin"], "Unknown policy 'cosin'"),
        (["--again", "SGD"], "--again names 'SGD', which does not take part"),
        (["--kinds", "moon"], "No problem was run"),
    ],
)
def test_errors_are_one_sentence(toy_suite, tmp_path, capsys, words, error):
    assert command(*words, "--out", tmp_path) == 2
    assert error in capsys.readouterr().err
