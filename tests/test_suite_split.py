"""The suite is split once, by kind, and no kind stands on both sides."""

import pytest

from jax_lbfgs_pi.suite import REGISTRY, SPLITS, get_problem, list_problems
from jax_lbfgs_pi.suite.families import FAMILIES
from jax_lbfgs_pi.suite.problem import Problem, Registry


def kinds(names):
    return {REGISTRY.kind(name) for name in names}


def test_every_problem_stands_on_one_side():
    development, test = (list_problems(split) for split in SPLITS)
    assert not kinds(development) & kinds(test)
    assert sorted(development + test) == sorted(REGISTRY.names()) == sorted(list_problems())
    assert len(kinds(test)) > len(kinds(development)) > 40
    assert not kinds(test) & set(FAMILIES)  # what is trained on


def test_valleys_of_one_formula_stand_on_one_side():
    development = kinds(list_problems("development"))
    for word in ("rosenbrock", "broyden_tridiagonal", "penalty_qp", "diffusion"):
        of_word = {kind for kind in kinds(list_problems()) if word in kind}
        assert of_word <= development
    assert {kind for kind in kinds(list_problems()) if "mnist" in kind} <= kinds(
        list_problems("test")
    )


def test_problems_by_split_and_kind():
    names = list_problems("test", ["beale", "wood"])
    assert kinds(names) == {"beale", "wood"}
    first = list_problems("test", ["beale", "wood"], per_kind=1)
    assert len(names) > 2
    assert len(first) == 2
    assert first == [next(n for n in names if n.startswith(k)) for k in ("beale", "wood")]
    problem = get_problem(names[0])
    assert (problem.name, problem.kind) == (names[0], "beale")
    with pytest.raises(ValueError, match="Unknown split 'train': choose one of development, test"):
        list_problems("train")
    with pytest.raises(ValueError, match="has no kind 'beale'"):
        list_problems("development", ["beale"])
    with pytest.raises(ValueError, match="Unknown problem 'nothing'"):
        get_problem("nothing")


def test_a_registry_refuses_names_that_are_taken_or_wrong():
    registry = Registry()
    registry.add("a", "k", lambda: Problem("b", "k", lambda x, _: x, 0.0))
    with pytest.raises(ValueError, match="has a problem 'a' already"):
        registry.add("a", "k", lambda: Problem("a", "k", lambda x, _: x, 0.0))
    with pytest.raises(ValueError, match="'a' of kind 'k' was made as 'b'"):
        registry.make("a")
