"""Policies on disk: the shipped ones, and yours.

Each shipped policy has a card, `NAME.md`, beside its file; `file_format` says what a file holds.
"""

import os
from importlib import resources
from pathlib import Path

from jax_lbfgs_pi.policy import (
    AnyPolicy,
    FromProducts,
    Policy,
    Rule,
    StepPolicy,
    constant_policy,
    cosine_policy,
)
from jax_lbfgs_pi.pretrained.file_format import (
    SUFFIX,
    PolicyFileError,
    Saved,
    policy_digest,
    read_policy,
    save_policy,
)

DEFAULT = "general"
DEFAULT_DENSE = "dense"
"""With a dense H."""
_HAND_SET = {"cosine": cosine_policy, "rule": Rule, "unit": constant_policy}

__all__ = [
    "DEFAULT",
    "DEFAULT_DENSE",
    "PolicyFileError",
    "Saved",
    "as_policy",
    "list_policies",
    "load_network",
    "load_policy",
    "policy_card",
    "policy_digest",
    "save_policy",
]


def load_policy(name: str | os.PathLike[str]) -> Saved:
    """A shipped policy by its name, or any policy by the path of its file.

    Args:
      name: one of `list_policies()`, or a path that `save_policy` wrote.

    Returns:
      The policy, in the default float dtype (float64 if x64 is enabled).

    Raises:
      TypeError: if `name` is no name.
      ValueError: if `name` is neither a shipped policy nor an existing file.
      PolicyFileError: if the file is truncated, altered, or not a policy.
    """
    if not isinstance(name, str | os.PathLike):
        raise TypeError(
            f"load_policy takes a name, such as 'general', or a path, but got {name!r}."
        )
    if name in _HAND_SET:
        return _HAND_SET[str(name)]()
    shipped = _folder() / f"{name}{SUFFIX}"
    path = shipped if str(name) in list_policies() else Path(name)
    if path.name and path.suffix != SUFFIX and not path.is_file():
        path = path.with_name(path.name + SUFFIX)  # as `save_policy` writes it
    if not path.is_file():
        raise ValueError(
            f"Unknown policy {str(name)!r}: give the path of a policy file, or one of "
            f"{', '.join(list_policies())}."
        )
    return read_policy(path)


def load_network(name: str | os.PathLike[str]) -> Policy:
    """`load_policy`, for a policy that is a network of the paper's form.

    Raises:
      ValueError: if it is not, and as `load_policy`.
    """
    policy = load_policy(name)
    if not isinstance(policy, Policy):
        raise ValueError(
            f"The policy {str(name)!r} is no network of the paper's form, which is needed here: "
            f"choose another."
        )
    return policy


def _folder() -> Path:
    return Path(str(resources.files(__name__)))


def list_policies() -> list[str]:
    """The names of the shipped policies, sorted."""
    return sorted([*_HAND_SET, *(path.stem for path in _folder().glob(f"*{SUFFIX}"))])


def policy_card(name: str) -> str:
    """The card of a shipped policy, in Markdown: what it was trained on, how, and its results.

    Raises:
      ValueError: if no policy of that name is shipped.
    """
    if name not in list_policies():
        raise ValueError(f"Unknown policy {name!r}: choose one of {', '.join(list_policies())}.")
    return (_folder() / f"{name}.md").read_text()


def as_policy(policy: AnyPolicy) -> StepPolicy:
    """The `StepPolicy` that is meant: by itself, by its name, by its function, or by None.

    Raises:
      ValueError: for the name of no shipped policy.
      TypeError: for anything else.
    """
    if policy is None:
        policy = DEFAULT
    if isinstance(policy, str | os.PathLike):
        policy = load_policy(policy)
    if isinstance(policy, StepPolicy) and not isinstance(policy, type):
        return policy
    if callable(policy) and not isinstance(policy, type):
        return FromProducts(policy)
    kind = "class" if isinstance(policy, type) else type(policy).__name__
    raise TypeError(
        f"A policy is a StepPolicy, a function of InnerProducts, the name of a shipped one, or "
        f"None, but got {policy!r}, a {kind}."
    )
