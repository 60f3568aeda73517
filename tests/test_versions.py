"""The commit that a result was made with."""

import shutil
import subprocess
from pathlib import Path

import pytest

from jax_lbfgs_pi import versions as module
from jax_lbfgs_pi.versions import versions


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with a package in it that has one commit, and how to call git there."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))

    def git(*args):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        argv = ["git", "-C", str(tmp_path / "clone"), *who, *args]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    package = tmp_path / "clone" / "package"
    package.mkdir(parents=True)
    (package / "versions.py").write_text("")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(module, "__file__", str(package / "versions.py"))
    versions.cache_clear()
    yield tmp_path / "clone", git
    versions.cache_clear()


def test_the_commit_is_the_packages_last(clone):
    folder, git = clone
    first = git("rev-parse", "HEAD")
    assert versions()["commit"] == first
    (folder / "notes").write_text("beside the package")
    git("add", ".")
    git("commit", "-m", "second")
    assert git("rev-parse", "HEAD") != first
    versions.cache_clear()
    assert versions()["commit"] == first


def test_changes_that_are_in_no_commit_are_told(clone):
    folder, git = clone
    (folder / "package" / "versions.py").write_text("changed")
    assert versions()["commit"] == git("rev-parse", "HEAD") + " with changes"


def test_a_clone_of_something_else_is_not_asked(clone, monkeypatch):
    """As where the package is installed into an environment inside a project."""
    folder, _ = clone
    (folder / "venv").mkdir()
    monkeypatch.setattr(module, "__file__", str(folder / "venv" / "versions.py"))
    assert "commit" not in versions()


def test_no_clone_and_no_git_have_no_commit(clone, monkeypatch):
    folder, _ = clone
    monkeypatch.setattr(module, "__file__", str(folder.parent / "versions.py"))
    assert "commit" not in versions()
    versions.cache_clear()
    monkeypatch.setenv("PATH", str(Path(folder, "nothing")))
    assert set(versions()) == {"python", *module.PACKAGES}
