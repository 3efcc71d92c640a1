"""Networks in files: a description ``NAME.json``, and the safetensors files that it names.

    {
      "architecture": "vgg16",
      "weights": {"file": "vgg16.safetensors", "sha256": "…"},
      "mean": [0.485, 0.456, 0.406],
      "std": [0.229, 0.224, 0.225],
      "lpips": {"file": "lpips.safetensors", "sha256": "…", "layers": ["relu1_2", …]}
    }

Instead of the name of an architecture, the list of its modules may be given.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as parse
from safetensors.numpy import save_file

from lossd.errors import ServiceError
from lossd.networks._architectures import ARCHITECTURES
from lossd.networks._modules import AveragePool, Convolution, Fire, MaxPool, Module, Rectifier
from lossd.networks._network import Heads, Host, Network, weights_of

OWN = "sequential"  # the name of an architecture that is given as a list

_MODULES: Mapping[str, type[Module]] = MappingProxyType(
    {
        "average_pool": AveragePool,
        "convolution": Convolution,
        "fire": Fire,
        "max_pool": MaxPool,
        "rectifier": Rectifier,
    }
)


class NetworkError(ServiceError):
    """A network's file is missing, damaged, or breaks a rule; the message names it."""

    reason = "NETWORK"


def load(directory: str | Path) -> Mapping[str, Network]:
    """Returns the networks of a directory, by name: one for each ``NAME.json``.

    Raises:
        NetworkError: if a file is missing, has another digest than its description says, or breaks
            a rule.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise NetworkError(f"networks must be a directory, got {folder}")
    found = {path.stem: _read(path) for path in sorted(folder.glob("*.json"))}
    return MappingProxyType(found)


def save(directory: str | Path, network: Network) -> None:
    """Writes a network as ``load`` reads it, into a directory that need not be there."""
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    description: dict[str, Any] = {
        "architecture": network.architecture
        if network.architecture in ARCHITECTURES
        else [_written(module) for module in network.modules],
        "weights": _save(folder / f"{network.name}.safetensors", network.weights),
        "mean": network.mean,
        "std": network.std,
    }
    if network.heads is not None:
        weights = {
            _head_key(index): array.reshape(1, -1, 1, 1)
            for index, array in enumerate(network.heads.weights)
        }
        file = _save(folder / f"{network.name}-lpips.safetensors", weights)
        description["lpips"] = {**file, "layers": network.heads.layers}
    (folder / f"{network.name}.json").write_text(json.dumps(description, indent=2) + "\n")


def _save(path: Path, arrays: Mapping[str, Host]) -> dict[str, str]:
    save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, path)
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _head_key(index: int) -> str:
    """Returns the name of a head in the files of LPIPS's authors."""
    return f"lin{index}.model.1.weight"


def _read(path: Path) -> Network:
    try:
        said = json.loads(path.read_bytes())
        _check_keys(said, required=("architecture", "weights", "mean", "std"), optional=("lpips",))
        name, modules = _architecture(said["architecture"])
        weights, digest = _tensors(path, said["weights"], required=("file", "sha256"))
        return Network(
            name=path.stem,
            architecture=name,
            modules=modules,
            weights=_needed(weights, modules),
            mean=_numbers("mean", said["mean"]),
            std=_positive("std", said["std"], len(said["mean"])),
            heads=_heads(path, said["lpips"]) if "lpips" in said else None,
            sha256=digest,
        )
    except (OSError, ValueError, TypeError) as error:  # JSON's errors are ValueErrors
        raise NetworkError(f"network {path} must be usable: {error}") from error


