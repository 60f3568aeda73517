"""Policies as files.

A policy file is a safetensors file: the parameters, and as metadata the network's attributes and a
checksum. Nothing in it is ever executed.
"""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from jax_lbfgs_pi.files import write_atomically
from jax_lbfgs_pi.policy import (
    General,
    Policy,
    Rule,
    StepPolicy,
    StepSizePolicy,
    default_float,
    init_policy,
    layers,
)

SUFFIX = ".safetensors"
_FORMAT = "jax_lbfgs_pi.policy.v1"

Saved = Policy | General | Rule
"""The policies that can be written to a file."""


class PolicyFileError(ValueError):
    """A policy file that is truncated, altered, or no policy file at all."""


def _attributes(network: StepSizePolicy) -> dict[str, Any]:
    names = (field.name for field in dataclasses.fields(network))
    return {name: getattr(network, name) for name in names if name not in ("name", "parent")}


def _digest(tensors: dict[str, np.ndarray], network: str) -> str:
    digest = hashlib.sha256(network.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tensor.dtype}{tensor.shape}".encode() + tensor.tobytes())
    return digest.hexdigest()


def policy_digest(policy: Saved) -> str:
    """A checksum of a policy's parameters and network: equal for equal policies alone."""
    tensors, network = _contents(policy)
    return _digest(tensors, network)


def _contents(policy: Saved) -> tuple[dict[str, np.ndarray], str]:
    if isinstance(policy, Policy):
        params = policy.params
        attributes = _attributes(policy.with_clip_layer("clip").network)
    elif isinstance(policy, General):
        params = policy.params
        attributes = {"base": _described(policy.base), "answers": list(policy.answers)}
    else:
        params, attributes = {}, _described(policy)
    flat = traverse_util.flatten_dict(params, sep="/")
    tensors = {name: np.asarray(value, order="C") for name, value in flat.items()}
    return tensors, json.dumps(attributes, sort_keys=True)


def _described(policy: StepPolicy) -> dict[str, Any]:
    if not isinstance(policy, Rule):
        raise TypeError(
            f"Only a learned policy that is based on a Rule has a file format, but this one is "
            f"based on a {type(policy).__name__}."
        )
    names = (field.name for field in dataclasses.fields(policy))
    settings = {name: getattr(policy, name) for name in names}
    as_is = (str, type(None))
    return {"rule": {k: x if isinstance(x, as_is) else float(x) for k, x in settings.items()}}


def save_policy(policy: Saved, path: str | os.PathLike[str]) -> Path:
    """Writes a policy to a safetensors file, atomically.

    Args:
      policy: the policy; its clip is saved as `clip`, the deployed form.
      path: where to; the suffix `.safetensors` is added if missing.

    Returns:
      The path written.

    Raises:
      TypeError: if `policy` is none that has a file format.
      IsADirectoryError: if `path` is a folder, or ends as one does.
    """
    if not isinstance(policy, Saved):
        raise TypeError(
            f"save_policy saves a Policy, a General or a Rule, but got a {type(policy).__name__}."
        )
    tensors, network = _contents(policy)
    header = {"format": _FORMAT, "network": network, "sha256": _digest(tensors, network)}
    # One entry: safetensors writes several in no fixed order, and equal policies should be equal
    # files.
    metadata = {"policy": json.dumps(header, sort_keys=True)}
    if os.fspath(path).endswith(("/", os.sep)) or Path(path).is_dir():
        raise IsADirectoryError(f"Name a file in the folder {os.fspath(path)!r} for the policy.")
    path = Path(path)
    if path.suffix != SUFFIX:
        path = path.with_name(path.name + SUFFIX)
    write_atomically(path, save(tensors, metadata))
    return path


def read_policy(path: Path) -> Saved:
    """What `save_policy` wrote, in the default float dtype.

    Raises:
      PolicyFileError: if the file is truncated, altered, or not a policy.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {}).get("policy", "{}"))
            if not isinstance(metadata, dict):
                metadata = {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise PolicyFileError(
            f"The policy file {path.name!r} is truncated or not a safetensors file: save it again."
        ) from error
    if metadata.get("format") != _FORMAT:
        raise PolicyFileError(
            f"The file {path.name!r} is not a policy of format {_FORMAT!r}: write it with "
            f"save_policy."
        )
    network = metadata.get("network", "")
    if metadata.get("sha256") != _digest(tensors, network):
        raise PolicyFileError(
            f"The policy file {path.name!r} was altered since it was saved (its checksum differs): "
            f"save it again."
        )
    # NumPy, not JAX: a policy loaded while a function is traced must not hold its tracers.
    flat = {key: np.asarray(value, default_float()) for key, value in tensors.items()}
    try:
        return _build(traverse_util.unflatten_dict(flat, sep="/"), json.loads(network))
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise PolicyFileError(
            f"The policy file {path.name!r} does not hold what a policy is made of: write it with "
            f"save_policy."
        ) from error


def _rule(settings: dict[str, Any]) -> Rule:
    if set(settings) != {field.name for field in dataclasses.fields(Rule)}:
        raise ValueError("the rule's settings are not all there")
    for name, x in settings.items():
        may_be = (str,) if name in ("update", "start") else (int, float)
        if type(x) not in may_be and (name, x) != ("num_pairs", None):
            raise ValueError("the rule's settings are no numbers")
    return Rule(**settings)


def _build(params: Any, attributes: dict[str, Any]) -> Saved:
    if not isinstance(attributes, dict):
        raise ValueError("the attributes are no dictionary")
    if "rule" in attributes:
        return _rule(attributes["rule"])
    if "base" in attributes:
        base, answers = _rule(attributes["base"]["rule"]), tuple(attributes["answers"])
        policy = General(params=params, base=base, answers=answers)
        sizes = layers(answers).items()
        shapes = {name: {"kernel": size, "bias": size[1:]} for name, size in sizes}
    else:
        policy = Policy(params=params, network=StepSizePolicy(**attributes))
        like = jax.eval_shape(lambda: init_policy(jax.random.key(0), **attributes).params)
        shapes = jax.tree.map(lambda leaf: leaf.shape, like)
    if jax.tree.map(lambda leaf: leaf.shape, params) != shapes:
        raise ValueError("the weights are not those of the network")
    return policy
