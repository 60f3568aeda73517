"""Changes modules in small ways, one at a time, and says which changes no test notices.

python -m scripts.mutants [MODULE ...] [--sample N] [--out runs/mutants]

Each place that cosmic-ray (`pip install cosmic-ray`) can change is changed once: a number by one,
an operator or a comparison into another, `is` into `is not`, a sign or a decorator gone. Which way
is drawn at random, always the same. Tests run in forks of a process that has the libraries already,
with programs compiled for one mutant kept for the next: some ten seconds each. Resumes.
"""

import argparse
import difflib
import importlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.progress import track

TESTS = {
    "acceptance": "test_acceptance test_robustness",
    "direction": "test_direction",
    "clip": "test_clip",
    "policy/rule": "test_answers test_acceptance test_dense",
    "policy/general": "test_answers test_general",
    "policy/features": "test_answers test_general",
    "policy/observation": "test_answers test_observation",
    "policy/paper": "test_policy",
    "policy/self_scaling": "test_answers test_dense",
}
"""By module, the tests that should notice."""
ARITHMETIC, LOGIC = {"Add", "Sub", "Mul", "Div"}, {"BitAnd", "BitOr"}
ORDER, IDENTITY = {"Lt", "LtE", "Gt", "GtE", "Eq", "NotEq"}, {"Is", "IsNot"}
SENSIBLE = {  # the rest, such as a bit shift of floats, fails at once
    "ReplaceBinaryOperator": (ARITHMETIC, LOGIC),
    "ReplaceComparisonOperator": (ORDER, IDENTITY),
    "ReplaceUnaryOperator": ({"Delete", "USub"}, {"Delete", "Not"}, {"Delete", "Invert"}),
    "AddNot": (),  # as good as `is` into `is not`
}
LIMIT = 300.0
"""Seconds after which a mutant counts as noticed: it never ends."""


def mutants(code: str) -> list[dict]:
    """All mutants of a module: line, operator, difference, and the whole code."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code

    draw, tree, lines = random.Random(0), get_ast(code), code.split("\n")
    places: dict = {}
    for name in sorted(plugins.operator_names()):
        operator = plugins.get_operator(name)
        family, *parts = name.split("/")[-1].split("_")
        groups = SENSIBLE.get(family)
        if operator.arguments() or (
            groups is not None and not any(set(parts) <= group for group in groups)
        ):
            continue
        spots = (s for node in ast_nodes(tree) for s in operator().mutation_positions(node))
        for i, (start, _) in enumerate(spots):
            annotation = "BitOr" in parts and "None" in lines[start[0] - 1]
            if not annotation:
                places.setdefault((start, family), []).append((name, i))
    found = []
    for (start, _), ways in sorted(places.items()):
        name, i = draw.choice(ways)
        new = mutate_code(code, plugins.get_operator(name)(), i)
        if new is not None and new != code:
            pair = (code.split("\n"), new.split("\n"))
            changed = list(difflib.unified_diff(*pair, n=0, lineterm=""))[3:]
            found.append({"line": start[0], "operator": name, "diff": changed, "code": new})
    return found


def copy_tracked(to: Path) -> None:
    """The files of the repository that git knows, as they are now."""
    names = subprocess.run(["git", "ls-files"], check=True, capture_output=True, text=True).stdout
    for name in names.splitlines():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(name, to / name)


def first_failure(tests: list[str], log: Path) -> str | None:
    """What failed first of the tests, run in a fork of this process; None if nothing did."""
    import pytest

    start, child = time.monotonic(), os.fork()
    if child == 0:
        os.setsid()
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=line"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        status = 1
        try:
            status = int(pytest.main([*options, *tests]))
        finally:
            os._exit(status)
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() - start > LIMIT:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "never ends"
        time.sleep(0.1)
    text = log.read_text(errors="replace")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
    if failed:
        return failed[1]
    return None if re.search(r"\d+ passed", text) else "is no Python module"


def main() -> int:
    """Tries the mutants of the modules asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(TESTS))
    parser.add_argument("--sample", type=int, help="so many of each module's, drawn at random")
    parser.add_argument("--out", type=Path, default=Path("runs/mutants"))
    args = parser.parse_args()
    out = args.out.resolve()
    copy, cache = out / "copy", out / "cache"
    shutil.rmtree(copy, ignore_errors=True)
    copy_tracked(copy)
    os.chdir(copy)
    sys.path.insert(0, str(copy))
    sys.dont_write_bytecode = True
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "PYTEST_XDIST_WORKER": "gw0",  # so that tests/conftest.py leaves the cache as it is
        "PYTEST_XDIST_WORKER_COUNT": "1",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    from tests.flags import quick_flags

    os.environ["XLA_FLAGS"] = quick_flags()
    for name in ("jax", "optax", "flax.struct", "scipy.optimize", "pytest"):
        importlib.import_module(name)  # once for all forks

    for module in args.modules or TESTS:
        tests = [f"tests/{name}.py" for name in TESTS[module].split()]
        path = copy / "jax_lbfgs_pi" / f"{module}.py"
        code, kept = path.read_text(), out / f"{module.replace('/', '_')}.jsonl"
        done = [json.loads(x) for x in kept.read_text().splitlines()] if kept.exists() else []
        todo = list(enumerate(mutants(code)))
        if args.sample and args.sample < len(todo):
            todo = sorted(random.Random(0).sample(todo, args.sample), key=lambda x: x[0])
        if (why := first_failure(tests, out / "log")) is not None:
            raise SystemExit(f"{module}: {why} fails as the code stands; see {out / 'log'}.")
        known = {row["i"] for row in done}
        for i, mutant in track(todo, module):
            if i not in known:
                path.write_text(mutant.pop("code"))
                done.append({"i": i, **mutant, "by": first_failure(tests, out / "log")})
                with kept.open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")
        path.write_text(code)
        alive = [row for row in done if row["by"] is None]
        print(f"{module}: {len(done) - len(alive)} of {len(done)} noticed; not noticed:")
        for row in alive:
            print(f"  line {row['line']}:", *(x.strip() for x in row["diff"] if x[:2] != "@@"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