def _check_keys(said: Any, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    if not isinstance(said, dict):
        raise ValueError(f"a description must be an object, got {type(said).__name__}")  # noqa: TRY004 - all faults alike
    for key in required:
        if key not in said:
            raise ValueError(f"{key} must be given, got {', '.join(said) or 'nothing'}")
    for key in said:
        if key not in required + optional:
            raise ValueError(f"keys must be of {', '.join(required + optional)}, got {key}")


def _architecture(said: Any) -> tuple[str, tuple[Module, ...]]:
    if isinstance(said, list):
        modules = tuple(map(_module, said))
        names = [module.name for module in modules]
        if not modules or len(set(names)) < len(names):
            raise ValueError(f"modules must be one or more of different names, got {names}")
        return OWN, modules
    if said not in ARCHITECTURES:
        raise ValueError(
            f"architecture must be a list of modules or one of {', '.join(ARCHITECTURES)}, "
            f"got {said!r}"
        )
    return said, ARCHITECTURES[said]()


def _module(said: Any) -> Module:
    """Returns a module; its sizes are integers of at least 1, the padding of at least 0."""
    _check_keys(said, ("type", "name"), ("kernel", "stride", "padding", "ceil"))
    kind = _MODULES.get(said["type"])
    if kind is None:
        raise ValueError(f"type must be one of {', '.join(_MODULES)}, got {said['type']!r}")
    sizes = {key: value for key, value in said.items() if key not in ("type", "name")}
    for key, value in sizes.items():
        if key == "ceil" and isinstance(value, bool):
            continue
        if type(value) is not int or not (key != "padding") <= value <= 1 << 10:
            raise ValueError(f"{key} must be a whole number of the module, got {value!r}")
    return kind(str(said["name"]), **sizes)


def _written(module: Module) -> dict[str, Any]:
    kind = next(name for name, kind in _MODULES.items() if isinstance(module, kind))
    return {"type": kind, **dataclasses.asdict(module)}


def _tensors(
    description: Path, said: Any, required: tuple[str, ...]
) -> tuple[dict[str, Host], str]:
    """Returns the arrays of a file beside the description, and its digest, which is checked."""
    _check_keys(said, required)
    path = description.parent / str(said["file"])
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != said["sha256"]:
        raise ValueError(f"{path} must have the sha256 {said['sha256']}, got {digest}")
    try:
        return parse(data), digest
    except SafetensorError as error:
        raise ValueError(f"{path} must be a safetensors file: {error}") from error
    except KeyError as error:
        raise ValueError(f"{path} must hold types that NumPy has, got {error.args[0]}") from error


def _needed(weights: Mapping[str, Host], modules: tuple[Module, ...]) -> dict[str, Host]:
    """Returns the weights that the modules need; a file may hold a classifier too."""
    found: dict[str, Host] = {}
    for index, module in enumerate(modules):
        own = weights_of(weights, index, module)
        for name, array in own.items():
            key = f"features.{index}.{name}"
            found[key] = _floats(key, array)
    return found


def _floats(name: str, array: Host) -> Host:
    """Returns at least float32: half precision is widened."""
    if np.iscomplexobj(array):
        raise ValueError(f"{name} must be real numbers, got {array.dtype.name}")
    return np.ascontiguousarray(array, np.float64 if array.dtype == np.float64 else np.float32)


def _heads(description: Path, said: Any) -> Heads:
    arrays, _ = _tensors(description, said, required=("file", "sha256", "layers"))
    layers = tuple(map(str, said["layers"]))
    keys = tuple(map(_head_key, range(len(layers))))
    for key in keys:
        if key not in arrays:
            raise ValueError(f"{key} must be in {said['file']}, got nothing")
    return Heads(layers, tuple(_floats(key, arrays[key]).reshape(-1) for key in keys))


def _numbers(name: str, said: Any) -> tuple[float, ...]:
    numbers = tuple(float(number) for number in said)
    if not numbers or not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be finite numbers, one a channel, got {said}")
    return numbers


def _positive(name: str, said: Any, count: int) -> tuple[float, ...]:
    numbers = _numbers(name, said)
    if len(numbers) != count or min(numbers) <= 0:
        raise ValueError(f"{name} must be {count} positive numbers, got {said}")
    return numbers
